package sandbox_test

import (
	"testing"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/sandbox"
)

// discard is what a worker calls for an item that is not written any more.
func discard(t *testing.T, b *bench, path string, stale ...string) error {
	t.Helper()
	d, ok := b.store.Destination(org, box, path, "mine", stale).(interface{ Discard() error })
	if !ok {
		t.Fatal("a destination in a sandbox cannot discard")
	}
	return d.Discard()
}

func TestDiscardRemovesLeftoversOnly(t *testing.T) {
	b := newBench(t, sandbox.Options{})
	b.write(t, "/d/f", []byte("visible"))
	b.write(t, "/d/.copyfleet-dead1", []byte("half"))
	b.write(t, "/d/.copyfleet-other", []byte("half"))
	if err := discard(t, b, "/d/f", "dead1", "dead2"); err != nil {
		t.Fatal(err)
	}
	if left := b.hidden(t); len(left) != 1 || left[0] != b.file("/d/.copyfleet-other") {
		t.Errorf("left: %q, want only what belongs to another", left)
	}
	if err := discard(t, b, "/gone/f", "dead1"); err != nil {
		t.Errorf("without its directory: %v", err)
	}
	expectCode(t, discard(t, b, "/d/f", "../dead"), storage.Internal, "temp_invalid")
}
