package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// presignCmd makes a URL that lets its holder read or write one object for a while.
type presignCmd struct {
	clientFlags
	Method      string        `arg:"" help:"GET to read, PUT to write, POST for a form that writes." enum:"GET,PUT,POST"`
	Object      string        `arg:"" help:"The object: BUCKET/KEY or s3://BUCKET/KEY." name:"bucket/key"`
	Expires     time.Duration `help:"How long the URL is good for, up to 168h." default:"1h"`
	ContentType string        `help:"Content type that the sender must give; PUT and POST." name:"content-type" placeholder:"TYPE"`
	MinSize     int64         `help:"Least size in bytes; POST." name:"min-size" placeholder:"N"`
	MaxSize     int64         `help:"Largest size in bytes; POST." name:"max-size" placeholder:"N"`
}

// Run makes the URL. Only the URL goes to the standard output; what must be sent beside it is told on the standard error.
func (c *presignCmd) Run(ctx context.Context, env *environment) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	bucket, key, ok := strings.Cut(strings.TrimPrefix(c.Object, remoteScheme), "/")
	if !ok || bucket == "" || key == "" {
		return exitWith(exitUsage, "%s: must be BUCKET/KEY", c.Object)
	}
	body := map[string]any{"method": c.Method, "bucket": bucket, "key": key, "expires_seconds": int64(c.Expires.Seconds())}
	if c.ContentType != "" {
		body["content_type"] = c.ContentType
	}
	if c.MinSize > 0 {
		body["min_size"] = c.MinSize
	}
	if c.MaxSize > 0 {
		body["max_size"] = c.MaxSize
	}
	var raw json.RawMessage
	if _, err := api.call(ctx, http.MethodPost, "/v1/presign", nil, body, &raw); err != nil {
		return err
	}
	if env.json {
		return printJSON(env, raw)
	}
	var made struct {
		URL     string            `json:"url"`
		Headers map[string]string `json:"headers"`
		Form    map[string]string `json:"form"`
		Expires time.Time         `json:"expires_at"`
	}
	if err := json.Unmarshal(raw, &made); err != nil {
		return notPromised(err)
	}
	l := &lines{}
	l.line("good until " + localTime(made.Expires))
	for _, name := range slices.Sorted(maps.Keys(made.Headers)) {
		l.line("header  " + name + ": " + made.Headers[name])
	}
	for _, name := range slices.Sorted(maps.Keys(made.Form)) {
		l.line("form    " + name + "=" + made.Form[name])
	}
	if err := l.write(env.stderr); err != nil {
		return err
	}
	_, err = fmt.Fprintln(env.stdout, clean(made.URL))
	return wrapPrint(err)
}
