package worker

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/memory"
)

// probed is an HTTP driver, and tells when its source is asked for.
type probed struct {
	source storage.Source
	opened chan struct{}
}

func (p *probed) Get(string, map[string]string) storage.Source      { return p }
func (p *probed) Put(string, map[string]string) storage.Destination { return nil }
func (p *probed) PostForm(string, map[string]string, string, string, map[string]string) storage.Destination {
	return nil
}

func (p *probed) Open(ctx context.Context) (*storage.Object, error) {
	p.opened <- struct{}{}
	return p.source.Open(ctx) //nolint:wrapcheck // as it is
}

// touched is a destination that tells when it is written.
type touched struct {
	storage.Destination

	puts chan struct{}
}

func (d *touched) Put(ctx context.Context, content storage.Content) (storage.Stored, error) {
	d.puts <- struct{}{}
	return d.Destination.Put(ctx, content) //nolint:wrapcheck // as it is
}

type earlyKit struct {
	*partsKit

	http *probed
	dest *touched
}

func newEarlyKit(t *testing.T) *earlyKit {
	t.Helper()
	k := &earlyKit{
		http: &probed{source: sourceOf(bytesOf(4096, 1)), opened: make(chan struct{}, 8)},
		dest: &touched{Destination: &memory.Destination{}, puts: make(chan struct{}, 8)},
	}
	k.partsKit = newPartsKit(t, nil, k.dest)
	return k
}

// worker is one that runs items from the kit's HTTP source to its destination.
func (k *earlyKit) worker(t *testing.T) *Worker {
	t.Helper()
	w, err := New(t.Context(), Config{ID: "w1", Slots: 4}, k.conn, Drivers{Sandboxes: k, HTTP: k.http}, k.sealer)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// listen starts a worker and returns when it takes work: what was there before counts as perhaps delivered before.
func (k *earlyKit) listen(t *testing.T, w *Worker) (stop func()) {
	t.Helper()
	stop = k.start(t, w)
	claims := bucketFor(t, k.conn, broker.ClaimBucket)
	until(t, "the worker tells that it lives", func() bool {
		_, err := claims.Get(t.Context(), protocol.Token("w1"))
		return err == nil
	})
	return stop
}

func interactive(item *protocol.ManifestItem, work *protocol.Work) {
	item.Src = protocol.Location{Type: protocol.HTTPGet, URL: "http://src.test/f"}
	work.Lane = protocol.Interactive
}

// TestSourceIsOpenedWhileTheClaimIsStored holds the claim up, and sees the source asked for.
func TestSourceIsOpenedWhileTheClaimIsStored(t *testing.T) {
	t.Parallel()
	k := newEarlyKit(t)
	w := k.worker(t)
	k.listen(t, w)
	w.claims.writing.Lock()
	unlock := sync.OnceFunc(w.claims.writing.Unlock)
	t.Cleanup(unlock) // before the worker is stopped, which writes its claim
	k.publish(t, interactive)
	until(t, "the source is asked for before the claim is stored", func() bool { return len(k.http.opened) > 0 })
	if len(k.dest.puts) > 0 {
		t.Error("the destination is written before the claim is stored")
	}
	unlock()
	until(t, "the item is copied", func() bool { return len(k.dest.puts) > 0 })
}

// TestNothingIsWrittenWithoutAClaim has an item find that its claim is not stored when its source is open.
func TestNothingIsWrittenWithoutAClaim(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	url, gets, _ := b.asked("content")
	tr := transfer{
		org: "O", src: protocol.Location{Type: protocol.HTTPGet, URL: url}, dest: protocol.Location{Type: protocol.SandboxFile, Sandbox: "a", Path: "/out"},
		temp: "0011", fence: allowed,
		claimed: func() error {
			if gets.Load() == 0 {
				t.Error("the claim is waited for before the source is asked for")
			}
			return errUnclaimed
		},
	}
	if _, err := b.copier.copy(t.Context(), tr); !errors.Is(err, errUnclaimed) {
		t.Errorf("the copy ends with %v", err)
	}
	if _, there, err := b.copier.there(t.Context(), tr); there || err != nil {
		t.Errorf("there is something at the destination, or %v", err)
	}
	tr.conflict = protocol.SkipIfThere
	tr.claimed = func() error { return errUnclaimed }
	gets.Store(0)
	if _, err := b.copier.copy(t.Context(), tr); !errors.Is(err, errUnclaimed) || gets.Load() > 0 {
		t.Errorf("with a policy that looks at the destination the copy ends with %v, and %d requests", err, gets.Load())
	}
}

// TestNothingComesOfAnUnclaimedItem has an item fail whose claim is not stored: it is to be handed back, not to be told of.
func TestNothingComesOfAnUnclaimedItem(t *testing.T) {
	t.Parallel()
	w := unwatched(t)
	j := &job{
		work: protocol.Work{Org: "O", Batch: "b", Kind: protocol.KindWaiting}, asked: &protocol.ManifestItem{}, held: &held{},
		delivery: &broker.Delivery{}, clearance: newClearance(),
	}
	j.ctx, j.cancel = context.WithCancelCause(t.Context())
	defer j.cancel(nil)
	j.clearance.stored(broker.ErrUnavailable)
	res := w.attempt(t.Context(), j)
	if !errors.Is(res.abandoned, errUnclaimed) || !errors.Is(res.abandoned, broker.ErrUnavailable) || res.failure != nil {
		t.Errorf("it comes to %v, failure %v", res.abandoned, res.failure)
	}
}

// TestWhatMayBeginBeforeItsClaim: an item that killed its worker comes again, and must not do so uncharged for ever.
func TestWhatMayBeginBeforeItsClaim(t *testing.T) {
	t.Parallel()
	fresh := protocol.Work{Lane: protocol.Interactive}
	for name, c := range map[string]struct {
		change   func(*protocol.Work)
		repeated bool
		early    bool
	}{
		"fresh":            {func(*protocol.Work) {}, false, true},
		"delivered before": {func(*protocol.Work) {}, true, false},
		"bulk":             {func(w *protocol.Work) { w.Lane = protocol.Bulk }, false, false},
		"a retry":          {func(w *protocol.Work) { w.Attempts = make([]protocol.Attempt, 1) }, false, false},
		"looked up again":  {func(w *protocol.Work) { w.Recheck = true }, false, false},
		"a removal":        {func(w *protocol.Work) { w.Sweep = true }, false, false},
		"a part":           {func(w *protocol.Work) { w.Kind = protocol.KindPart }, false, false},
		"a notice":         {func(w *protocol.Work) { w.Kind = protocol.KindWebhook }, false, false},
	} {
		work := fresh
		c.change(&work)
		early, rest := split([]*job{{work: work, delivery: &broker.Delivery{Repeated: c.repeated}}})
		if len(early)+len(rest) != 1 || (len(early) == 1) != c.early {
			t.Errorf("%s: %d early, %d not", name, len(early), len(rest))
		}
	}
}
