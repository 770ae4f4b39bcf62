package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// brokerFor starts a broker for a test.
func brokerFor(t testing.TB) *broker.Conn {
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
	setUp(t, conn)
	return conn
}

func bucketFor(t testing.TB, conn *broker.Conn, name string) *broker.Bucket {
	t.Helper()
	b, err := conn.Bucket(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func sealerFor(t testing.TB) *protocol.Sealer {
	t.Helper()
	sealer, err := protocol.NewSealer(make([]byte, protocol.SealKeySize))
	if err != nil {
		t.Fatal(err)
	}
	return sealer
}

func TestManifestPagesAreKeptWithinBounds(t *testing.T) {
	t.Parallel()
	conn := brokerFor(t)
	m := newManifests(bucketFor(t, conn, broker.ManifestBucket), bucketFor(t, conn, broker.BatchBucket), sealerFor(t))
	const pages = sheetsKept + 20
	for page := range pages {
		items := []protocol.ManifestItem{{ID: fmt.Sprint(page)}}
		sealed, err := m.sealer.SealPage("O", "b", page, items)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.pages.Put(t.Context(), protocol.ManifestKey("O", "b", 1, page), sealed); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second time some are read from the cache, others anew
		var asking sync.WaitGroup
		for page := range pages {
			for range 3 {
				asking.Go(func() {
					item, err := m.item(t.Context(), &protocol.Work{Org: "O", Batch: "b", Index: page * protocol.PageSize, Generation: 1})
					if err != nil || item.ID != fmt.Sprint(page) {
						t.Errorf("page %d: %+v, %v", page, item, err)
					}
				})
			}
		}
		asking.Wait()
		bytes := 0
		for _, s := range m.kept {
			bytes += s.bytes
		}
		if len(m.kept) != sheetsKept || m.used.Len() != sheetsKept || m.bytes != bytes {
			t.Errorf("%d pages of %d bytes are kept, want %d; the list has %d of %d bytes", len(m.kept), bytes, sheetsKept, m.used.Len(), m.bytes)
		}
	}
}

func TestManifestPageIsLoadedOnce(t *testing.T) {
	t.Parallel()
	m := newManifests(nil, nil, sealerFor(t))
	name := sheetName{org: "O", batch: "b", generation: 1}
	loading := &sheet{name: name, loaded: make(chan struct{})}
	m.kept[name] = loading
	stopped, stop := context.WithCancelCause(t.Context())
	stop(errDraining)
	if _, err := m.items(stopped, name); !errors.Is(err, errDraining) {
		t.Errorf("one that is told to stop waits for a page: %v", err)
	}
	got := make(chan []protocol.ManifestItem)
	for range 3 {
		go func() { // with a bucket of nil, a second load would panic
			items, _ := m.items(t.Context(), name)
			got <- items
		}()
	}
	loading.items = make([]protocol.ManifestItem, 5)
	close(loading.loaded)
	for range 3 {
		if n := len(<-got); n != 5 {
			t.Errorf("%d items, want 5", n)
		}
	}
}

func TestFailureToLoadIsNotKept(t *testing.T) {
	t.Parallel()
	conn := brokerFor(t)
	m := newManifests(bucketFor(t, conn, broker.ManifestBucket), bucketFor(t, conn, broker.BatchBucket), sealerFor(t))
	work := &protocol.Work{Org: "O", Batch: "b", Index: 1, Generation: 1}
	if _, err := m.item(t.Context(), work); !errors.Is(err, errGone) {
		t.Fatalf("the page of a removed batch: %v", err)
	}
	sealed, err := m.sealer.SealPage("O", "b", 0, []protocol.ManifestItem{{}, {ID: "one"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.pages.Put(t.Context(), protocol.ManifestKey("O", "b", 1, 0), sealed); err != nil {
		t.Fatal(err)
	}
	if item, err := m.item(t.Context(), work); err != nil || item.ID != "one" {
		t.Errorf("%+v, %v", item, err)
	}
	conn.Close()
	if _, err := m.item(t.Context(), &protocol.Work{Org: "O", Batch: "other", Generation: 1}); err == nil || errors.Is(err, errGone) || errors.Is(err, protocol.ErrSeal) {
		t.Errorf("without a broker: %v", err)
	}
}

// TestPageOfABatchThatWasRemovedIsNotTakenForThatOfItsSuccessor gives an id to another batch, as a caller does who uses a key again.
func TestPageOfABatchThatWasRemovedIsNotTakenForThatOfItsSuccessor(t *testing.T) {
	t.Parallel()
	conn := brokerFor(t)
	m := newManifests(bucketFor(t, conn, broker.ManifestBucket), bucketFor(t, conn, broker.BatchBucket), sealerFor(t))
	work := protocol.Work{Org: "O", Batch: "b", Generation: 1}
	for _, id := range []string{"old", "new"} {
		sealed, err := m.sealer.SealPage("O", "b", 0, []protocol.ManifestItem{{ID: id}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.pages.Put(t.Context(), protocol.ManifestKey("O", "b", 1, 0), sealed); err != nil {
			t.Fatal(err)
		}
		item, err := m.item(t.Context(), &work)
		if err != nil || item.ID != id {
			t.Fatalf("read %q, %v, want %q", item.ID, err, id)
		}
		for _, s := range m.kept {
			s.read = s.read.Add(-2 * sheetFresh)
		}
	}
	if m.used.Len() != 1 || len(m.kept) != 1 || m.bytes != sizeOf([]protocol.ManifestItem{{ID: "new"}}) {
		t.Errorf("%d and %d pages of %d bytes are kept", m.used.Len(), len(m.kept), m.bytes)
	}
}
