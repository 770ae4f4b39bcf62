package attempts

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/copyfleet/copyfleet/aggregator"
	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
)

// newRestartable is a bundle whose broker listens, so that it can go away and come back. The returned function stops it; the one
// that this returns starts it again.
func newRestartable(t *testing.T) (*bundle, func() (start func())) {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	cfg := broker.ServerConfig{Dir: t.TempDir(), Listen: "127.0.0.1:0", Logger: quiet}
	var current atomic.Pointer[broker.Server]
	begin := func() {
		srv, err := broker.StartServer(cfg)
		if err != nil {
			t.Fatal(err)
		}
		current.Store(srv)
	}
	begin()
	t.Cleanup(func() { current.Load().Close() })
	cfg.Listen = current.Load().URL()[len("nats://"):]
	conn, err := broker.Connect(broker.Config{URL: current.Load().URL(), Name: t.Name(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	if err := conn.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	batches, err := conn.Bucket(t.Context(), broker.BatchBucket)
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := protocol.NewSealer(make([]byte, protocol.SealKeySize))
	if err != nil {
		t.Fatal(err)
	}
	fold, err := aggregator.New(t.Context(), aggregator.Config{}, conn)
	if err != nil {
		t.Fatal(err)
	}
	b := &bundle{T: t, conn: conn, batches: batches, sealer: sealer}
	b.places = &places{sources: map[string]storage.Source{}, dests: map[string]storage.Destination{}, temps: map[string][]string{}}
	t.Cleanup(b.background(func(ctx context.Context) error { return fold.Run(ctx) }))
	return b, func() func() {
		current.Load().Close()
		return begin
	}
}
