package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/copyfleet/copyfleet/loadtest/job"
	"github.com/copyfleet/copyfleet/loadtest/workload"
)

// Run writes objects.
func (c *benchPut) Run(ctx context.Context, env *environment) error {
	spec, err := c.spec("put")
	if err == nil {
		err = c.sizeFlags.apply(spec)
	}
	if err != nil {
		return err
	}
	return runBench(ctx, env, &c.benchFlags, spec)
}

// Run reads objects.
func (c *benchGet) Run(ctx context.Context, env *environment) error {
	spec, err := c.spec("get")
	if err != nil {
		return err
	}
	spec.Verify = c.Verify
	if err := errors.Join(c.sizeFlags.apply(spec), c.objectFlags.apply(spec)); err != nil {
		return err
	}
	return runBench(ctx, env, &c.benchFlags, spec)
}

// Run makes a mix of operations.
func (c *benchMixed) Run(ctx context.Context, env *environment) error {
	spec, err := c.spec("mixed")
	if err != nil {
		return err
	}
	spec.Mix, spec.Page, spec.Verify = c.Mix, c.Page, c.Verify
	if c.Page < 1 {
		return exitWith(exitUsage, "--page %d: a list has 1 to 1000 objects", c.Page)
	}
	if err := errors.Join(c.sizeFlags.apply(spec), c.objectFlags.apply(spec)); err != nil {
		return err
	}
	return runBench(ctx, env, &c.benchFlags, spec)
}

// Run has a fleet copy objects.
func (c *benchCopy) Run(ctx context.Context, env *environment) error {
	spec, err := c.spec("copy")
	if err != nil {
		return err
	}
	if _, err := c.client(); err != nil { // says what is wrong with the key or the URL
		return err
	}
	spec.API, spec.Batch = c.URL, c.Batch
	c.benchFlags.apiKey = c.APIKey
	if err := errors.Join(c.sizeFlags.apply(spec), c.objectFlags.apply(spec)); err != nil {
		return err
	}
	return runBench(ctx, env, &c.benchFlags, spec)
}

// Run replays a batch.
func (c *benchReplay) Run(ctx context.Context, env *environment) error {
	spec, err := c.spec("replay")
	if err != nil {
		return err
	}
	if c.Workers > 0 {
		return exitWith(exitUsage, "--workers: a report is replayed by one load generator")
	}
	spec.Replay = &job.Replay{Report: filepath.Base(c.Report), As: c.As}
	if spec.Replay.Speed, err = workload.ParseSpeed(c.Speed); err != nil {
		return exitWith(exitUsage, "--speed: %w", err)
	}
	if c.As == "copy" {
		if _, err := c.client(); err != nil {
			return err
		}
		spec.API, spec.Batch, c.apiKey = c.URL, c.Batch, c.APIKey
	}
	if spec.Objects = c.Objects; c.As != "put" && spec.Objects == 0 {
		spec.Objects = usualObjects
	}
	if c.schedule, err = readSchedule(env, c.Report); err != nil {
		return err
	}
	spec.Replay.Items = c.schedule.Len()
	return runBench(ctx, env, &c.benchFlags, spec)
}

// readSchedule reads a report, and says what of it is not replayed.
func readSchedule(env *environment, name string) (*workload.Schedule, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fileError(name, err)
	}
	defer func() { _ = file.Close() }() // only read
	schedule, err := workload.ReadSchedule(file)
	if err != nil {
		return nil, fileError(name, err)
	}
	if schedule.Left.Total() > 0 {
		env.note(several(schedule.Left.Total(), "item", "items") + " of the report not replayed: " + schedule.Left.String())
	}
	if schedule.Truncated {
		env.note(name + " breaks off; what is there is replayed")
	}
	return schedule, nil
}

// Run writes objects in parts.
func (c *benchMultipart) Run(ctx context.Context, env *environment) error {
	spec, err := c.spec("multipart")
	if err != nil {
		return err
	}
	if c.PartsAtOnce < 1 {
		return exitWith(exitUsage, "--parts-at-once %d: it is 1 to 1000", c.PartsAtOnce)
	}
	spec.PartSize, spec.PartsAtOnce = int64(c.PartSize), c.PartsAtOnce
	if err := (&sizeFlags{Size: c.Size}).apply(spec); err != nil {
		return err
	}
	return runBench(ctx, env, &c.benchFlags, spec)
}
