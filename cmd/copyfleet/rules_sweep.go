package main

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/copyfleet/copyfleet/producer/triggers"
)

type rulesSweepCmd struct {
	clientFlags
	Name string `arg:"" help:"The rule; one on a bucket."`
	All  bool   `help:"Look at every object, not only at those that were written since the last sweep."`
}

// Help is shown by --help.
func (*rulesSweepCmd) Help() string {
	return `The first sweep of a rule by hand looks at everything below its prefix. Of an object that the rule copied longer ago than it remembers
(--event-memory of the API) nobody knows any more: a sweep with --all has it copied once more rather than missed.`
}

// The states of a sweep.
const (
	sweepRunning = "running"
	sweepFailed  = "failed"
)

const sweepPoll = time.Second

// Run sweeps, and waits for the end.
func (c *rulesSweepCmd) Run(ctx context.Context, env *environment) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	path := rulePath(c.Name) + "/sweep"
	if c.All {
		path += "?all=true"
	}
	var raw json.RawMessage
	if _, err := api.exchange(ctx, http.MethodPost, path, nil, nil, &raw); err != nil {
		return err
	}
	var s triggers.Swept
	if err := json.Unmarshal(raw, &s); err != nil {
		return notPromised(err)
	}
	for s.State == sweepRunning {
		if raw, err = c.look(ctx, api, &s); err != nil {
			return err
		}
	}
	if env.json {
		if err := printJSON(env, raw); err != nil {
			return err
		}
	} else if err := printf(env, "%s\n", clean(sweepText(&s))); err != nil {
		return err
	}
	switch {
	case s.State == sweepFailed:
		return exitWith(exitTemporary, "the sweep of %s failed: %s", c.Name, s.Message)
	case s.Refused > 0:
		return hinted(exitWith(exitFailed, "of %s no copy can be made", several(s.Refused, "object", "objects")),
			"\"copyfleet rules show "+c.Name+"\" tells why. Once it is mended: copyfleet rules sweep "+c.Name+" --all")
	}
	return nil
}

// look waits a moment and asks how far a sweep is.
func (c *rulesSweepCmd) look(ctx context.Context, api *client, s *triggers.Swept) (json.RawMessage, error) {
	select {
	case <-ctx.Done():
		return nil, interrupted(ctx)
	case <-time.After(sweepPoll):
	}
	var shown struct {
		Sweep json.RawMessage `json:"last_sweep"`
	}
	if err := api.get(ctx, rulePath(c.Name), nil, &shown); err != nil {
		return nil, err
	}
	var now triggers.Swept
	if err := json.Unmarshal(shown.Sweep, &now); err != nil {
		return nil, notPromised(err)
	}
	if now.ID != s.ID {
		return nil, exitWith(exitTemporary, "the sweep of %s was followed by another one before its end was seen", c.Name)
	}
	*s = now
	return shown.Sweep, nil
}

// sweepText tells a sweep in one line.
func sweepText(s *triggers.Swept) string {
	text := s.State + ": " + several(s.Listed, "object", "objects") + ", " + number(s.Known) + " known, " + number(s.Recovered) + " recovered"
	if s.Refused > 0 {
		text += ", " + number(s.Refused) + " refused"
	}
	if s.Message != "" {
		text += "; " + s.Message
	}
	return text
}
