package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/producer/triggers"
)

// rulesCmd looks after the rules by which copies follow from events.
type rulesCmd struct {
	Apply  rulesApplyCmd  `cmd:"" help:"Make the rules of one or more files those of the org, all or none. Rules that the files do not name stay as they are."`
	List   rulesListCmd   `cmd:"" help:"List the rules, with what became of their events."`
	Show   rulesShowCmd   `cmd:"" help:"Show a rule, what became of its events, and why not all were copied."`
	Delete rulesDeleteCmd `cmd:"" help:"Delete a rule. Copies that it asked for go on."`
	Test   rulesTestCmd   `cmd:"" help:"Show which rules an event matches and what they would copy. Nothing is copied."`
	Sweep  rulesSweepCmd  `cmd:"" help:"Look in the bucket of a rule for objects that no event told of, and have them copied."`
}

type rulesApplyCmd struct {
	clientFlags
	Files []string `arg:"" help:"Files of rules, YAML or JSON, each with one or more documents; - is the standard input." name:"file" completion:"file"`
}

// rule is a rule as the API shows it.
type rule = triggers.View

const rulesPath = "/v1/rules"

func rulePath(name string) string { return rulesPath + "/" + url.PathEscape(name) }

// Run applies.
func (c *rulesApplyCmd) Run(ctx context.Context, env *environment) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	files, err := readRules(c.Files, env.stdin)
	if err != nil {
		return err
	}
	var answer struct {
		Rules []json.RawMessage `json:"rules"`
	}
	header := http.Header{"Content-Type": {"application/yaml"}}
	if _, err := api.callText(ctx, http.MethodPost, rulesPath, header, files.text, &answer); err != nil {
		return files.explain(err)
	}
	t := &table{Header: []string{"RULE", "VERSION", "CHANGE"}, Right: map[int]bool{1: true}}
	return printList(env, t, answer.Rules, "rules", func(applied triggers.Applied) {
		t.Add(applied.Name, strconv.Itoa(applied.Version), applied.Change)
	})
}

// printList prints entries as they came, or as the rows that row adds to the table.
func printList[T any](env *environment, t *table, entries []json.RawMessage, what string, row func(T)) error {
	for _, raw := range entries {
		if env.json {
			if err := printJSON(env, raw); err != nil {
				return err
			}
			continue
		}
		var entry T
		if err := json.Unmarshal(raw, &entry); err != nil {
			return notPromised(err)
		}
		row(entry)
	}
	return listed(env, t, len(entries), "", what)
}

type rulesListCmd struct {
	clientFlags
}

// Run lists.
func (c *rulesListCmd) Run(ctx context.Context, env *environment) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	var answer struct {
		Rules []json.RawMessage `json:"rules"`
	}
	if err := api.get(ctx, rulesPath, nil, &answer); err != nil {
		return err
	}
	now := time.Now()
	t := &table{
		Header: []string{"RULE", "VERSION", "MATCHED", "COPIES", "REPEATED", "LOOPS", "REFUSED", "WAITING", "CHANGED"},
		Right:  map[int]bool{1: true, 2: true, 3: true, 4: true, 5: true, 6: true, 7: true},
	}
	return printList(env, t, answer.Rules, "rules", func(r rule) {
		n := &r.Counts
		t.Add(r.Name, strconv.Itoa(r.Version), number(n.Matched), number(n.Copies), number(n.Duplicates+n.Superseded), number(n.Loops),
			number(n.Refused), number(n.Waiting), ago(r.Updated, now))
	})
}

type rulesShowCmd struct {
	clientFlags
	Name     string `arg:"" help:"The rule. NAME@3 is its version 3; the last 20 versions are kept." name:"name[@version]"`
	Document bool   `help:"Print only the document, as it was applied."`
}

// Run shows.
func (c *rulesShowCmd) Run(ctx context.Context, env *environment) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	name, version, given := strings.Cut(c.Name, "@")
	query := url.Values{}
	if given {
		if n, err := strconv.Atoi(version); err != nil || n < 1 {
			return exitWith(exitUsage, "%s: a version is a number, from 1", c.Name)
		}
		query.Set("version", version)
	}
	var raw json.RawMessage
	if err := api.get(ctx, rulePath(name), query, &raw); err != nil {
		return err
	}
	if env.json {
		return printJSON(env, raw)
	}
	var r rule
	if err := json.Unmarshal(raw, &r); err != nil {
		return notPromised(err)
	}
	if c.Document {
		return printf(env, "%s", document(r.Document))
	}
	return writeRule(env, &r, time.Now())
}

// document makes a document harmless line by line, so that it stays what it was wherever it was harmless before.
func document(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(clean(strings.TrimRight(line, "\r\n")) + "\n")
	}
	return b.String()
}

// writeRule tells a rule to a person.
func writeRule(env *environment, r *rule, now time.Time) error {
	l := &lines{}
	l.field("rule", r.Name)
	l.field("version", ruleVersion(r))
	l.field("created", ago(r.Created, now))
	if !r.Updated.Equal(r.Created) {
		l.field("changed", ago(r.Updated, now))
	}
	l.field("events", ruleCounts(&r.Counts))
	l.field("batch", r.Batch)
	if r.Sweep != nil {
		l.field("sweep", sweepText(r.Sweep)+", "+ago(r.Sweep.Started, now))
	}
	if len(r.Problems) > 0 {
		l.line("problems:")
	}
	for _, p := range r.Problems {
		l.line(fmt.Sprintf("  %s, %s: %s: %s", ago(p.At, now), p.Event, p.Code, p.Message))
	}
	if err := l.write(env.stdout); err != nil {
		return err
	}
	return printf(env, "\n%s", document(r.Document))
}

// ruleVersion tells the version and the others that can be read.
func ruleVersion(r *rule) string {
	var others []string
	for _, v := range r.Versions {
		if v != r.Version {
			others = append(others, r.Name+"@"+strconv.Itoa(v))
		}
	}
	if len(others) == 0 {
		return strconv.Itoa(r.Version)
	}
	return strconv.Itoa(r.Version) + "; others: " + strings.Join(others, ", ")
}

// ruleCounts tells what became of the events that a rule matched; of what did not happen only the usual.
func ruleCounts(n *triggers.Counts) string {
	copies := several(n.Copies, "copy", "copies")
	if n.Recovered > 0 {
		copies += " (" + number(n.Recovered) + " found by sweeps)"
	}
	parts := []string{copies}
	for _, part := range []struct {
		n    int
		what string
	}{
		{n.Duplicates, "repeated"}, {n.Superseded, "superseded"}, {n.Loops, "in a loop"}, {n.Refused, "refused"}, {n.Waiting, "waiting"},
	} {
		if part.n > 0 {
			parts = append(parts, number(part.n)+" "+part.what)
		}
	}
	return number(n.Matched) + " matched: " + strings.Join(parts, ", ")
}

type rulesDeleteCmd struct {
	clientFlags
	Name string `arg:"" help:"The rule."`
}

// Run deletes.
func (c *rulesDeleteCmd) Run(ctx context.Context, env *environment) error {
	return deleteNamed(ctx, env, c.clientFlags, rulePath(c.Name), c.Name)
}

// deleteNamed deletes what has a name.
func deleteNamed(ctx context.Context, env *environment, flags clientFlags, path, name string) error {
	api, err := flags.client()
	if err != nil {
		return err
	}
	if _, err := api.call(ctx, http.MethodDelete, path, nil, nil, nil); err != nil {
		return err
	}
	if env.json {
		return printJSON(env, map[string]string{"name": name, "result": "deleted"})
	}
	return printf(env, "deleted: %s\n", clean(name))
}
