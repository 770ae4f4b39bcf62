package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
)

// eventsCmd brings events in.
type eventsCmd struct {
	Connect eventsConnectCmd `cmd:"" help:"Have a bucket of an S3 store tell of its objects, or print the settings that MinIO needs for that."`
	Send    eventsSendCmd    `cmd:"" help:"Send events from a file."`
}

type eventsSendCmd struct {
	clientFlags
	Type string `help:"s3: a notification as S3 and MinIO write it. cloudevents: a CloudEvent, or a list of them, as JSON." enum:"s3,cloudevents" default:"s3"`
	File string `arg:"" help:"The file; - is the standard input." completion:"file"`
}

// Run sends. What is sent twice is copied once.
func (c *eventsSendCmd) Run(ctx context.Context, env *environment) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	event, err := readEvent(c.File, env)
	if err != nil {
		return err
	}
	header := http.Header{"Content-Type": {"application/json"}}
	if c.Type == "cloudevents" {
		header.Set("Content-Type", "application/cloudevents+json")
		if bytes.HasPrefix(bytes.TrimLeft(event, " \t\r\n"), []byte("[")) {
			header.Set("Content-Type", "application/cloudevents-batch+json")
		}
	}
	var raw json.RawMessage
	if _, err := api.callText(ctx, http.MethodPost, "/v1/events/"+c.Type, header, event, &raw); err != nil {
		return c.explain(err, event)
	}
	if env.json {
		return printJSON(env, raw)
	}
	var accepted struct {
		Events int `json:"events"`
	}
	if err := json.Unmarshal(raw, &accepted); err != nil {
		return notPromised(err)
	}
	return printf(env, "%s accepted\n", several(accepted.Events, "event", "events"))
}

// explain says of an event that is malformed as one of S3 that it looks like another.
func (c *eventsSendCmd) explain(err error, event []byte) error {
	var looks struct {
		SpecVersion any `json:"specversion"`
	}
	if p := refused(err); p == nil || p.Code != "event_malformed" || c.Type != "s3" {
		return err
	}
	list := bytes.HasPrefix(bytes.TrimLeft(event, " \t\r\n"), []byte("["))
	if !list && (json.Unmarshal(event, &looks) != nil || looks.SpecVersion == nil) {
		return err
	}
	return hinted(err, "It looks like CloudEvents: --type cloudevents sends them.")
}
