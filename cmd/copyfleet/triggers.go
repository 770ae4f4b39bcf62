package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/producer"
	"github.com/copyfleet/copyfleet/producer/triggers"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/object"
)

// triggerConfig is what the flags say of events. A sweep interval of 0 is none to the flag, and the default to the service.
func (f *apiFlags) triggerConfig() (triggers.Config, error) {
	if f.EventMemory <= 0 {
		return triggers.Config{}, exitWith(exitUsage, "--event-memory %s: must be more than 0", f.EventMemory)
	}
	if f.SweepInterval < 0 {
		return triggers.Config{}, exitWith(exitUsage, "--sweep-interval %s: must be 0, for no sweeps, or more", f.SweepInterval)
	}
	every := f.SweepInterval
	if every == 0 {
		every = -1
	}
	return triggers.Config{Memory: f.EventMemory, Sweep: every}, nil
}

// openTriggers opens the rules, and makes the copies that they ask for until living ends, unless another front does so.
func (f *front) openTriggers(
	ctx, living context.Context, cfg frontConfig, lets producer.Config, conn *broker.Conn, objects *object.Store, sealer *protocol.Sealer,
	pipeline *producer.Pipeline, log *slog.Logger,
) (*triggers.Service, error) {
	settings, err := cfg.flags.triggerConfig()
	if err != nil {
		return nil, err
	}
	settings.Logger, settings.Metrics, settings.Room = log, cfg.telemetry.metrics, cfg.room
	service, err := triggers.New(ctx, settings, conn, sealer, producer.NewTriggerQueue(lets, pipeline, f.registry), buckets{objects})
	if err != nil {
		return nil, err //nolint:wrapcheck // says what it was
	}
	f.followed.Go(func() { service.Run(living) })
	return service, nil
}

// buckets lets rules look at objects without knowing the store.
type buckets struct{ store *object.Store }

// Stat implements triggers.Store. What is kept for sandboxes and uploads is no object to anybody, nor is what no store can have by its name.
func (b buckets) Stat(ctx context.Context, bucket, key, version string) (triggers.Object, error) {
	info, err := b.store.Stat(ctx, bucket, key, version)
	failed, ok := errors.AsType[*storage.Error](err)
	switch {
	case !ok:
		return triggers.Object(info), err //nolint:wrapcheck // says what it was
	case failed.Class == storage.NotFound, failed.Class == storage.Invalid, failed.Code == object.CodeReserved:
		err = fmt.Errorf("%w: %w", triggers.ErrNoObject, err)
	case failed.Class == storage.Denied:
		err = fmt.Errorf("%w: %w", triggers.ErrDenied, err)
	}
	return triggers.Object{}, err
}

// List implements triggers.Store.
func (b buckets) List(ctx context.Context, bucket, prefix string, visit func(triggers.Object) bool) error {
	err := b.store.List(ctx, bucket, prefix, func(info object.Info) bool { return visit(triggers.Object(info)) })
	if failed, ok := errors.AsType[*storage.Error](err); ok && failed.Class == storage.NotFound {
		return fmt.Errorf("%w: %w", triggers.ErrNoBucket, err)
	}
	return err //nolint:wrapcheck // says what it was
}
