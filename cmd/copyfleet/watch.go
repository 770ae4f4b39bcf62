package main

import "context"

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
