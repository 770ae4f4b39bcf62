package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"time"
)

// listCmd lists batches.
type listCmd struct {
	clientFlags
	State string `help:"Only batches in this state." enum:"accepting,queued,running,paused,canceling,succeeded,completed_with_errors,failed,canceled," default:"" placeholder:"STATE"`
	Label string `help:"Only batches with this label." placeholder:"TEXT"`
	Rule  string `help:"Only batches of this rule." placeholder:"NAME"`
	Limit int    `help:"Batches to list, at most; 0: all." default:"20" placeholder:"N"`
}

// Validate implements kong's check.
func (c *listCmd) Validate() error { return notNegative("--limit", c.Limit) }

func notNegative(flag string, n int) error {
	if n < 0 {
		return fmt.Errorf("%s %d: must not be negative", flag, n)
	}
	return nil
}

// Run lists, the newest first.
func (c *listCmd) Run(ctx context.Context, env *environment) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	query := url.Values{}
	for name, value := range map[string]string{"state": c.State, "label": c.Label, "rule": c.Rule} {
		if value != "" {
			query.Set(name, value)
		}
	}
	now, term := time.Now(), terminalOf(env.stdout)
	t := &table{
		Header: []string{"BATCH", "STATE", "ITEMS", "FAILED", "BYTES", "CREATED", "LABEL"},
		Right:  map[int]bool{2: true, 3: true, 4: true}, Paint: term.statePaint(1),
	}
	next, n, err := pages(ctx, api, "/v1/batches", query, c.Limit, func(raw json.RawMessage) error {
		if env.json {
			return printJSON(env, raw)
		}
		var b batch
		if err := json.Unmarshal(raw, &b); err != nil {
			return notPromised(err)
		}
		t.Add(b.ID, string(b.State), number(b.Counts.ended())+"/"+number(b.Total), number(b.Counts.Failed), size(b.Bytes), ago(b.CreatedAt, now), b.Label)
		return nil
	})
	if err != nil {
		return err
	}
	return listed(env, t, n, next, "batches")
}

func notPromised(err error) error {
	return exitWith(exitFatal, "the answer is not what the API promises: %w", err)
}

// listed ends a list: with its table, or with the summary of its lines.
func listed(env *environment, t *table, n int, next, what string) error {
	if env.json {
		summary := map[string]any{"count": n}
		if next != "" {
			summary["next_cursor"] = next
		}
		return printJSON(env, summary)
	}
	if n == 0 {
		if _, err := fmt.Fprintf(env.stdout, "no %s\n", what); err != nil || next == "" {
			return wrapPrint(err)
		}
	} else if err := t.Write(env.stdout); err != nil {
		return wrapPrint(err)
	}
	if next == "" {
		return nil
	}
	_, err := fmt.Fprintf(env.stdout, "there are more %s: --limit 0 lists all\n", what)
	return wrapPrint(err)
}

// pageLimit is how many entries a request asks for.
const pageLimit = 200

// pages reads a list page by page, at most limit entries (0: all), and returns the cursor to what is left ("": nothing).
func pages(ctx context.Context, api *client, path string, query url.Values, limit int, each func(json.RawMessage) error) (next string, n int, err error) {
	for {
		ask := pageLimit
		if limit > 0 {
			ask = min(ask, limit-n)
		}
		query.Set("limit", strconv.Itoa(ask))
		var page struct {
			Items      []json.RawMessage `json:"items"`
			NextCursor string            `json:"next_cursor"`
		}
		if err := api.get(ctx, path, query, &page); err != nil {
			return "", n, err
		}
		for _, raw := range page.Items {
			if err := each(raw); err != nil {
				return "", n, err
			}
			n++
		}
		if page.NextCursor == "" || limit > 0 && n >= limit {
			return page.NextCursor, n, nil
		}
		query.Set("cursor", page.NextCursor)
	}
}
