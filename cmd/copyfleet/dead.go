package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// deadCmd looks after items that failed for good: dead letters.
type deadCmd struct {
	List    deadListCmd    `cmd:"" help:"List failed items that were not run again."`
	Show    deadShowCmd    `cmd:"" help:"Show one, with everything that it takes to run it again."`
	Redrive deadRedriveCmd `cmd:"" help:"Run failed items again, as a new batch. Tells only what would be run, unless --yes is given."`
}

type deadListCmd struct {
	clientFlags
	filterFlags
	Batch string `help:"Only items of this batch." placeholder:"BATCH"`
	State string `help:"dead: not run again (the default); rerun: run again already." enum:"dead,rerun," default:"" placeholder:"STATE"`
	Limit int    `help:"Items to list, at most; 0: all." default:"100" placeholder:"N"`
}

// Validate implements kong's check.
func (c *deadListCmd) Validate() error { return notNegative("--limit", c.Limit) }

// deadLetter is a failed item as the API shows it.
type deadLetter struct {
	ID         string    `json:"id"`
	State      string    `json:"state"`
	Batch      string    `json:"batch"`
	Label      string    `json:"label"`
	Index      int       `json:"index"`
	ItemID     string    `json:"item_id"`
	Src        string    `json:"src"`
	Dest       string    `json:"dest"`
	Class      string    `json:"class"`
	Code       string    `json:"code"`
	Host       string    `json:"host"`
	Message    string    `json:"message"`
	Status     int       `json:"http_status"`
	Attempts   int       `json:"attempts"`
	FailedAt   time.Time `json:"failed_at"`
	RerunBatch string    `json:"rerun_batch"`

	Item json.RawMessage `json:"item"` // a line of a manifest, with its receipt
}

func (d *deadLetter) why() string { return fmt.Sprintf("%s/%s: %s", d.Class, d.Code, d.Message) }

// Run lists, the newest batches first.
func (c *deadListCmd) Run(ctx context.Context, env *environment) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	query := c.query()
	for name, value := range map[string]string{"batch": c.Batch, "state": c.State} {
		if value != "" {
			query.Set(name, value)
		}
	}
	now := time.Now()
	t := &table{Header: []string{"DEAD LETTER", "ITEM", "STATE", "TRIES", "FAILED", "FROM", "TO", "WHY"}, Right: map[int]bool{3: true}}
	next, n, err := pages(ctx, api, "/v1/dead-letters", query, c.Limit, func(raw json.RawMessage) error {
		if env.json {
			return printJSON(env, raw)
		}
		var d deadLetter
		if err := json.Unmarshal(raw, &d); err != nil {
			return notPromised(err)
		}
		t.Add(d.ID, d.ItemID, d.State, strconv.Itoa(d.Attempts), ago(d.FailedAt, now), d.Src, d.Dest, d.why())
		return nil
	})
	if err != nil {
		return err
	}
	return listed(env, t, n, next, "dead letters")
}

type deadShowCmd struct {
	clientFlags
	ID      string `arg:"" help:"The dead letter: BATCH.INDEX."`
	Secrets bool   `help:"With the queries and headers of its URLs, which are credentials; takes the role admin."`
}

// Run shows.
func (c *deadShowCmd) Run(ctx context.Context, env *environment) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	query := url.Values{}
	if c.Secrets {
		query.Set("secrets", "true")
	}
	var raw json.RawMessage
	if err := api.get(ctx, "/v1/dead-letters/"+url.PathEscape(c.ID), query, &raw); err != nil {
		return err
	}
	if env.json {
		return printJSON(env, raw)
	}
	var d deadLetter
	if err := json.Unmarshal(raw, &d); err != nil {
		return notPromised(err)
	}
	return d.write(env, time.Now())
}

// write tells a dead letter to a person.
func (d *deadLetter) write(env *environment, now time.Time) error {
	l := &lines{}
	l.field("letter", d.ID)
	l.field("state", d.State)
	l.field("batch", d.Batch)
	l.field("label", d.Label)
	l.field("item", strings.TrimSpace(strconv.Itoa(d.Index)+" "+d.ItemID))
	l.field("from", d.Src)
	l.field("to", d.Dest)
	l.field("why", d.why())
	l.field("host", d.Host)
	l.field("failed", ago(d.FailedAt, now))
	l.field("rerun in", d.RerunBatch)
	l.line("as a line of a manifest, with its receipt (redacted: it runs only with what --secrets shows):")
	l.line(string(d.Item))
	return l.write(env.stdout)
}

