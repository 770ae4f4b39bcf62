package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// submitCmd sends a manifest and waits for the end of its batch.
type submitCmd struct {
	clientFlags
	batchOptions
	File           string `arg:"" help:"The manifest: a file, - for the standard input, or s3://BUCKET/KEY for one that the fleet reads itself." completion:"file"`
	Format         string `help:"ndjson, csv, tsv or json. Default: by the file's name, else by how it begins." enum:"ndjson,csv,tsv,json," default:"" placeholder:"FORMAT"`
	Sandbox        string `help:"Sandbox of the destinations that name none." placeholder:"ID"`
	Path           string `help:"Directory in the sandbox, for items that are only a URL." placeholder:"DIR"`
	Bucket         string `help:"Bucket of the destinations that name none." placeholder:"BUCKET"`
	Prefix         string `help:"Prefix of the keys in the bucket, for items that are only a URL." placeholder:"PREFIX"`
	IdempotencyKey string `help:"The same key with the same manifest makes one batch, however often it is sent. Default: a new one." name:"idempotency-key" placeholder:"KEY"`
	Plan           bool   `help:"Only tell what would be done for each item, of at most 1,000; nothing is copied."`
	Detach         bool   `help:"Do not wait for the end: print the batch's id."`
	ThroughPauses  bool   `help:"Go on waiting while the batch is paused. Otherwise the command ends with 5." name:"through-pauses"`
}

// Validate implements kong's check.
func (c *submitCmd) Validate() error { return c.batchOptions.check() }

func (c *submitCmd) defaults() map[string]string {
	given := map[string]string{}
	for name, value := range map[string]string{"sandbox": c.Sandbox, "path": c.Path, "bucket": c.Bucket, "prefix": c.Prefix} {
		if value != "" {
			given[name] = value
		}
	}
	return given
}

// Run sends, and waits.
func (c *submitCmd) Run(ctx context.Context, env *environment) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	if c.IdempotencyKey == "" {
		c.IdempotencyKey = "cli-" + strings.ToLower(rand.Text())
	}
	var accepted batch
	if strings.HasPrefix(c.File, remoteScheme) {
		err = c.sendRemote(ctx, env, api, &accepted)
	} else {
		err = c.sendFile(ctx, env, api, &accepted)
	}
	if err != nil || c.Plan {
		return err
	}
	return await(ctx, env, api, &accepted, c.Detach, c.ThroughPauses)
}

// await waits for the end of a batch that was accepted, or only tells its name.
func await(ctx context.Context, env *environment, api *client, accepted *batch, detach, throughPauses bool) error {
	if detach {
		if env.json {
			return printJSON(env, accepted)
		}
		_, err := fmt.Fprintln(env.stdout, clean(accepted.ID))
		return wrapPrint(err)
	}
	f := &follow{api: api, id: accepted.ID, view: newView(env), throughPauses: throughPauses}
	f.tell(accepted)
	return f.run(ctx)
}

// sendRemote names a manifest that the fleet reads from a bucket.
func (c *submitCmd) sendRemote(ctx context.Context, env *environment, api *client, accepted *batch) error {
	body, err := remoteManifest(c.File, format(c.Format), &c.batchOptions, c.defaults())
	if err != nil {
		return err
	}
	if c.Plan {
		var answer plan
		if _, err := api.call(ctx, http.MethodPost, "/v1/batches?plan=true", nil, body, &answer); err != nil {
			return err
		}
		return answer.print(env)
	}
	_, err = api.call(ctx, http.MethodPost, "/v1/batches", http.Header{"Idempotency-Key": {c.IdempotencyKey}}, body, accepted)
	return err
}

func (c *submitCmd) sendFile(ctx context.Context, env *environment, api *client, accepted *batch) (err error) {
	m, err := openManifest(c.File, format(c.Format), env.stdin)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	u, err := newUpload(m, &c.batchOptions, c.defaults())
	if err != nil {
		return err
	}
	s := &sender{api: api, env: env, upload: u, term: terminalOf(env.stdout)}
	if c.Plan {
		u.query.Set("plan", "true")
		var answer plan
		if err := s.send(ctx, &answer); err != nil {
			return err
		}
		return answer.print(env)
	}
	u.header.Set("Idempotency-Key", c.IdempotencyKey)
	err = s.safely(ctx, accepted)
	if ctx.Err() != nil && err != nil {
		return &exitError{code: exitCanceled, reason: "interrupted", err: errors.New("stopped while the manifest was being sent"),
			hint: "Most likely nothing was accepted. To be sure, send it again with --idempotency-key " + c.IdempotencyKey}
	}
	return err
}

