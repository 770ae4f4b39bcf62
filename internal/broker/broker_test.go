package broker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		beServer(dir)
	}
	goleak.VerifyTestMain(m)
}

// connect starts a server of the test's own and connects to it.
func connect(t *testing.T) *broker.Conn {
	t.Helper()
	return connectWaiting(t, 0)
}

// connectWaiting is connect with an AckWait.
func connectWaiting(t *testing.T, ackWait time.Duration) *broker.Conn {
	t.Helper()
	server, err := broker.StartServer(broker.ServerConfig{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	conn, err := broker.Connect(broker.Config{Server: server, Name: t.Name(), Logger: slog.New(slog.DiscardHandler), AckWait: ackWait})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute) // a busy machine may need them
	defer cancel()
	if err := conn.Setup(ctx); err != nil {
		t.Fatal(err)
	}
	return conn
}

func items(n int) [][]byte {
	list := make([][]byte, n)
	for i := range list {
		list[i] = fmt.Appendf(nil, `{"index":%d}`, i)
	}
	return list
}

const (
	org   protocol.OrgID   = "ORG-a"
	batch protocol.BatchID = "bat_x"
)

func publish(t *testing.T, conn *broker.Conn, lane protocol.Lane, org protocol.OrgID, n int) {
	t.Helper()
	shard := protocol.ShardOf(org)
	_, err := conn.PublishChunk(t.Context(), protocol.GuardSubject(lane, org, batch, 0, 0), protocol.WorkSubject(lane, protocol.DefaultPool, shard, org, batch), items(n))
	if err != nil {
		t.Fatal(err)
	}
}

func TestChunkIsStoredOnce(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	guard := protocol.GuardSubject(protocol.Bulk, org, batch, 0, 0)
	subject := protocol.WorkSubject(protocol.Bulk, protocol.DefaultPool, protocol.ShardOf(org), org, batch)
	first, err := conn.PublishChunk(t.Context(), guard, subject, items(broker.MaxChunk))
	if err != nil {
		t.Fatal(err)
	}
	if first != 2 {
		t.Errorf("the first item has sequence %d, want 2, after the guard", first)
	}
	if _, err := conn.PublishChunk(t.Context(), guard, subject, items(broker.MaxChunk)); !errors.Is(err, broker.ErrCommitted) {
		t.Errorf("publishing it again: %v, want ErrCommitted", err)
	}
	if got := len(fetchAll(t, conn, 2000)); got != broker.MaxChunk {
		t.Errorf("%d items in the queue, want %d", got, broker.MaxChunk)
	}
	for _, n := range []int{0, broker.MaxChunk + 1} {
		if _, err := conn.PublishChunk(t.Context(), guard+".x", subject, items(n)); err == nil {
			t.Errorf("a chunk of %d items was taken", n)
		}
	}
}

func TestRedeliveryIsMarked(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	in, err := conn.Intake(t.Context(), protocol.DefaultPool)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	publish(t, conn, protocol.Interactive, org, 1)
	if err := conn.Wake(broker.Shard{Lane: protocol.Interactive, Pool: protocol.DefaultPool, Index: protocol.ShardOf(org)}); err != nil {
		t.Fatal(err)
	}
	first := next(t, in)
	if first.Repeated {
		t.Error("a fresh item is marked as repeated")
	}
	if err := first.Extend(t.Context()); err != nil {
		t.Errorf("extend: %v", err)
	}
	if err := first.Nak(0); err != nil {
		t.Fatal(err)
	}
	second := next(t, in)
	if !second.Repeated {
		t.Error("an item that was handed back is not marked as repeated")
	}
	if second.Sequence <= first.Sequence {
		t.Errorf("delivery %d came after %d", second.Sequence, first.Sequence)
	}
	if err := second.Ack(); err != nil {
		t.Fatal(err)
	}
}

// next waits for one delivery.
func next(t *testing.T, in *broker.Intake) *broker.Delivery {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	for {
		got, err := in.Fetch(ctx, 1, 1)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) == 1 {
			return got[0]
		}
		if err := in.Wait(ctx, true, nil); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRetryComesWhenDue(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	in, err := conn.Intake(t.Context(), protocol.DefaultPool)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	var due time.Time
	var want string
	for index, wait := 3, 300*time.Millisecond; ; index, wait = index+1, 4*wait {
		due, want = time.Now().Add(wait), fmt.Sprint("again ", index)
		for range 2 { // planning twice plans once
			ref := protocol.Ref{Org: org, Batch: batch, Index: index}
			if err := conn.PlanRetry(t.Context(), ref, 1, protocol.DefaultPool, 2, due, []byte(want)); err != nil {
				t.Fatal(err)
			}
		}
		if time.Now().Before(due) {
			break // else the first plan may have fired before the second was stored
		}
	}
	got := next(t, in)
	for ; string(got.Data) != want; got = next(t, in) {
		if err := got.Ack(); err != nil {
			t.Fatal(err)
		}
	}
	if early := time.Until(due); early > 0 {
		t.Errorf("came %s early", early)
	}
	if err := got.Ack(); err != nil {
		t.Fatal(err)
	}
	left, err := in.Fetch(t.Context(), 5, 5)
	if err != nil || slices.ContainsFunc(left, func(d *broker.Delivery) bool { return string(d.Data) == want }) {
		t.Errorf("%d more deliveries, %v", len(left), err)
	}
}

// TestGuardStaysWhileItsChunkWaits trims beside a chunk that nobody has taken: a repeated call must still find its guard.
func TestGuardStaysWhileItsChunkWaits(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	subject := protocol.WorkSubject(protocol.Bulk, protocol.DefaultPool, protocol.ShardOf(org), org, batch)
	guard := func(chunk int) string { return protocol.GuardSubject(protocol.Bulk, org, batch, 0, chunk) }
	for chunk := range 2 {
		if _, err := conn.PublishChunk(t.Context(), guard(chunk), subject, items(3)); err != nil {
			t.Fatal(err)
		}
	}
	in, err := conn.Intake(t.Context(), protocol.DefaultPool)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	for range 3 { // the first chunk is done, then one item of the second is held
		for _, d := range mustFetch(t, in, 1) {
			if err := d.Ack(); err != nil {
				t.Fatal(err)
			}
		}
	}
	trim := func() {
		t.Helper()
		floors, err := conn.Floors(t.Context())
		if err == nil {
			err = conn.Trim(t.Context(), floors, 1)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, func() bool {
		trim()
		published, err := conn.Published(t.Context(), protocol.Bulk, guard(0))
		return err == nil && !published
	})
	mustFetch(t, in, 1)
	trim()
	if _, err := conn.PublishChunk(t.Context(), guard(1), subject, items(3)); !errors.Is(err, broker.ErrCommitted) {
		t.Errorf("a chunk that waits was published again: %v", err)
	}
}

func mustFetch(t *testing.T, in *broker.Intake, n int) []*broker.Delivery {
	t.Helper()
	got, err := in.Fetch(t.Context(), n, n)
	if err != nil || len(got) != n {
		t.Fatalf("fetched %d of %d, %v", len(got), n, err)
	}
	return got
}

// TestDroppedKeysLeaveNothing lists a bucket through which more keys went than a list may have.
func TestDroppedKeysLeaveNothing(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	bucket, err := conn.Bucket(t.Context(), broker.ClaimBucket)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1100 {
		key := fmt.Sprint("worker-", i)
		if _, err := bucket.Put(t.Context(), key, []byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := bucket.Drop(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := bucket.Put(t.Context(), "alive", []byte("x")); err != nil {
		t.Fatal(err)
	}
	entries, err := bucket.List(t.Context(), ">")
	if err != nil || len(entries) != 1 || entries[0].Key != "alive" {
		t.Errorf("%d entries, %v", len(entries), err)
	}
}

func TestKeysAreRemovedTogetherOrNotAtAll(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	bucket, err := conn.Bucket(t.Context(), broker.BatchBucket)
	if err != nil {
		t.Fatal(err)
	}
	first, second := broker.Entry{Key: "a.b.accept"}, broker.Entry{Key: "a.b.summary"}
	for _, e := range []*broker.Entry{&first, &second} {
		if e.Revision, err = bucket.Create(t.Context(), e.Key, []byte("value")); err != nil {
			t.Fatal(err)
		}
	}
	stale := second
	stale.Revision--
	if err := bucket.DropTogether(t.Context(), first, stale); !errors.Is(err, broker.ErrConflict) {
		t.Fatalf("with a revision that is not that of the key: %v", err)
	}
	if keys, err := bucket.Keys(t.Context(), ">"); err != nil || len(keys) != 2 {
		t.Fatalf("%q, %v", keys, err)
	}
	if err := bucket.DropTogether(t.Context(), first, second); err != nil {
		t.Fatal(err)
	}
	if keys, err := bucket.Keys(t.Context(), ">"); err != nil || len(keys) != 0 {
		t.Fatalf("%q are left, %v", keys, err)
	}
	if _, err := bucket.Update(t.Context(), broker.Change{Key: first.Key, Value: []byte("new")}); err != nil {
		t.Error(err)
	}
}

// TestWatchEndsWithItsConnection restarts the server, which forgets the watch.
func TestWatchEndsWithItsConnection(t *testing.T) {
	t.Parallel()
	cfg := broker.ServerConfig{Dir: t.TempDir(), Listen: mixtest.FreeAddress(t), Logger: slog.New(slog.DiscardHandler)}
	server, err := broker.StartServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { server.Close() }()
	conn, err := broker.Connect(broker.Config{URL: server.URL(), Name: t.Name(), Logger: cfg.Logger})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	bucket, err := conn.Bucket(t.Context(), broker.ControlBucket)
	if err != nil {
		t.Fatal(err)
	}
	events, err := bucket.Watch(t.Context(), ">")
	if err != nil {
		t.Fatal(err)
	}
	if first := <-events; !first.Current {
		t.Fatalf("%+v", first)
	}
	server.Close()
	if server, err = broker.StartServer(cfg); err != nil {
		t.Fatal(err)
	}
	select {
	case e, ok := <-events:
		if ok {
			t.Errorf("%+v", e)
		}
	case <-time.After(4 * time.Minute):
		t.Fatal("the watch goes on")
	}
}
