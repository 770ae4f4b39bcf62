package attempts

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/memory"
	"github.com/copyfleet/copyfleet/worker"
)

// station is a host: every source on it opens, or fails, as the station is.
type station struct {
	mu     sync.Mutex
	fail   error // nil: it works
	opens  int
	failed int
}

func (s *station) Open(ctx context.Context) (*storage.Object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opens++
	if s.fail != nil {
		s.failed++
		return nil, s.fail
	}
	return memory.NewSource([]byte("x")).Open(ctx)
}

func (s *station) become(err error) (failed int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
	return s.failed
}

// travel submits a batch of n items whose i-th reads from the host that where tells.
func (b *bundle) travel(n, attempts int, where func(i int) (host string, at *station)) protocol.BatchID {
	b.Helper()
	batch := protocol.NewBatchID()
	shard := protocol.ShardOf(org)
	messages := make([][]byte, n)
	for i := range n {
		host, at := where(i)
		url := fmt.Sprintf("http://%s/%d", host, i)
		b.mu.Lock()
		b.sources[url] = at
		b.mu.Unlock()
		w := protocol.Work{
			Version: protocol.WorkVersion, Org: org, Batch: batch, Index: i, Total: n, Lane: protocol.Bulk, Pool: protocol.DefaultPool, Shard: shard,
			MaxAttempts: attempts,
		}
		var err error
		if w.Sealed, err = b.sealer.SealItem(w.Ref(), &protocol.ManifestItem{Src: src(url), Dest: dst(fmt.Sprintf("/%s-%d", batch, i))}); err != nil {
			b.Fatal(err)
		}
		if messages[i], err = protocol.Encode(w); err != nil {
			b.Fatal(err)
		}
	}
	subject := protocol.WorkSubject(protocol.Bulk, protocol.DefaultPool, shard, org, batch)
	if _, err := b.conn.PublishChunk(b.Context(), protocol.GuardSubject(protocol.Bulk, org, batch, 0, 0), subject, messages); err != nil {
		b.Fatal(err)
	}
	if err := b.conn.Wake(broker.Shard{Lane: protocol.Bulk, Pool: protocol.DefaultPool, Index: shard}); err != nil {
		b.Fatal(err)
	}
	return batch
}

func TestItemsOfADeadHostWaitUncharged(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	dead, healthy := &station{}, &station{}
	dead.become(storage.Errorf(storage.Unavailable, "source_refused", "open", "x", "connection refused"))
	b.work(worker.Config{Slots: 16})
	const items = 200
	batch := b.travel(2*items, 0, func(i int) (string, *station) {
		if i%2 == 0 {
			return "dead.example", dead
		}
		return "healthy.example", healthy
	})
	b.eventually(func() bool { s, _ := b.summary(batch); return s.Tally.Succeeded == items && s.Tally.Retrying == items })
	page := b.page(batch)
	waiting, charged := 0, 0
	for _, r := range page {
		if r.State != protocol.ItemRetrying {
			continue
		}
		charged += len(r.Attempts)
		if r.Failure != nil && r.Failure.Code == "host_rest" {
			waiting++
			if r.Failure.Host != "dead.example:80" || r.RetryAt.IsZero() || len(r.Attempts) > 1 {
				t.Errorf("item %d waits so: %+v %+v", r.Index, r, r.Failure)
			}
		}
	}
	if failed := dead.become(nil); charged > failed || failed > 64 || waiting < items-64 {
		t.Errorf("%d wait for the host, %d attempts are charged, the host was asked %d times", waiting, charged, failed)
	}
	b.eventually(func() bool { s, _ := b.summary(batch); return s.State == protocol.BatchSucceeded })
}

// page reads the receipts of a batch that has more than one page.
func (b *bundle) page(batch protocol.BatchID) []protocol.Receipt {
	b.Helper()
	var all []protocol.Receipt
	for n := range 2 {
		entry, err := b.batches.Get(b.Context(), protocol.PageKey(org, batch, n))
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, decodePage(b.T, entry.Value)...)
	}
	return all
}

func TestRetryAfterHoldsForAllItemsOfTheHost(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	at := &station{}
	at.become(&storage.Error{Class: storage.Throttled, Code: "source_http_429", Op: "open", Subject: "x", Message: "slow down", RetryAfter: 30 * time.Second})
	b.work(worker.Config{Slots: 8})
	const items = 60
	batch := b.travel(items, 0, func(int) (string, *station) { return "busy.example", at })
	b.eventually(func() bool { s, _ := b.summary(batch); return s.Tally.Retrying == items })
	if failed := at.become(nil); failed > 8 {
		t.Errorf("the host was asked %d times after it had asked for a pause", failed)
	}
	b.eventually(func() bool { s, _ := b.summary(batch); return s.State == protocol.BatchSucceeded })
}

func TestAHostThatNeverComesBackEndsItsItems(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	dead := &station{}
	dead.become(storage.Errorf(storage.Unavailable, "source_refused", "open", "x", "connection refused"))
	b.work(worker.Config{Slots: 8, HostPatience: time.Second})
	const items = 40
	batch := b.travel(items, 2, func(int) (string, *station) { return "gone.example", dead })
	b.eventually(func() bool { s, _ := b.summary(batch); return s.State == protocol.BatchFailed })
	s, _ := b.summary(batch)
	for _, r := range s.Receipts {
		if len(r.Attempts) != 2 || r.Failure.Class != protocol.Unavailable {
			t.Errorf("item %d: %+v", r.Index, r)
		}
	}
}

func decodePage(t *testing.T, value []byte) []protocol.Receipt {
	t.Helper()
	var p protocol.Page
	if err := json.Unmarshal(value, &p); err != nil {
		t.Fatal(err)
	}
	return p.Receipts
}
