package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/producer"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/object"
)

// Limits of the API's connections. There is no limit on writing: a copy call answers when its batch ends.
const (
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 5 * time.Minute // of a request with its body, unless its handler sets another deadline as bytes come
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 64 << 10
	frontShutdown     = 5 * time.Second
	readyTimeout      = 3 * time.Second
)

// front is a running API.
type front struct {
	server   *producer.Server
	registry *producer.Registry
	http     *http.Server
	listener net.Listener
	served   chan error
	stop     context.CancelFunc
	followed sync.WaitGroup // what goes on until stop
}

// frontConfig is what a front needs to know beside its flags.
type frontConfig struct {
	flags         apiFlags
	autoSandboxes bool
	autoBuckets   bool
	grantAll      bool
	room          func() error // why nothing may be accepted now; nil: nothing speaks against it
	ready         []readyCheck
	telemetry     *telemetry
	staging       *object.Staging
}

// startFront listens and serves.
func startFront(ctx context.Context, cfg frontConfig, conn *broker.Conn, objects *object.Store, sealer *protocol.Sealer, log *slog.Logger) (*front, error) {
	if !protocol.ValidID(cfg.flags.Org) {
		return nil, exitWith(exitUsage, "--org %q: must be letters, digits, '.', '_' and '-', at most 128", cfg.flags.Org)
	}
	records, err := conn.Bucket(ctx, broker.RegistryBucket)
	if err != nil {
		return nil, err //nolint:wrapcheck // says what it was
	}
	living, stop := context.WithCancel(context.WithoutCancel(ctx))
	f := &front{stop: stop, served: make(chan error, 1)}
	if f.registry, err = producer.NewRegistry(living, registryRecords{records}, log); err != nil {
		stop()
		return nil, err //nolint:wrapcheck // says what it was
	}
	if err := f.open(ctx, living, cfg, conn, objects, sealer, log); err != nil {
		stop()
		f.registry.Wait()
		f.followed.Wait()
		return nil, err
	}
	go func() { f.served <- f.http.Serve(f.listener) }()
	return f, nil
}

func (f *front) open(ctx, living context.Context, cfg frontConfig, conn *broker.Conn, objects *object.Store, sealer *protocol.Sealer, log *slog.Logger) error {
	org := protocol.OrgID(cfg.flags.Org)
	if cfg.flags.APIKey != "" {
		if _, err := f.registry.AddKey(ctx, cfg.flags.APIKey, org, producer.RoleAdmin, "bootstrap"); err != nil {
			return fmt.Errorf("register --api-key: %w", err)
		}
	}
	if err := cfg.telemetry.watchQueue(conn); err != nil {
		return err
	}
	pipeline, err := producer.NewPipeline(ctx, conn, sealer, cfg.room, log)
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	f.followed.Go(func() { pipeline.Follow(living) })
	sessions, err := f.openUploads(ctx, living, cfg, conn, pipeline, log)
	if err != nil {
		return err
	}
	lets := producer.Config{
		Logger: log, MaxWait: cfg.flags.MaxWait, AutoSandboxes: cfg.autoSandboxes, AutoBuckets: cfg.autoBuckets,
		DefaultOrg: org, GrantAll: cfg.grantAll, Version: version, MaxQueued: cfg.flags.MaxQueued,
	}
	rules, err := f.openTriggers(ctx, living, cfg, lets, conn, objects, sealer, pipeline, log)
	if err != nil {
		return err
	}
	f.server, err = producer.New(lets, producer.Dependencies{Registry: f.registry, Presigner: presigner{objects}, Pipeline: pipeline,
		Health: health(append(slices.Clone(cfg.ready), readyCheck{"rules", rules.Ready})), Manifests: manifests{objects}, Uploads: sessions,
		Triggers: rules, Metrics: cfg.telemetry.metrics, Traces: cfg.telemetry.traces})
	if err != nil {
		return exitWith(exitUsage, "%w", err)
	}
	f.listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.flags.Listen)
	if err != nil {
		return fmt.Errorf("--listen %s: %w", cfg.flags.Listen, err)
	}
	f.http = &http.Server{
		Handler: f.server.Handler(), ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeaderBytes, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return living },
	}
	return nil
}

func (f *front) url() string { return "http://" + f.listener.Addr().String() }

// refuseNew stops listening; calls that wait go on waiting.
func (f *front) refuseNew() { _ = f.listener.Close() } // closed a second time by Shutdown

