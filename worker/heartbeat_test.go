package worker

import (
	"sync"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/storage/memory"
)

// TestHeldItemsAreExtendedWhileTheRecordIsWritten has the writing of the record take long: what is held stays with its worker.
func TestHeldItemsAreExtendedWhileTheRecordIsWritten(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	open := sync.OnceFunc(func() { close(gate) })
	defer open() // also if the test fails: the worker's end waits for the part
	data, dest := bytesOf(manyParts, 1), &memory.Destination{}
	k := newPartsKitOn(t, quickBroker(t), sourceOf(data), gated{dest, func(int) error { <-gate; return nil }})
	w, err := New(t.Context(), k.config("w1"), k.conn, Drivers{Sandboxes: k}, k.sealer)
	if err != nil {
		t.Fatal(err)
	}
	k.start(t, w)
	k.publish(t, nil)
	kept := func() (last time.Time) {
		for _, h := range w.claims.all() {
			w.claims.mu.Lock()
			last = h.lease.kept
			w.claims.mu.Unlock()
		}
		return last
	}
	until(t, "the item is begun", func() bool { return len(dest.Uploads()) > 0 })
	w.claims.writing.Lock()
	unlock := sync.OnceFunc(w.claims.writing.Unlock)
	defer unlock() // before the worker is stopped, which writes its claim
	for range 3 {  // one extension may be under way before the write that is held up
		before := kept()
		until(t, "the item is extended", func() bool { return kept().After(before) })
	}
	unlock()
	open()
	r := k.final(t)
	k.arrived(t, dest, &r, data)
}
