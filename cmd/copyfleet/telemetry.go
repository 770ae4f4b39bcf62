package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/observe"
	"github.com/copyfleet/copyfleet/protocol"
)

// metricsFlags are those of the roles that have no API.
type metricsFlags struct {
	MetricsListen string `help:"Address of /metrics and /healthz. Off unless given; the API shows its own metrics." name:"metrics-listen" env:"COPYFLEET_METRICS_LISTEN" placeholder:"HOST:PORT"`
}

// telemetry is what a process tells about itself.
type telemetry struct {
	metrics *observe.Metrics
	traces  *observe.Traces
	http    *http.Server
	served  chan error
	log     *slog.Logger
}

// telemetryClose bounds how long spans may take to leave at the end.
const telemetryClose = 5 * time.Second

// startTelemetry begins to measure. With an address it serves what it measures there.
func startTelemetry(ctx context.Context, role, listen string, log *slog.Logger) (*telemetry, error) {
	metrics, err := observe.NewMetrics()
	if err != nil {
		return nil, err //nolint:wrapcheck // says what it was
	}
	traces, err := observe.NewTraces(ctx, role, version, os.Getenv)
	if err != nil {
		return nil, errors.Join(err, metrics.Close(ctx))
	}
	t := &telemetry{metrics: metrics, traces: traces, log: log}
	if listen == "" {
		return t, nil
	}
	if err := t.serve(ctx, listen); err != nil {
		t.close(ctx)
		return nil, err
	}
	return t, nil
}

func (t *telemetry) serve(ctx context.Context, listen string) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return fmt.Errorf("--metrics-listen %s: %w", listen, err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", t.metrics.Handler())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, "{\"status\":\"ok\",\"version\":%q}\n", version) // the caller is gone if this fails
	})
	t.http = &http.Server{
		Handler: mux, ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readHeaderTimeout, WriteTimeout: time.Minute, MaxHeaderBytes: maxHeaderBytes,
	}
	t.served = make(chan error, 1)
	go func() { t.served <- t.http.Serve(listener) }()
	t.log.Info("metrics are shown", "url", "http://"+listener.Addr().String()+"/metrics")
	return nil
}

// close sends what is left, and stops serving.
func (t *telemetry) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), telemetryClose)
	defer cancel()
	err := errors.Join(t.traces.Close(ctx), t.metrics.Close(ctx))
	if t.http != nil {
		err = errors.Join(err, t.http.Shutdown(ctx))
		if served := <-t.served; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
	}
	if err != nil {
		t.log.Warn("some of what was measured is lost", "error", err)
	}
}

// watchQueue shows what waits in the lanes of the default pool.
func (t *telemetry) watchQueue(conn *broker.Conn) error {
	return t.metrics.WatchQueue(func(ctx context.Context) ([]observe.Queue, error) { //nolint:wrapcheck // says what it was
		var queues []observe.Queue
		for _, lane := range protocol.Lanes {
			q := observe.Queue{Lane: string(lane)}
			for shard := range protocol.Shards {
				at := broker.Shard{Lane: lane, Pool: protocol.DefaultPool, Index: shard}
				backlog, err := conn.Backlog(ctx, at)
				if err != nil {
					return queues, err //nolint:wrapcheck // says what it was
				}
				q.Waiting, q.Held = q.Waiting+backlog.Waiting, q.Held+backlog.Held
				if backlog.Waiting == 0 {
					continue
				}
				age, err := conn.Oldest(ctx, at)
				if err != nil {
					return queues, err //nolint:wrapcheck // says what it was
				}
				q.Age = max(q.Age, age)
			}
			queues = append(queues, q)
		}
		return queues, nil
	})
}