// close ends waiting calls with a clear answer, and waits for all calls.
func (f *front) close(ctx context.Context) error {
	f.server.StopWaiting()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), frontShutdown)
	defer cancel()
	err := shut(ctx, f.http)
	f.stop()
	f.registry.Wait()
	f.followed.Wait()
	if served := <-f.served; !errors.Is(served, http.ErrServerClosed) && !errors.Is(served, net.ErrClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// shut closes a server when its calls have ended. That its listener is closed already is in order.
func shut(ctx context.Context, server *http.Server) error {
	err := server.Shutdown(ctx)
	if err == nil || errors.Is(err, net.ErrClosed) { // the listener's, told when all else is done
		return nil
	}
	return errors.Join(fmt.Errorf("close the API: %w", err), server.Close())
}

// registryRecords lets the registry live in a bucket.
type registryRecords struct{ *broker.Bucket }

// Put implements producer.Records.
func (r registryRecords) Put(ctx context.Context, key string, value []byte) error {
	_, err := r.Bucket.Put(ctx, key, value)
	return err //nolint:wrapcheck // says what it was
}

// Create implements producer.Records.
func (r registryRecords) Create(ctx context.Context, key string, value []byte) error {
	_, err := r.Bucket.Create(ctx, key, value)
	if errors.Is(err, broker.ErrExists) {
		return fmt.Errorf("%w: %w", producer.ErrExists, err)
	}
	return err //nolint:wrapcheck // says what it was
}

// Watch implements producer.Records.
func (r registryRecords) Watch(ctx context.Context) (<-chan producer.Record, error) {
	in, err := r.Bucket.Watch(ctx, ">")
	if err != nil {
		return nil, err //nolint:wrapcheck // says what it was
	}
	out := make(chan producer.Record)
	go func() {
		defer close(out)
		for w := range in {
			record := producer.Record{Key: w.Entry.Key, Value: w.Entry.Value, Deleted: w.Deleted, Current: w.Current}
			select {
			case out <- record:
			case <-ctx.Done():
			}
		}
	}()
	return out, nil
}

// presigner lets the front presign without knowing the store.
type presigner struct{ store *object.Store }

// Presign implements producer.Presigner.
func (p presigner) Presign(ctx context.Context, req producer.PresignRequest) (producer.Presigned, error) {
	if req.MakeBucket {
		if err := p.store.EnsureBucket(ctx, req.Bucket); err != nil {
			return producer.Presigned{}, err //nolint:wrapcheck // says what it was
		}
	} else if exists, err := p.store.BucketExists(ctx, req.Bucket); err == nil && !exists {
		return producer.Presigned{}, producer.ErrNoBucket
	} else if err != nil {
		return producer.Presigned{}, err //nolint:wrapcheck // says what it was
	}
	made, err := p.store.Presign(ctx, object.Request{
		Method: req.Method, Bucket: req.Bucket, Key: req.Key, Expires: req.Expires, ContentType: req.ContentType, MinSize: req.MinSize, MaxSize: req.MaxSize,
	})
	if failed, ok := errors.AsType[*storage.Error](err); ok && failed.Code == object.CodeReserved {
		return producer.Presigned{}, fmt.Errorf("%w: %w", producer.ErrReserved, err)
	}
	if err != nil {
		return producer.Presigned{}, err //nolint:wrapcheck // says what it was
	}
	return producer.Presigned{Method: made.Method, URL: made.URL, Headers: made.Headers, Form: made.Form, ExpiresAt: made.ExpiresAt}, nil
}

// manifests lets the front read manifests without knowing the store.
type manifests struct{ store *object.Store }

// Open implements producer.Manifests.
func (m manifests) Open(ctx context.Context, bucket, key string) (io.ReadCloser, error) {
	found, err := m.store.Source(bucket, key).Open(ctx)
	if failed, ok := errors.AsType[*storage.Error](err); ok && failed.Class == storage.NotFound {
		return nil, fmt.Errorf("%w: %w", producer.ErrNoObject, err)
	}
	if err != nil {
		return nil, err //nolint:wrapcheck // says what it was
	}
	return found.Body, nil
}

// readyCheck is one thing that must work before the process takes traffic.
type readyCheck struct {
	name  string
	check func(context.Context) error
}

// health is what /readyz asks.
type health []readyCheck

// Ready implements producer.Health.
func (h health) Ready(ctx context.Context) []producer.Check {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	checks := make([]producer.Check, len(h))
	for i, c := range h {
		checks[i] = producer.Check{Name: c.name, OK: true}
		if err := c.check(ctx); err != nil {
			checks[i].OK, checks[i].Message = false, err.Error()
		}
	}
	return checks
}

// settle gives calls that wait a moment to hear of their end, and returns when none waits any more.
func (f *front) settle(limit time.Duration) {
	f.server.Settle(limit)
}
