package worker

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/hosts"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage/memory"
)

// TestPartsWaitForTheirHostOutsideOfTheirSlots has a host without a place, and more parts that want one than there are slots.
func TestPartsWaitForTheirHostOutsideOfTheirSlots(t *testing.T) {
	t.Parallel()
	k := newPartsKit(t, sourceOf(nil), &memory.Destination{})
	cfg := k.config("w1")
	cfg.Slots, cfg.HostConcurrency = 8, 1
	w, err := New(t.Context(), cfg, k.conn, Drivers{Sandboxes: k}, k.sealer)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	src := protocol.Location{Type: protocol.HTTPGet, URL: "http://slow.example/file"}
	there, err := w.hosts.Enter(ctx, hosts.Ask{Keys: []hosts.Key{{Side: hosts.Source, Host: w.copier.locatedAt(src)}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	part := func() *job {
		w.slots.take(true)
		return &job{
			ctx: ctx, cancel: cancel, delivery: &broker.Delivery{}, asked: &protocol.ManifestItem{Src: src},
			work: protocol.Work{Org: "O", Batch: "b", Lane: protocol.Bulk, Kind: protocol.KindPart},
		}
	}
	waiting := make([]*job, cfg.Slots/2)
	came := make([]error, len(waiting))
	var entering sync.WaitGroup
	for i := range waiting {
		waiting[i] = part()
		entering.Go(func() { came[i] = w.enterHosts(waiting[i]) })
	}
	away := func() int {
		w.slots.mu.Lock()
		defer w.slots.mu.Unlock()
		return w.slots.away + w.slots.awayBulk
	}
	until(t, "the parts wait away from their slots", func() bool { return away() == len(waiting) })
	var later *hosts.LaterError
	if err := w.enterHosts(part()); !errors.As(err, &later) || later.Resting {
		t.Errorf("one more part is told: %v", err)
	}
	if n := away(); n != len(waiting) {
		t.Errorf("%d parts wait away from their slots", n)
	}
	there.Leave()
	until(t, "one has the place", func() bool { return away() == len(waiting)-1 })
	cancel(errDraining)
	entering.Wait()
	entered := 0
	for i, j := range waiting {
		if came[i] == nil {
			entered++
			j.visit.Leave()
		} else if !errors.Is(came[i], errDraining) {
			t.Errorf("a part was told: %v", came[i])
		}
	}
	if entered != 1 || away() != 0 {
		t.Errorf("%d had the place, %d are still away", entered, away())
	}
}
