package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// plan is what would be done for each item of a manifest.
type plan struct {
	Items   []json.RawMessage `json:"items"`
	Summary json.RawMessage   `json:"summary"`
}

type plannedItem struct {
	Index  int          `json:"index"`
	ID     string       `json:"id"`
	Src    plannedPlace `json:"src"`
	Dest   plannedPlace `json:"dest"`
	Action string       `json:"action"`

	Problems []struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"problems"`
}

// plannedPlace is one side of a planned item. What else the API tells of it is shown with --json.
type plannedPlace struct {
	Location string `json:"location"`
	Size     *int64 `json:"size"`
}

const actionFail = "fail"

// print tells the plan. An item that would fail makes the exit code that a batch with a failed item has.
func (p *plan) print(env *environment) error {
	t := &table{header: []string{"ITEM", "ID", "ACTION", "SIZE", "FROM", "TO", "PROBLEMS"}, right: map[int]bool{0: true, 3: true}}
	t.paint = terminalOf(env.stdout).statePaint(2)
	failing := 0
	for _, raw := range p.Items {
		var it plannedItem
		if err := json.Unmarshal(raw, &it); err != nil {
			return notPromised(err)
		}
		if it.Action == actionFail {
			failing++
		}
		if env.json {
			if err := printJSON(env, raw); err != nil {
				return err
			}
			continue
		}
		bytes := "?"
		if it.Src.Size != nil {
			bytes = size(*it.Src.Size)
		}
		t.add(strconv.Itoa(it.Index), it.ID, it.Action, bytes, it.Src.Location, it.Dest.Location, it.troubles())
	}
	if err := p.end(env, t, failing); err != nil {
		return err
	}
	if failing > 0 {
		return exitWith(exitFailed, "%s of %s items would fail", number(failing), number(len(p.Items)))
	}
	return nil
}

func (p *plan) end(env *environment, t *table, failing int) error {
	if env.json {
		return printJSON(env, p.Summary)
	}
	if err := t.write(env.stdout); err != nil {
		return err
	}
	_, err := fmt.Fprintf(env.stdout, "%s items, %s would fail; nothing was copied\n", number(len(p.Items)), number(failing))
	return wrapPrint(err)
}

func (it *plannedItem) troubles() string {
	var parts []string
	for _, p := range it.Problems {
		parts = append(parts, p.Code+": "+p.Message)
	}
	return strings.Join(parts, "; ")
}
