package main

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/copyfleet/copyfleet/protocol"
)

// maxEventFile is how much of a file of events is read; the API takes 1 MiB.
const maxEventFile = 1 << 20

type rulesTestCmd struct {
	clientFlags
	Event string   `arg:"" help:"A file with an event as JSON: a notification of S3, a CloudEvent, or a list of CloudEvents; - is the standard input." completion:"file"`
	Rules []string `help:"Try the rules of this file instead of those of the org. May be repeated." placeholder:"FILE" sep:"none"`
}

// tested is what one rule would make of one event.
type tested struct {
	Event   string `json:"event"`
	Rule    string `json:"rule"`
	Matches bool   `json:"matches"`
	Copy    *struct {
		Src  protocol.Location `json:"src"`
		Dest protocol.Location `json:"dest"`
	} `json:"copy"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Run tries. A copy that would be refused makes the exit code that a failed item has.
func (c *rulesTestCmd) Run(ctx context.Context, env *environment) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	if c.Event == "-" && slices.Contains(c.Rules, "-") {
		return errStdinTwice
	}
	event, err := readEvent(c.Event, env)
	if err != nil {
		return err
	}
	body, files := map[string]any{"event": json.RawMessage(event)}, &ruleFiles{}
	if len(c.Rules) > 0 {
		if files, err = readRules(c.Rules, env.stdin); err != nil {
			return err
		}
		body["rules"] = string(files.text)
	}
	var answer struct {
		Results []json.RawMessage `json:"results"`
	}
	if _, err := api.call(ctx, http.MethodPost, rulesPath+"/test", nil, body, &answer); err != nil {
		if len(files.names) > 0 {
			return files.explain(err)
		}
		return err
	}
	return printTested(env, answer.Results)
}

// readEvent reads JSON.
func readEvent(name string, env *environment) ([]byte, error) {
	data, err := readInput("the event", name, env.stdin, maxEventFile)
	if err != nil {
		return nil, err
	}
	if !json.Valid(data) {
		return nil, exitWith(exitUsage, "the event: %s: is not JSON", shownFile(name))
	}
	return data, nil
}

func printTested(env *environment, results []json.RawMessage) error {
	copies, refusals, l, before := 0, 0, &lines{}, ""
	for _, raw := range results {
		var t tested
		if err := json.Unmarshal(raw, &t); err != nil {
			return notPromised(err)
		}
		if t.Copy != nil {
			copies++
		} else if t.Code != "" {
			refusals++
		}
		if env.json {
			if err := printJSON(env, raw); err != nil {
				return err
			}
			continue
		}
		if t.Event != before {
			l.line(t.Event)
			before = t.Event
		}
		l.line("  " + t.Rule + ": " + t.says())
	}
	if env.json {
		if err := printJSON(env, map[string]int{"count": len(results), "copies": copies, "refused": refusals}); err != nil {
			return err
		}
	} else {
		if len(results) == 0 {
			l.line("no rule, or no event: nothing to try")
		}
		l.line(several(copies, "copy", "copies") + " would be made; nothing was copied")
		if err := l.write(env.stdout); err != nil {
			return err
		}
	}
	if refusals > 0 {
		return exitWith(exitFailed, "%s would be refused", several(refusals, "copy", "copies"))
	}
	return nil
}

func (t *tested) says() string {
	switch {
	case t.Copy != nil:
		return t.Copy.Src.Redacted() + " -> " + t.Copy.Dest.Redacted()
	case t.Code != "":
		return strings.TrimSuffix("refused: "+t.Code+": "+t.Message, ": ")
	case t.Matches:
		return "matches"
	}
	return "does not match"
}
