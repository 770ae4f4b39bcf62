package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// cancelCmd, pauseCmd and resumeCmd act on a batch, on all workers at once.
type (
	cancelCmd struct{ actFlags }
	pauseCmd  struct{ actFlags }
	resumeCmd struct{ actFlags }
)

type actFlags struct {
	clientFlags
	Batch string `arg:"" help:"The batch."`
}

// Run cancels.
func (c *cancelCmd) Run(ctx context.Context, env *environment) error {
	return c.act(ctx, env, "cancel")
}

// Run pauses.
func (c *pauseCmd) Run(ctx context.Context, env *environment) error { return c.act(ctx, env, "pause") }

// Run resumes.
func (c *resumeCmd) Run(ctx context.Context, env *environment) error {
	return c.act(ctx, env, "resume")
}

// acted is the answer to an action.
type acted struct {
	Batch        batch `json:"batch"`
	NotStarted   int   `json:"not_started"`
	Midway       int   `json:"stopped_midway"`
	AlreadyEnded int   `json:"already_ended"`
}

func (f *actFlags) act(ctx context.Context, env *environment, what string) error {
	api, err := f.client()
	if err != nil {
		return err
	}
	var raw json.RawMessage
	// Each of the three may be asked for twice, so that it is asked for again where the answer was lost.
	err = insist(ctx, env, func() (bool, error) {
		_, err := api.call(ctx, http.MethodPost, batchPath(f.Batch, what), nil, nil, &raw)
		return true, err
	})
	if err != nil {
		return err
	}
	var answer acted
	if err := json.Unmarshal(raw, &answer); err != nil {
		return notPromised(err)
	}
	if env.json {
		err = printJSON(env, raw)
	} else {
		err = answer.write(env, what)
	}
	if err == nil && what == "cancel" && !answer.Batch.State.Final() {
		return hinted(exitWith(exitTemporary, "the cancel of batch %s is under way; items still run", answer.Batch.ID), "copyfleet watch "+answer.Batch.ID)
	}
	return err
}

// write tells an answer to a person.
func (a *acted) write(env *environment, what string) error {
	b, term := &a.Batch, terminalOf(env.stdout)
	text := fmt.Sprintf("%s %s", clean(b.ID), term.paint(stateColor(string(b.State)), clean(string(b.State))))
	switch {
	case what == "cancel":
		text += fmt.Sprintf(": %s not started, %s stopped midway, %s had already ended",
			several(a.NotStarted, "item", "items"), number(a.Midway), number(a.AlreadyEnded))
	case b.State == protocol.BatchPaused:
		text += ": " + b.progress() + "; copyfleet resume " + clean(b.ID)
	default:
		text += ": " + b.progress()
	}
	if !b.EndedAt.IsZero() {
		text += ", ended " + ago(b.EndedAt, time.Now())
	}
	_, err := fmt.Fprintln(env.stdout, text)
	return wrapPrint(err)
}
