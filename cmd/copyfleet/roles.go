package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
)

// apiCmd runs the API front alone.
type apiCmd struct {
	apiFlags
	natsFlags
	sealFlags
	S3            s3Flags `embed:""`
	AutoSandboxes bool    `help:"Let an unknown sandbox come into being at its first use." env:"COPYFLEET_AUTO_SANDBOXES"`
	AutoBuckets   bool    `help:"Make a missing bucket at its first use." env:"COPYFLEET_AUTO_BUCKETS"`
	Sandboxes     string  `help:"Where the workers keep sandboxes. If that is in a bucket, nothing there is presigned." env:"COPYFLEET_SANDBOXES" placeholder:"URL"`
}

// Run serves until the context ends.
func (c *apiCmd) Run(ctx context.Context, env *environment) (err error) {
	conn, err := c.connect(ctx, "api", env.log)
	if err != nil {
		return err
	}
	defer conn.Close()
	sealer, err := c.sealer(ctx, conn)
	if err != nil {
		return err
	}
	told, err := startTelemetry(ctx, "api", "", env.log)
	if err != nil {
		return err
	}
	defer told.close(ctx)
	objects, client, err := c.S3.objects(c.S3.Endpoint, c.AutoBuckets, workerFlags{})
	if err != nil {
		return err
	}
	defer client.Close()
	staging, err := c.S3.staging(objects)
	if err != nil {
		return err
	}
	checks, err := reserveSandboxes(c.Sandboxes, objects)
	if err != nil {
		return err
	}
	f, err := startFront(ctx, frontConfig{
		flags: c.apiFlags, autoSandboxes: c.AutoSandboxes, autoBuckets: c.AutoBuckets,
		ready: append([]readyCheck{{"nats", conn.Ready}, {"s3", objects.Check}}, checks...), telemetry: told, staging: staging,
	}, conn, objects, sealer, env.log)
	if err != nil {
		return err
	}
	env.log.Info("the API is ready", "url", f.url())
	select {
	case <-ctx.Done():
	case served := <-f.served:
		f.served <- served
		err = fmt.Errorf("the API stopped: %w", served)
	}
	f.refuseNew()
	return errors.Join(err, f.close(ctx))
}

// workerCmd runs a worker alone.
type workerCmd struct {
	workerFlags
	metricsFlags
	natsFlags
	sealFlags
	S3          s3Flags `embed:""`
	Data        string  `help:"Data directory, whose directory sandboxes is used without --sandboxes." default:"copyfleet-data" env:"COPYFLEET_DATA"`
	AutoBuckets bool    `help:"Make a missing bucket at its first use." env:"COPYFLEET_AUTO_BUCKETS"`
}

// Run works until the context ends, then drains.
func (c *workerCmd) Run(ctx context.Context, env *environment) (err error) {
	if c.Sandboxes == "" {
		data, err := filepath.Abs(c.Data)
		if err != nil {
			return exitWith(exitUsage, "--data %s: %w", c.Data, err)
		}
		c.Sandboxes = fileURL(filepath.Join(data, "sandboxes"))
	}
	conn, err := c.connect(ctx, "worker", env.log)
	if err != nil {
		return err
	}
	defer conn.Close()
	sealer, err := c.sealer(ctx, conn)
	if err != nil {
		return err
	}
	objects, client, err := c.S3.objects(c.S3.Endpoint, c.AutoBuckets, c.workerFlags)
	if err != nil {
		return err
	}
	defer client.Close()
	staging, err := c.S3.staging(objects)
	if err != nil {
		return err
	}
	told, err := startTelemetry(ctx, "worker", c.MetricsListen, env.log)
	if err != nil {
		return err
	}
	defer told.close(ctx)
	w, err := c.start(ctx, conn, objects, staging, sealer, told, env.log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	env.log.Info("the worker is ready", "slots", c.Slots, "sandboxes", c.Sandboxes)
	return w.worker.Run(ctx) //nolint:wrapcheck // says what it was
}

// aggregatorCmd runs the aggregator alone. It takes the flags of the object store, so that every role can be given the
// same settings; it does not use them yet.
type aggregatorCmd struct {
	metricsFlags
	aggregatorFlags
	natsFlags
	S3 s3Flags `embed:""`
}

// Run folds until the context ends.
func (c *aggregatorCmd) Run(ctx context.Context, env *environment) error {
	conn, err := c.connect(ctx, "aggregator", env.log)
	if err != nil {
		return err
	}
	defer conn.Close()
	told, err := startTelemetry(ctx, "aggregator", c.MetricsListen, env.log)
	if err != nil {
		return err
	}
	defer told.close(ctx)
	a, err := startAggregator(ctx, c.aggregatorFlags, conn, told, env.log)
	if err != nil {
		return err
	}
	env.log.Info("the aggregator is ready")
	return a.Run(ctx) //nolint:wrapcheck // says what it was
}
