package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// showCmd tells what is known of a batch.
type showCmd struct {
	clientFlags
	filterFlags
	Batch   string `arg:"" help:"The batch."`
	Items   bool   `help:"List its items as well."`
	Item    string `help:"Show one item with all its attempts." placeholder:"INDEX"`
	State   string `help:"Only items in this state." enum:"queued,running,retrying,succeeded,failed,canceled,skipped," default:"" placeholder:"STATE"`
	Webhook bool   `help:"Show how the notice of the end was delivered."`
	Limit   int    `help:"Items to list, at most; 0: all." default:"100" placeholder:"N"`
}

// Validate implements kong's check.
func (c *showCmd) Validate() error {
	if c.Item != "" {
		if n, err := strconv.Atoi(c.Item); err != nil || n < 0 {
			return fmt.Errorf("--item %s: must be the index of an item, from 0", c.Item)
		}
	}
	return notNegative("--limit", c.Limit)
}

// item is an item as the API shows it.
type item struct {
	protocol.Receipt

	Src     string `json:"src"`
	Dest    string `json:"dest"`
	Waiting *struct {
		Reason string    `json:"reason"`
		Until  time.Time `json:"until"`
		Behind int       `json:"behind"`
	} `json:"waiting"`
	Progress *struct {
		Bytes int64  `json:"bytes"`
		Size  *int64 `json:"size"`
	} `json:"progress"`
}

// Run shows.
func (c *showCmd) Run(ctx context.Context, env *environment) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	if c.Item != "" {
		return c.showItem(ctx, env, api)
	}
	if c.Webhook {
		return c.showWebhook(ctx, env, api)
	}
	var b batch
	if err := api.get(ctx, batchPath(c.Batch), nil, &b); err != nil {
		return err
	}
	if !c.Items && c.State == "" && len(c.query()) == 0 {
		if env.json {
			return printJSON(env, &b)
		}
		return b.write(env.stdout, terminalOf(env.stdout), time.Now())
	}
	return c.showItems(ctx, env, api, &b)
}

// showItems tells a batch and its items; with --json the batch comes last.
func (c *showCmd) showItems(ctx context.Context, env *environment, api *client, b *batch) error {
	query := c.query()
	if c.State != "" {
		query.Set("state", c.State)
	}
	if !env.json {
		if err := b.write(env.stdout, terminalOf(env.stdout), time.Now()); err != nil {
			return err
		}
		if err := printf(env, "\n"); err != nil {
			return err
		}
	}
	t := newItemTable(env)
	next, n, err := pages(ctx, api, batchPath(c.Batch, "items"), query, c.Limit, func(raw json.RawMessage) error {
		if env.json {
			return printJSON(env, raw)
		}
		return t.item(raw)
	})
	switch {
	case err != nil:
		return err
	case env.json:
		return printJSON(env, b)
	}
	return listed(env, t.table, n, next, "items")
}

// itemTable lists items.
type itemTable struct {
	*table

	now time.Time
}

func newItemTable(env *environment) itemTable {
	return itemTable{&table{
		Header: []string{"ITEM", "ID", "STATE", "BYTES", "TRIES", "FROM", "TO", "WHY"},
		Right:  map[int]bool{0: true, 3: true, 4: true}, Paint: terminalOf(env.stdout).statePaint(2),
	}, time.Now()}
}

func (t itemTable) item(raw json.RawMessage) error {
	var it item
	if err := json.Unmarshal(raw, &it); err != nil {
		return notPromised(err)
	}
	t.Add(strconv.Itoa(it.Index), it.ID, string(it.State), it.moved(), strconv.Itoa(len(it.Attempts)), it.Src, it.Dest, it.why(t.now))
	return nil
}

// moved tells how many bytes an item has, or how far it is.
func (it *item) moved() string {
	switch {
	case it.Progress == nil:
		return size(it.Bytes)
	case it.Progress.Size == nil:
		return size(it.Progress.Bytes)
	}
	return size(it.Progress.Bytes) + " of " + size(*it.Progress.Size)
}

// skipReasons say why nothing was copied.
var skipReasons = map[string]string{
	protocol.SkipExists: "the destination exists",
	protocol.SkipSame:   "the destination is the same already",
}

// why tells why an item failed or was skipped, or what it waits for.
func (it *item) why(now time.Time) string {
	text := ""
	if it.Failure != nil {
		text = fmt.Sprintf("%s/%s: %s", it.Failure.Class, it.Failure.Code, it.Failure.Message)
	}
	if reason, known := skipReasons[it.SkipReason]; known {
		text = reason
	} else if it.SkipReason != "" {
		text = it.SkipReason
	}
	if it.Waiting == nil {
		return text
	}
	wait := "waits: " + it.Waiting.Reason
	if it.Waiting.Behind > 0 {
		wait += " " + number(it.Waiting.Behind) + " items"
	}
	if !it.Waiting.Until.IsZero() {
		wait += ", due " + ago(it.Waiting.Until, now)
	}
	if text != "" {
		wait += "; " + text
	}
	return wait
}

func (c *showCmd) showItem(ctx context.Context, env *environment, api *client) error {
	var raw json.RawMessage
	if err := api.get(ctx, batchPath(c.Batch, "items", c.Item), nil, &raw); err != nil {
		return err
	}
	if env.json {
		return printJSON(env, raw)
	}
	var it item
	if err := json.Unmarshal(raw, &it); err != nil {
		return notPromised(err)
	}
	return it.write(env, time.Now())
}

// write tells an item to a person.
func (it *item) write(env *environment, now time.Time) error {
	l := &lines{}
	l.field("item", strconv.Itoa(it.Index))
	l.field("id", it.ID)
	l.painted("state", terminalOf(env.stdout).paint(stateColor(string(it.State)), clean(string(it.State))))
	l.field("from", it.Src)
	l.field("to", it.Dest)
	verified := ""
	if it.Verified {
		verified = ", verified"
	}
	l.field("bytes", it.moved()+verified)
	l.field("sha256", it.SHA256)
	l.field("etag", it.ETag)
	if it.Status > 0 {
		l.field("status", strconv.Itoa(it.Status))
	}
	l.field("why", it.why(now))
	if it.Failure != nil {
		l.field("cause", it.Failure.Cause)
		l.field("hint", it.Failure.Hint)
		if it.Failure.Part > 0 {
			l.field("part", strconv.Itoa(it.Failure.Part))
		}
	}
	if it.Method != "" && it.Method != protocol.MethodStream {
		l.field("method", it.Method)
	}
	if it.ResumedFrom > 0 {
		l.field("resumed", "from "+size(it.ResumedFrom))
	}
	l.field("restart", it.RestartReason)
	l.field("trace", it.TraceID)
	for i := range it.Attempts {
		a := &it.Attempts[i]
		text := fmt.Sprintf("%s, %s, %s by %s", ago(a.Start, now), span(a.End.Sub(a.Start)), size(a.Bytes), a.Worker)
		if a.Failure != nil {
			text += fmt.Sprintf(": %s/%s: %s", a.Failure.Class, a.Failure.Code, a.Failure.Message)
		}
		l.field("try "+strconv.Itoa(a.Number), text)
	}
	return l.write(env.stdout)
}
