package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"

	"github.com/copyfleet/copyfleet/aggregator"
	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage/egress"
	httpstore "github.com/copyfleet/copyfleet/storage/http"
	"github.com/copyfleet/copyfleet/storage/object"
	"github.com/copyfleet/copyfleet/worker"
)

// processID names this process: no other one has it, also not the one that ran here before.
func processID() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "host"
	}
	return fmt.Sprintf("%s-%d-%s", host, os.Getpid(), strings.ToLower(rand.Text()[:6]))
}

// connect joins an external NATS and brings its streams up to date.
func (f natsFlags) connect(ctx context.Context, role string, log *slog.Logger) (*broker.Conn, error) {
	if f.URL == "" {
		return nil, exitWith(exitUsage, "%s needs --nats-url (COPYFLEET_NATS_URL)", role)
	}
	conn, err := broker.Connect(broker.Config{URL: f.URL, Name: "copyfleet " + role, Logger: log, Replicas: f.Replicas, AckWait: f.AckWait})
	if err != nil {
		return nil, err //nolint:wrapcheck // says what it was
	}
	if err := conn.Setup(ctx); err != nil {
		conn.Close()
		return nil, err //nolint:wrapcheck // says what it was
	}
	return conn, nil
}

// sealKeyName is the record that keeps the sealing key where none is configured.
const sealKeyName = "seal"

// sealer returns the sealer of the fleet. A key that is not configured is made once and kept in NATS: it keeps
// credentials out of a dump of the work streams, not from somebody who reads all of NATS.
func (f sealFlags) sealer(ctx context.Context, conn *broker.Conn) (*protocol.Sealer, error) {
	if f.SealKey != "" {
		return f.given()
	}
	bucket, err := conn.Bucket(ctx, broker.SecretBucket)
	if err != nil {
		return nil, fmt.Errorf("sealing key: %w", err)
	}
	_, err = bucket.Create(ctx, sealKeyName, protocol.NewSealKey())
	if err != nil && !errors.Is(err, broker.ErrExists) {
		return nil, fmt.Errorf("sealing key: %w", err)
	}
	entry, err := bucket.Get(ctx, sealKeyName)
	if err != nil {
		return nil, fmt.Errorf("sealing key: %w", err)
	}
	return protocol.NewSealer(entry.Value) //nolint:wrapcheck // says what it was
}

// given returns the sealer of the configured key.
func (f sealFlags) given() (*protocol.Sealer, error) {
	key, err := base64.StdEncoding.DecodeString(f.SealKey)
	if err != nil {
		return nil, exitWith(exitUsage, "--seal-key is not base64")
	}
	sealer, err := protocol.NewSealer(key)
	if err != nil {
		return nil, exitWith(exitUsage, "--seal-key: %w", err)
	}
	return sealer, nil
}

// objects opens the object store. Its HTTP client dials our own endpoint only, so no guard stands in its way.
func (f s3Flags) objects(endpoint string, autoBuckets bool, limits workerFlags) (*object.Store, *httpstore.Client, error) {
	if endpoint == "" {
		return nil, nil, exitWith(exitUsage, "an S3 endpoint is needed: --s3-endpoint (COPYFLEET_S3_ENDPOINT)")
	}
	client := httpstore.NewClient(httpstore.Options{
		HeaderTimeout: limits.HeaderTimeout, IdleTimeout: limits.IdleTimeout, MaxIdlePerHost: idleConns(limits.Slots), UserAgent: userAgent(),
	})
	store, err := object.New(object.Config{
		Endpoint: endpoint, AccessKey: f.AccessKey, SecretKey: f.SecretKey, Region: f.Region, AutoBuckets: autoBuckets, SpoolDir: limits.SpoolDir,
		Transport: client,
	})
	if err != nil {
		client.Close()
		return nil, nil, exitWith(exitUsage, "--s3-endpoint: %w", err)
	}
	return store, client, nil
}

func idleConns(slots int) int { return max(slots, 8) + 8 }

func userAgent() string { return "copyfleet/" + version }

// fleetWorker is a worker with what it needs to be closed.
type fleetWorker struct {
	worker    *worker.Worker
	sandboxes openedSandboxes
	http      *httpstore.Client
}

// start joins a worker to its drivers.
func (f workerFlags) start(
	ctx context.Context, conn *broker.Conn, objects *object.Store, staging *object.Staging, sealer *protocol.Sealer, told *telemetry, log *slog.Logger,
) (*fleetWorker, error) {
	sandboxes, err := f.openSandboxes(ctx, objects, log)
	if err != nil {
		return nil, err
	}
	client := httpstore.NewClient(httpstore.Options{
		Guard: egress.New(f.EgressAllow), HeaderTimeout: f.HeaderTimeout, IdleTimeout: f.IdleTimeout, MinProgress: int64(f.MinProgress),
		MaxIdlePerHost: idleConns(f.Slots), UserAgent: userAgent(),
	})
	w, err := worker.New(ctx, worker.Config{
		ID: processID(), Pool: f.Pool, Slots: f.Slots, Drain: f.Drain, SpoolDir: f.SpoolDir, Logger: log, Metrics: told.metrics, Traces: told.traces,
		PartThreshold: int64(f.PartThreshold), PartSize: int64(f.PartSize), SpreadAfter: f.SpreadAfter,
		HostConcurrency: f.HostConcurrency, HostRequests: f.HostRequests, HostBytes: float64(f.HostBytes), HostPatience: f.HostPatience,
		TenantRequests: f.TenantRequests, TenantBytes: float64(f.TenantBytes),
	},
		conn, worker.Drivers{Sandboxes: sandboxes.SandboxDriver, HTTP: client, Objects: objects, Staging: staging}, sealer)
	if _, wrong := errors.AsType[*worker.ConfigError](err); wrong {
		return nil, errors.Join(exitWith(exitUsage, "%w", err), sandboxes.close())
	}
	if err != nil {
		return nil, errors.Join(err, sandboxes.close())
	}
	return &fleetWorker{worker: w, sandboxes: sandboxes, http: client}, nil
}

func (w *fleetWorker) close() error {
	w.http.Close()
	return w.sandboxes.close() //nolint:wrapcheck // says what it was
}

// loopback is what up may dial beside public addresses: it listens on loopback itself.
func loopback() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
}

func startAggregator(ctx context.Context, flags aggregatorFlags, conn *broker.Conn, told *telemetry, log *slog.Logger) (*aggregator.Aggregator, error) {
	cfg := aggregator.Config{ID: processID(), Retention: flags.Retention, PartsAfter: flags.PartsAfter, Logger: log, Metrics: told.metrics}
	return aggregator.New(ctx, cfg, conn) //nolint:wrapcheck // says what it was
}
