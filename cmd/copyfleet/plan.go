package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/copyfleet/copyfleet/protocol"
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

	Problems []protocol.PlanProblem `json:"problems"`
}

// planSummary counts the items by what would be done.
type planSummary struct {
	Total     int   `json:"total"`
	Copy      int   `json:"copy"`
	Overwrite int   `json:"overwrite"`
	Fail      int   `json:"fail"`
	Unknown   int   `json:"unknown"`
	Skip      int   `json:"skip"`
	Compare   int   `json:"if_different"`
	Bytes     int64 `json:"bytes"`
	NoSize    int   `json:"unknown_sizes"`
}

// plannedPlace is one side of a planned item. What else the API tells of it is shown with --json.
type plannedPlace struct {
	Location string `json:"location"`
	Size     *int64 `json:"size"`
}

// print tells the plan. An item that would fail makes the exit code that a batch with a failed item has.
func (p *plan) print(env *environment) error {
	var sum planSummary
	if err := json.Unmarshal(p.Summary, &sum); err != nil {
		return notPromised(err)
	}
	err := p.json(env)
	if !env.json {
		err = p.text(env, &sum)
	}
	switch {
	case err != nil:
		return err
	case sum.Fail > 0:
		return exitWith(exitFailed, "%s of %s items would fail", number(sum.Fail), number(sum.Total))
	case sum.Unknown > 0:
		return exitWith(exitTemporary, "there was no time to look at %s of %s items", number(sum.Unknown), number(sum.Total))
	}
	return nil
}

func (p *plan) json(env *environment) error {
	if !env.json {
		return nil
	}
	for _, raw := range append(p.Items, p.Summary) {
		if err := printJSON(env, raw); err != nil {
			return err
		}
	}
	return nil
}

func (p *plan) text(env *environment, sum *planSummary) error {
	t := &table{
		Header: []string{"ITEM", "ID", "ACTION", "SIZE", "FROM", "TO", "PROBLEMS"},
		Right:  map[int]bool{0: true, 3: true}, Paint: terminalOf(env.stdout).statePaint(2),
	}
	for _, raw := range p.Items {
		var it plannedItem
		if err := json.Unmarshal(raw, &it); err != nil {
			return notPromised(err)
		}
		bytes := "?"
		if it.Src.Size != nil {
			bytes = size(*it.Src.Size)
		}
		t.Add(strconv.Itoa(it.Index), it.ID, it.Action, bytes, it.Src.Location, it.Dest.Location, it.troubles())
	}
	if err := t.Write(env.stdout); err != nil {
		return wrapPrint(err)
	}
	text := fmt.Sprintf("%s: %s copy, %s overwrite, %s fail", several(sum.Total, "item", "items"), number(sum.Copy), number(sum.Overwrite), number(sum.Fail))
	if sum.Skip > 0 {
		text += fmt.Sprintf(", %s skip", number(sum.Skip))
	}
	if sum.Compare > 0 {
		text += fmt.Sprintf(", %s if different", number(sum.Compare))
	}
	if sum.Unknown > 0 {
		text += fmt.Sprintf(", %s unknown", number(sum.Unknown))
	}
	text += "; " + size(sum.Bytes)
	if sum.NoSize > 0 {
		text += fmt.Sprintf(" and %s of unknown size", several(sum.NoSize, "item", "items"))
	}
	_, err := fmt.Fprintln(env.stdout, text+"; nothing was copied")
	return wrapPrint(err)
}

func (it *plannedItem) troubles() string {
	var parts []string
	for _, p := range it.Problems {
		text := p.Code + ": " + p.Message
		if p.Severity != protocol.PlanError {
			text = string(p.Severity) + " " + text
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "; ")
}
