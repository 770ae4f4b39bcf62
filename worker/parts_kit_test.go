package worker

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/memory"
)

const (
	partsLimit = 300 * time.Second // until what must happen has happened
	testPart   = 1 << 20
	manyParts  = 5*testPart + 3
)

// partsKit is a broker with an aggregator that only keeps parts, and the two ends of one item.
type partsKit struct {
	conn    *broker.Conn
	sealer  *protocol.Sealer
	records partRecords
	source  storage.Source
	dest    storage.Destination
	staging ObjectDriver // nil: no upload sessions are published

	receipts chan protocol.Receipt
	ref      protocol.Ref

	keeping sync.Mutex // held while a page is read and written: of two at once one would be lost

	mu     sync.Mutex
	states []protocol.PartReport   // all that were reported
	known  int                     // those of them that stand in a page
	words  []protocol.UploadReport // as well
}

func newPartsKit(t *testing.T, source storage.Source, dest storage.Destination) *partsKit {
	t.Helper()
	return newPartsKitOn(t, brokerFor(t), source, dest)
}

func newPartsKitOn(t *testing.T, conn *broker.Conn, source storage.Source, dest storage.Destination) *partsKit {
	t.Helper()
	k := &partsKit{
		conn: conn, sealer: sealerFor(t), records: partRecords{bucketFor(t, conn, broker.PartBucket)}, source: source, dest: dest,
		receipts: make(chan protocol.Receipt, 16), ref: protocol.Ref{Org: "O", Batch: "b"},
	}
	ctx, cancel := context.WithCancel(context.Background())
	var folding sync.WaitGroup
	folding.Go(func() { k.fold(ctx, t) })
	t.Cleanup(func() {
		cancel()
		folding.Wait()
	})
	return k
}

// quickBroker is a broker whose items come again soon.
func quickBroker(t *testing.T) *broker.Conn {
	t.Helper()
	return brokerWaiting(t, 3*time.Second)
}

// brokerWaiting is a broker with an AckWait.
func brokerWaiting(t *testing.T, ackWait time.Duration) *broker.Conn {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	server, err := broker.StartServer(broker.ServerConfig{Dir: t.TempDir(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	conn, err := broker.Connect(broker.Config{Server: server, Name: t.Name(), Logger: quiet, AckWait: ackWait})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	setUp(t, conn)
	return conn
}

// setUp sets a broker up, and gives a busy machine the time that it needs.
func setUp(t testing.TB, conn *broker.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), partsLimit)
	defer cancel()
	if err := conn.Setup(ctx); err != nil {
		t.Fatal(err)
	}
}

// Source, and the following, implement [SandboxDriver].
func (k *partsKit) Source(string, string, string) storage.Source { return k.source }

func (k *partsKit) Destination(string, string, string, string, []string) storage.Destination {
	return k.dest
}

// fold keeps the parts that are reported, as an aggregator does.
func (k *partsKit) fold(ctx context.Context, t *testing.T) {
	reports, err := k.conn.Reports(ctx)
	if err != nil {
		t.Error(err)
		return
	}
	defer reports.Close()
	for {
		select {
		case <-ctx.Done():
			return
		case b := <-reports.Bundles():
			var bundle protocol.ReportBundle
			if err := json.Unmarshal(b.Data, &bundle); err != nil {
				t.Errorf("a bundle cannot be read: %v: %s", err, b.Data)
				return
			}
			for i := range bundle.Parts {
				if err := k.keep(ctx, &bundle.Parts[i]); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}
			k.mu.Lock()
			k.words = append(k.words, bundle.Uploads...)
			k.mu.Unlock()
			_ = b.Done()
			for i := range bundle.Reports {
				k.receipts <- bundle.Reports[i].Receipt
			}
		}
	}
}

func (k *partsKit) keep(ctx context.Context, r *protocol.PartReport) error {
	k.keeping.Lock()
	defer k.keeping.Unlock()
	k.mu.Lock()
	k.states = append(k.states, *r)
	k.mu.Unlock()
	plan, revision, err := k.records.plan(ctx, r.Ref)
	if err != nil || revision == 0 || plan.Upload != r.State.Upload {
		return err
	}
	number := protocol.PartPageOf(r.Ref.Part)
	page, err := k.records.page(ctx, r.Ref, number)
	if err != nil {
		return err
	}
	if page.Upload != plan.Upload {
		page = protocol.PartPage{Version: protocol.PartVersion, Upload: plan.Upload}
	}
	state := r.State
	if state.Failure != nil {
		state.Epoch = r.Epoch
	}
	page.Parts = slices.DeleteFunc(page.Parts, func(s protocol.PartState) bool { return s.Number == state.Number })
	page.Parts = append(page.Parts, state)
	value, err := protocol.Encode(page)
	if err != nil {
		return err
	}
	if _, err := k.records.bucket.Put(ctx, protocol.PartPageKey(r.Ref.Org, r.Ref.Batch, r.Ref.Index, number), value); err != nil {
		return err
	}
	k.mu.Lock()
	k.known++
	k.mu.Unlock()
	if _, revision, err = k.records.plan(ctx, r.Ref); err == nil && revision == 0 { // it was removed meanwhile
		err = k.records.remove(ctx, r.Ref)
	}
	if err != nil {
		return err
	}
	return k.conn.PartsChanged(r.Ref.Org, r.Ref.Batch, r.Ref.Index)
}

func (k *partsKit) reported() []protocol.PartReport {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.states)
}