type deadRedriveCmd struct {
	clientFlags
	filterFlags
	batchOptions
	ID             []string          `arg:"" optional:"" help:"Dead letters; without any, all that the filters choose."`
	Batch          string            `help:"Only items of this batch." placeholder:"BATCH"`
	All            bool              `help:"All dead letters there are, where neither a filter nor a dead letter is given."`
	Yes            bool              `help:"Do it. Without this, only what would be run is told." short:"y"`
	Header         map[string]string `help:"Header to send with every HTTP request, instead of one of that name: NAME=VALUE, may be repeated; an empty value removes it. NAME=@FILE reads the value from a file: others can see what stands here." placeholder:"NAME=VALUE" mapsep:"none"`
	SrcHeader      map[string]string `help:"The same, with requests to the source only." name:"src-header" placeholder:"NAME=VALUE" mapsep:"none"`
	DestHeader     map[string]string `help:"The same, with requests to the destination only." name:"dest-header" placeholder:"NAME=VALUE" mapsep:"none"`
	DestSandbox    string            `help:"Sandbox to copy into instead." name:"dest-sandbox" placeholder:"ID"`
	DestPath       string            `help:"Directory that is put in front of the path in the sandbox." name:"dest-path" placeholder:"DIR"`
	DestBucket     string            `help:"Bucket to copy into instead." name:"dest-bucket" placeholder:"BUCKET"`
	DestPrefix     string            `help:"Prefix that is put in front of the key in the bucket." name:"dest-prefix" placeholder:"PREFIX"`
	IdempotencyKey string            `help:"The same key makes one new batch, however often it is sent. Default: a new one." name:"idempotency-key" placeholder:"KEY"`
	Detach         bool              `help:"Do not wait for the end: print the new batch's id."`
	ThroughPauses  bool              `help:"Go on waiting while the batch is paused." name:"through-pauses"`
}

// Validate implements kong's check.
func (c *deadRedriveCmd) Validate() error {
	if filter := c.filter(); len(filter) == 0 && !c.All {
		return errors.New("say which: dead letters, a filter, or --all")
	}
	return c.batchOptions.check()
}

func (c *deadRedriveCmd) filter() map[string]any {
	filter := map[string]any{}
	c.filterFlags.each(func(name, value string) { filter[name] = value })
	if c.Batch != "" {
		filter["batch"] = c.Batch
	}
	if len(c.ID) > 0 {
		filter["ids"] = c.ID
	}
	return filter
}

// body is the request without "preview". An empty filter means all dead letters.
func (c *deadRedriveCmd) body() (map[string]any, error) {
	body := map[string]any{"filter": c.filter()}
	patch, err := c.patch()
	if err != nil {
		return nil, err
	}
	if len(patch) > 0 {
		body["patch"] = patch
	}
	return body, c.members(body)
}

// Run tells what would be run, or runs it.
func (c *deadRedriveCmd) Run(ctx context.Context, env *environment) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	body, err := c.body()
	if err != nil {
		return err
	}
	if !c.Yes {
		return c.preview(ctx, env, api, body)
	}
	var answer struct {
		Batch batch `json:"batch"`
		Items int   `json:"items"`
		More  bool  `json:"more"`
	}
	if err := rerun(ctx, env, api, "/v1/dead-letters/redrive", c.IdempotencyKey, body, &answer); err != nil {
		return noDeadLetters(err)
	}
	if answer.More {
		env.note("there are more of them than one batch takes; run the command again for the rest")
	}
	if !env.json && !c.Detach {
		err := printf(env, "%s to run again, as %s\n", several(answer.Items, "dead letter", "dead letters"), clean(answer.Batch.ID))
		if err != nil {
			return err
		}
	}
	return await(ctx, env, api, &answer.Batch, c.Detach, c.ThroughPauses)
}

func (c *deadRedriveCmd) preview(ctx context.Context, env *environment, api *client, body map[string]any) error {
	body["preview"] = true
	var raw json.RawMessage
	if _, err := api.call(ctx, http.MethodPost, "/v1/dead-letters/redrive", nil, body, &raw); err != nil {
		return noDeadLetters(err)
	}
	if env.json {
		return printJSON(env, raw)
	}
	var answer struct {
		Count   int  `json:"count"`
		Batches int  `json:"batches"`
		More    bool `json:"more"`
		Left    int  `json:"groups_left"`
		Groups  []struct {
			errorGroup

			Example string `json:"example"`
		} `json:"groups"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return notPromised(err)
	}
	l := &lines{}
	for i := range answer.Groups {
		g := &answer.Groups[i]
		l.line(fmt.Sprintf("  %s × %s/%s%s: %s (%s)", number(g.Count), g.Class, g.Code, g.at(), g.Message, g.Example))
	}
	if answer.Left > 0 {
		l.line("  and " + number(answer.Left) + " of other kinds")
	}
	text := fmt.Sprintf("%s of %s would run again; --yes runs them",
		several(answer.Count, "dead letter", "dead letters"), several(answer.Batches, "batch", "batches"))
	if answer.More {
		text = "at least " + text
	}
	l.line(text)
	return l.write(env.stdout)
}
