package broker_test

import (
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

func TestPartsComeWithTheirBatch(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	subject := protocol.WorkSubject(protocol.Bulk, protocol.DefaultPool, protocol.ShardOf(org), org, batch)
	for range 2 { // once more is no error: who takes them finds out
		for _, n := range []int{1, broker.MaxChunk} {
			if err := conn.PublishParts(t.Context(), subject, items(n)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, n := range []int{0, broker.MaxChunk + 1} {
		if err := conn.PublishParts(t.Context(), subject, items(n)); err == nil {
			t.Errorf("%d parts were taken", n)
		}
	}
	if got, want := len(fetchAll(t, conn, 3000)), 2*(1+broker.MaxChunk); got != want {
		t.Errorf("%d parts in the queue, want %d", got, want)
	}
	if err := conn.PublishParts(t.Context(), subject, items(10)); err != nil {
		t.Fatal(err)
	}
	if err := conn.Recall(t.Context(), protocol.Bulk, protocol.DefaultPool, org, batch); err != nil {
		t.Fatal(err)
	}
	if got := len(fetchAll(t, conn, 3000)); got != 0 {
		t.Errorf("%d parts are left of a batch that was recalled", got)
	}
}

func TestWhoWaitsForPartsIsTold(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	changes, stop, err := conn.WatchParts(org, batch, 7)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	for _, index := range []int{8, 7, 7} {
		if err := conn.PartsChanged(org, batch, index); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-changes:
	case <-time.After(4 * time.Minute):
		t.Error("who waits was not told")
	}
}
