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
	item

	Letter  string    `json:"-"`
	Batch   string    `json:"batch"`
	ItemID  string    `json:"item_id"`
	State   string    `json:"state"`
	Receipt *item     `json:"receipt"`
	EndedAt time.Time `json:"ended_at"`
}

// UnmarshalJSON reads the id of the letter, which is not that of the item.
func (d *deadLetter) UnmarshalJSON(data []byte) error {
	type fields deadLetter
	var id struct {
		ID string `json:"id"`
	}
	if err := errors.Join(json.Unmarshal(data, (*fields)(d)), json.Unmarshal(data, &id)); err != nil {
		return fmt.Errorf("a dead letter: %w", err)
	}
	d.Letter = id.ID
	return nil
}

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
	t := &table{header: []string{"DEAD LETTER", "ITEM", "STATE", "TRIES", "FROM", "TO", "WHY"}, right: map[int]bool{3: true}}
	next, n, err := pages(ctx, api, "/v1/dead-letters", query, c.Limit, func(raw json.RawMessage) error {
		if env.json {
			return printJSON(env, raw)
		}
		var d deadLetter
		if err := json.Unmarshal(raw, &d); err != nil {
			return notPromised(err)
		}
		it := d.known()
		t.add(d.Letter, d.name(), d.State, strconv.Itoa(len(it.Attempts)), it.Src, it.Dest, it.why(now))
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
	indented, err := json.MarshalIndent(raw, "", "  ")
	if err != nil {
		return notPromised(err)
	}
	// JSON holds no control characters but line ends; the others that are harmful stand in its texts.
	for line := range strings.Lines(string(indented)) {
		if _, err := fmt.Fprintln(env.stdout, clean(strings.TrimSuffix(line, "\n"))); err != nil {
			return wrapPrint(err)
		}
	}
	return nil
}

type deadRedriveCmd struct {
	clientFlags
	filterFlags
	ID             []string          `arg:"" optional:"" help:"Dead letters; without any, all that the filters choose."`
	Batch          string            `help:"Only items of this batch." placeholder:"BATCH"`
	All            bool              `help:"All dead letters there are, where neither a filter nor a dead letter is given."`
	Yes            bool              `help:"Do it. Without this, only what would be run is told." short:"y"`
	Rate           float64           `help:"Items started a second, at most." placeholder:"N"`
	Header         map[string]string `help:"Header to send with every HTTP request, instead of one of that name: NAME=VALUE, may be repeated; an empty value removes it." placeholder:"NAME=VALUE" mapsep:"none"`
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
	if c.Rate < 0 {
		return fmt.Errorf("--rate %g: must be more than 0", c.Rate)
	}
	return nil
}

func (c *deadRedriveCmd) filter() map[string]any {
	filter := map[string]any{}
	c.each(func(name, value string) { filter[name] = value })
	if c.Batch != "" {
		filter["batch"] = c.Batch
	}
	if len(c.ID) > 0 {
		filter["ids"] = c.ID
	}
	return filter
}

// body is the request without "preview".
func (c *deadRedriveCmd) body() map[string]any {
	body := map[string]any{}
	if filter := c.filter(); len(filter) > 0 {
		body["filter"] = filter
	}
	if c.Rate > 0 {
		body["rate"] = c.Rate
	}
	patch := map[string]any{}
	if len(c.Header) > 0 {
		headers := map[string]any{}
		for name, value := range c.Header {
			headers[name] = value
			if value == "" {
				headers[name] = nil
			}
		}
		patch["headers"] = headers
	}
	dest := map[string]string{}
	for name, value := range map[string]string{"sandbox": c.DestSandbox, "path_prefix": c.DestPath, "bucket": c.DestBucket, "prefix": c.DestPrefix} {
		if value != "" {
			dest[name] = value
		}
	}
	if len(dest) > 0 {
		patch["dest"] = dest
	}
	if len(patch) > 0 {
		body["patch"] = patch
	}
	return body
}

// Run tells what would be run, or runs it.
func (c *deadRedriveCmd) Run(ctx context.Context, env *environment) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	if !c.Yes {
		return c.preview(ctx, env, api)
	}
	var answer struct {
		Batch batch `json:"batch"`
	}
	if err := rerun(ctx, env, api, "/v1/dead-letters/redrive", c.IdempotencyKey, c.body(), &answer); err != nil {
		return err
	}
	return await(ctx, env, api, &answer.Batch, c.Detach, c.ThroughPauses)
}

func (c *deadRedriveCmd) preview(ctx context.Context, env *environment, api *client) error {
	body := c.body()
	body["preview"] = true
	var raw json.RawMessage
	if _, err := api.call(ctx, http.MethodPost, "/v1/dead-letters/redrive", nil, body, &raw); err != nil {
		return err
	}
	if env.json {
		return printJSON(env, raw)
	}
	var answer struct {
		Count  int          `json:"count"`
		Groups []errorGroup `json:"groups"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return notPromised(err)
	}
	l := &lines{}
	for i := range answer.Groups {
		g := &answer.Groups[i]
		l.line(fmt.Sprintf("  %s × %s/%s%s", number(g.Count), g.Class, g.Code, g.at()))
	}
	l.line(number(answer.Count) + " dead letters would be run again; --yes runs them")
	return l.write(env.stdout)
}

// known is the item of a dead letter, whether its receipt stands beside its places or below.
func (d *deadLetter) known() *item {
	if d.Receipt == nil {
		return &d.item
	}
	it := *d.Receipt
	it.Src, it.Dest = d.Src, d.Dest
	return &it
}

func (d *deadLetter) name() string {
	if d.ItemID != "" {
		return d.ItemID
	}
	return d.known().ID
}