// watchCmd waits for the end of a batch that somebody submitted.
type watchCmd struct {
	clientFlags
	Batch         string `arg:"" help:"The batch."`
	ThroughPauses bool   `help:"Go on watching while the batch is paused. Otherwise the command ends with 5." name:"through-pauses"`
}

// Run watches.
func (c *watchCmd) Run(ctx context.Context, env *environment) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	var b batch
	if err := api.get(ctx, batchPath(c.Batch), nil, &b); err != nil {
		return err
	}
	return await(ctx, env, api, &b, false, c.ThroughPauses)
}

// retryCmd runs failed items again, as a new batch.
type retryCmd struct {
	clientFlags
	filterFlags
	Batch          string   `arg:"" help:"The batch whose failed items are to run again."`
	Item           []string `help:"Only these items: by index, or by your id." placeholder:"INDEX|ID"`
	State          string   `help:"failed (the default), or canceled: the items of a canceled batch that never ran to their end." enum:"failed,canceled," default:"" placeholder:"STATE"`
	IdempotencyKey string   `help:"The same key makes one new batch, however often it is sent. Default: a new one." name:"idempotency-key" placeholder:"KEY"`
	Detach         bool     `help:"Do not wait for the end: print the new batch's id."`
	ThroughPauses  bool     `help:"Go on waiting while the batch is paused." name:"through-pauses"`
}

// filterFlags choose failed items.
type filterFlags struct {
	Class string `help:"Only failures of this class, such as not_found." placeholder:"CLASS"`
	Code  string `help:"Only failures with this code, such as source_http_404." placeholder:"CODE"`
	Host  string `help:"Only failures of this host." placeholder:"HOST"`
}

// each calls add with the filters that are given.
func (f *filterFlags) each(add func(name, value string)) {
	for _, p := range [][2]string{{"class", f.Class}, {"code", f.Code}, {"host", f.Host}} {
		if p[1] != "" {
			add(p[0], p[1])
		}
	}
}

func (f *filterFlags) query() url.Values {
	q := url.Values{}
	f.each(q.Set)
	return q
}

// Run asks for the new batch and waits for its end.
func (c *retryCmd) Run(ctx context.Context, env *environment) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	filter := map[string]any{}
	c.each(func(name, value string) { filter[name] = value })
	if c.State != "" {
		filter["state"] = c.State
	}
	if len(c.Item) > 0 {
		filter["items"] = itemNames(c.Item)
	}
	body := map[string]any{}
	if len(filter) > 0 {
		body["filter"] = filter
	}
	var answer struct {
		Batch batch `json:"batch"`
		Items int   `json:"items"`
	}
	if err := rerun(ctx, env, api, batchPath(c.Batch, "retry"), c.IdempotencyKey, body, &answer); err != nil {
		return err
	}
	if !env.json && !c.Detach {
		if _, err := fmt.Fprintf(env.stdout, "%s items of %s run again as %s\n", number(answer.Items), clean(c.Batch), clean(answer.Batch.ID)); err != nil {
			return wrapPrint(err)
		}
	}
	return await(ctx, env, api, &answer.Batch, c.Detach, c.ThroughPauses)
}

// rerun posts a call that makes a new batch, again where the answer was lost: its key keeps it from making two.
func rerun(ctx context.Context, env *environment, api *client, path, key string, body, answer any) error {
	if key == "" {
		key = "cli-" + strings.ToLower(rand.Text())
	}
	return insist(ctx, env, func() (bool, error) {
		_, err := api.call(ctx, http.MethodPost, path, http.Header{"Idempotency-Key": {key}}, body, answer)
		return true, err
	})
}

const (
	// insistFor is how long a call is tried again that the API was too busy for, or whose connection broke off.
	insistFor    = time.Minute
	longestPause = 15 * time.Second
)

// itemNames tells indexes, which are numbers, from ids.
func itemNames(given []string) []any {
	out := make([]any, len(given))
	for i, name := range given {
		out[i] = name
		if n, err := strconv.Atoi(name); err == nil && n >= 0 && strconv.Itoa(n) == name {
			out[i] = n
		}
	}
	return out
}
