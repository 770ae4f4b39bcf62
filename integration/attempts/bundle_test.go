package attempts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/copyfleet/copyfleet/aggregator"
	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/memory"
	"github.com/copyfleet/copyfleet/worker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// places is a driver for every location type: what a test puts under a name is what is read and written there.
type places struct {
	mu      sync.Mutex
	sources map[string]storage.Source
	dests   map[string]storage.Destination
	temps   map[string][]string
}

func (p *places) Source(_, _ string, path string) storage.Source { return p.source(path) }
func (p *places) Destination(_, _, path, temp string, _ []string) storage.Destination {
	p.mu.Lock()
	p.temps[path] = append(p.temps[path], temp)
	p.mu.Unlock()
	return p.dest(path)
}
func (p *places) Get(url string, _ map[string]string) storage.Source      { return p.source(url) }
func (p *places) Put(url string, _ map[string]string) storage.Destination { return p.dest(url) }
func (p *places) PostForm(url string, _ map[string]string, _, _ string, _ map[string]string) storage.Destination {
	return p.dest(url)
}

type objects struct{ *places }

func (o objects) Source(bucket, key string) storage.Source { return o.source(bucket + "/" + key) }
func (o objects) Destination(bucket, key string) storage.Destination {
	return o.dest(bucket + "/" + key)
}

func (p *places) source(name string) storage.Source {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.sources[name]; s != nil {
		return s
	}
	return memory.Missing()
}

func (p *places) dest(name string) storage.Destination {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dests[name] == nil {
		p.dests[name] = &memory.Destination{}
	}
	return p.dests[name]
}

// content is what a memory destination holds.
func (p *places) content(name string) string {
	d, _ := p.dest(name).(*memory.Destination)
	data, _ := d.Bytes()
	return string(data)
}

// bundle is a broker with an aggregator, on which a test starts workers.
type bundle struct {
	*testing.T
	*places
	conn    *broker.Conn
	batches *broker.Bucket
	sealer  *protocol.Sealer
	workers int
	feeds   int
}

func newBundle(t *testing.T) *bundle {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	srv, err := broker.StartServer(broker.ServerConfig{Dir: t.TempDir(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	conn, err := broker.Connect(broker.Config{Server: srv, Name: t.Name(), Logger: quiet})
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
	t.Cleanup(b.background(fold.Run))
	return b
}

// background runs something until the returned function is called, which also waits for it.
func (b *bundle) background(run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background()) // ends with stop, which a cleanup may call
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			b.Errorf("it ended with %v", err)
		}
	})
}

func (b *bundle) work(cfg worker.Config) (stop func()) {
	b.Helper()
	b.workers++
	cfg.ID = fmt.Sprintf("w%d", b.workers)
	w, err := worker.New(b.Context(), cfg, b.conn, worker.Drivers{Sandboxes: b.places, HTTP: b.places, Objects: objects{b.places}}, b.sealer)
	if err != nil {
		b.Fatal(err)
	}
	stop = b.background(w.Run)
	b.Cleanup(stop)
	return stop
}

func src(name string) protocol.Location { return protocol.Location{Type: protocol.HTTPGet, URL: name} }
func dst(name string) protocol.Location {
	return protocol.Location{Type: protocol.SandboxFile, Sandbox: "s", Path: name}
}

const org protocol.OrgID = "ORG"

// submit publishes a batch that copies from the source "i" to the destination "/i" for each i.
func (b *bundle) submit(n int, adjust func(*protocol.Work)) protocol.BatchID {
	b.Helper()
	batch := protocol.NewBatchID()
	shard := protocol.ShardOf(org)
	var messages [][]byte
	for i := range n {
		w := protocol.Work{
			Version: protocol.WorkVersion, Org: org, Batch: batch, Index: i, Total: n,
			Lane: protocol.Interactive, Pool: protocol.DefaultPool, Shard: shard,
		}
		sealed, err := b.sealer.SealItem(w.Ref(), &protocol.ManifestItem{Src: src(fmt.Sprint(i)), Dest: dst(fmt.Sprint("/", i))})
		if err != nil {
			b.Fatal(err)
		}
		w.Sealed = sealed
		if adjust != nil {
			adjust(&w)
		}
		message, err := json.Marshal(w)
		if err != nil {
			b.Fatal(err)
		}
		messages = append(messages, message)
	}
	subject := protocol.WorkSubject(protocol.Interactive, protocol.DefaultPool, shard, org, batch)
	if _, err := b.conn.PublishChunk(b.Context(), protocol.GuardSubject(protocol.Interactive, org, batch, 0, 0), subject, messages); err != nil {
		b.Fatal(err)
	}
	if err := b.conn.Wake(broker.Shard{Lane: protocol.Interactive, Pool: protocol.DefaultPool, Index: shard}); err != nil {
		b.Fatal(err)
	}
	return batch
}

func (b *bundle) summary(batch protocol.BatchID) (protocol.Summary, bool) {
	b.Helper()
	entry, err := b.batches.Get(b.Context(), protocol.SummaryKey(org, batch))
	if errors.Is(err, broker.ErrNotFound) {
		return protocol.Summary{}, false
	}
	if err != nil {
		b.Fatal(err)
	}
	var s protocol.Summary
	if err := json.Unmarshal(entry.Value, &s); err != nil {
		b.Fatal(err)
	}
	return s, true
}

// receipts waits for the end of a batch.
func (b *bundle) receipts(batch protocol.BatchID) []protocol.Receipt {
	b.Helper()
	var s protocol.Summary
	b.eventually(func() bool {
		s, _ = b.summary(batch)
		return s.State.Final()
	})
	return s.Receipts
}

func (b *bundle) eventually(ok func() bool) {
	b.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(5 * time.Minute)
	defer limit.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit.C:
			b.Fatal("it did not come to that within five minutes")
		}
	}
}