// kept waits until so many reports of parts stand where the next owner of their item finds them: what was reported takes its time to come there.
func (k *partsKit) kept(t *testing.T, reports int) {
	t.Helper()
	until(t, "the parts are known", func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.known >= reports
	})
}

// config is that of a worker which copies in parts whatever it can.
func (k *partsKit) config(id string) Config {
	return Config{ID: id, Slots: 4, PartThreshold: testPart, PartSize: testPart, SpreadAfter: time.Hour, Drain: time.Minute}
}

// run starts a worker. stop ends it, and returns when it has ended.
func (k *partsKit) run(t *testing.T, cfg Config) (stop func()) {
	t.Helper()
	w, err := New(t.Context(), cfg, k.conn, Drivers{Sandboxes: k, Staging: k.staging}, k.sealer)
	if err != nil {
		t.Fatal(err)
	}
	return k.start(t, w)
}

// start starts a worker that was made already.
func (k *partsKit) start(t *testing.T, w *Worker) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// work is the message of the item.
func (k *partsKit) work(t *testing.T, change func(*protocol.ManifestItem, *protocol.Work)) protocol.Work {
	t.Helper()
	item := protocol.ManifestItem{
		ID:   "item",
		Src:  protocol.Location{Type: protocol.SandboxFile, Sandbox: "a", Path: "/in"},
		Dest: protocol.Location{Type: protocol.SandboxFile, Sandbox: "a", Path: "/out"},
	}
	work := protocol.Work{
		Version: protocol.WorkVersion, Org: k.ref.Org, Batch: k.ref.Batch, Total: 1, Lane: protocol.Bulk, Pool: protocol.DefaultPool,
		Shard: protocol.ShardOf(k.ref.Org), ID: item.ID, MaxAttempts: 3,
	}
	if change != nil {
		change(&item, &work)
	}
	sealed, err := k.sealer.SealItem(k.ref, &item)
	if err != nil {
		t.Fatal(err)
	}
	work.Sealed = sealed
	return work
}

// publish puts the item into the queue.
func (k *partsKit) publish(t *testing.T, change func(*protocol.ManifestItem, *protocol.Work)) {
	t.Helper()
	work := k.work(t, change)
	data, err := protocol.Encode(&work)
	if err != nil {
		t.Fatal(err)
	}
	subject := protocol.WorkSubject(work.Lane, work.Pool, work.Shard, work.Org, work.Batch)
	if err := k.conn.PublishParts(t.Context(), subject, [][]byte{data}); err != nil {
		t.Fatal(err)
	}
	if err := k.conn.Wake(broker.Shard{Lane: work.Lane, Pool: work.Pool, Index: work.Shard}); err != nil {
		t.Fatal(err)
	}
}

// final waits for the last receipt of the item.
func (k *partsKit) final(t *testing.T) protocol.Receipt {
	t.Helper()
	for {
		if r := k.next(t); r.State.Final() {
			return r
		}
	}
}

func (k *partsKit) next(t *testing.T) protocol.Receipt {
	t.Helper()
	select {
	case r := <-k.receipts:
		return r
	case <-time.After(partsLimit):
		t.Fatal("the item has no outcome")
	}
	return protocol.Receipt{}
}

// clean reports what is left of the item's records.
func (k *partsKit) clean(t *testing.T) {
	t.Helper()
	until(t, "the records of the parts are removed", func() bool {
		keys, err := k.records.bucket.Keys(t.Context(), protocol.PartFilter(k.ref.Org, k.ref.Batch, k.ref.Index))
		return err == nil && len(keys) == 0
	})
}

func until(t *testing.T, what string, yes func() bool) {
	t.Helper()
	deadline := time.NewTimer(partsLimit)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !yes() {
		select {
		case <-deadline.C:
			t.Fatalf("it does not come to pass that %s", what)
		case <-tick.C:
		}
	}
}

// bytesOf are bytes that differ from part to part.
func bytesOf(n int, seed byte) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(i*7+i>>13) ^ seed
	}
	return data
}

func sourceOf(data []byte) *memory.Source {
	return &memory.Source{Data: data, ETag: `"v1"`, ContentType: "application/x-parts"}
}

// opaque is a destination whose parts cannot be read before they are visible.
type opaque struct{ storage.PartDestination }

// gated asks before a part is written.
type gated struct {
	*memory.Destination

	gate func(number int) error
}

func (d gated) PutPart(ctx context.Context, upload string, part storage.Part) (storage.PartStored, error) {
	if err := d.gate(part.Number); err != nil {
		return storage.PartStored{}, err
	}
	return d.Destination.PutPart(ctx, upload, part) //nolint:wrapcheck // as it is
}
