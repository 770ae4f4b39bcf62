package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strings"
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
	Conflict       string `help:"What to do about a destination that exists, for items that do not say: overwrite (the default), skip, fail, or if_different." enum:"overwrite,skip,fail,if_different," default:"" placeholder:"POLICY"`
	Digest         string `help:"Digest of the bytes in the receipt, for items that do not say: sha256 (the default), or none." enum:"sha256,none," default:"" placeholder:"DIGEST"`
	IdempotencyKey string `help:"The same key with the same manifest makes one batch, however often it is sent. Default: a new one." name:"idempotency-key" placeholder:"KEY"`
	Plan           bool   `help:"Only tell what would be done for each item, of at most 1,000; nothing is copied."`
	Detach         bool   `help:"Do not wait for the end: print the batch's id."`
	ThroughPauses  bool   `help:"Go on waiting while the batch is paused. Otherwise the command ends with 5." name:"through-pauses"`
}

// Validate implements kong's check.
func (c *submitCmd) Validate() error { return c.batchOptions.check() }

func (c *submitCmd) defaults() map[string]string {
	given := map[string]string{}
	for name, value := range map[string]string{
		"sandbox": c.Sandbox, "path": c.Path, "bucket": c.Bucket, "prefix": c.Prefix, "conflict": c.Conflict, "digest": c.Digest,
	} {
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
	u, err := newSubmission(m, &c.batchOptions, c.defaults())
	if err != nil {
		return err
	}
	s := &sender{api: api, env: env, submission: u, term: terminalOf(env.stdout)}
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
