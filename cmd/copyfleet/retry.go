package main

import (
	"context"
	"crypto/rand"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// retryCmd runs failed items again, as a new batch.
type retryCmd struct {
	clientFlags
	filterFlags
	batchOptions
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

// Validate implements kong's check.
func (c *retryCmd) Validate() error { return c.batchOptions.check() }

// Run asks for the new batch and waits for its end.
func (c *retryCmd) Run(ctx context.Context, env *environment) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	filter := map[string]any{}
	c.filterFlags.each(func(name, value string) { filter[name] = value })
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
	if err := c.members(body); err != nil {
		return err
	}
	var answer struct {
		Batch batch `json:"batch"`
		Items int   `json:"items"`
	}
	if err := rerun(ctx, env, api, batchPath(c.Batch, "retry"), c.IdempotencyKey, body, &answer); err != nil {
		return err
	}
	if !env.json && !c.Detach {
		err := printf(env, "%s of %s to run again, as %s\n", several(answer.Items, "item", "items"), clean(c.Batch), clean(answer.Batch.ID))
		if err != nil {
			return err
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
