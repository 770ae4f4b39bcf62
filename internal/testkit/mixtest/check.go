package mixtest

import (
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// HiddenPrefix begins the names of files that are not to be seen yet.
const HiddenPrefix = ".copyfleet-"

// Check waits for the end of a batch and holds it to the invariant. It returns the receipts in index order.
func (w *World) Check(t testing.TB, id string, batch Batch, limit time.Duration) []protocol.Receipt {
	t.Helper()
	view := w.API.WaitFinal(t, id, limit)
	receipts, err := w.API.Receipts(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if view.Total != len(batch) || len(receipts) != len(batch) {
		t.Fatalf("batch %s of %d items has a total of %d and %d receipts", id, len(batch), view.Total, len(receipts))
	}
	counted := map[string]int{}
	var bytes int64
	for i := range receipts {
		counted[string(receipts[i].State)]++
		bytes += receipts[i].Bytes
		w.checkItem(t, i, &receipts[i], &batch[i])
	}
	for state, n := range view.Counts {
		if n != counted[state] {
			t.Errorf("batch %s counts %d %s, of its receipts %d are", id, n, state, counted[state])
		}
	}
	if view.Bytes != bytes {
		t.Errorf("batch %s counts %d bytes, its receipts %d", id, view.Bytes, bytes)
	}
	w.CheckNothingHidden(t)
	return receipts
}

func (w *World) checkItem(t testing.TB, index int, r *protocol.Receipt, c *Copy) {
	t.Helper()
	if r.Index != index || r.ID != c.ID {
		t.Errorf("receipt %d is of item %d, %q; must be %q", index, r.Index, r.ID, c.ID)
	}
	if c.Fails != "" {
		if r.State != protocol.ItemFailed || r.Failure == nil || r.Failure.Class != c.Fails {
			t.Errorf("item %s: %s, %+v; must fail with class %s", c.ID, r.State, r.Failure, c.Fails)
		}
		return
	}
	if r.State == protocol.ItemFailed && r.Failure != nil && c.MayFail != "" && r.Failure.Class == c.MayFail {
		return
	}
	if r.State != protocol.ItemSucceeded {
		t.Errorf("item %s: %s, %+v", c.ID, r.State, r.Failure)
		return
	}
	if r.Bytes != int64(len(c.Content)) || r.SHA256 != SHA256(c.Content) {
		t.Errorf("item %s: the receipt tells %d bytes, %s; the source had %d, %s", c.ID, r.Bytes, r.SHA256, len(c.Content), SHA256(c.Content))
	}
	arrived, err := w.Arrived(t.Context(), c)
	if err != nil {
		t.Errorf("item %s succeeded, but: %v", c.ID, err)
		return
	}
	if SHA256(arrived) != r.SHA256 {
		t.Errorf("item %s: the destination holds %d bytes, %s; the receipt tells %d, %s", c.ID, len(arrived), SHA256(arrived), r.Bytes, r.SHA256)
	}
}

// goneLimit is how long an item that is copied once more after a crash, although it had its outcome, may keep its hidden file after its
// batch has ended.
const goneLimit = 240 * time.Second

// CheckNothingHidden fails the test if a hidden file stays in the sandbox.
func (w *World) CheckNothingHidden(t testing.TB) {
	t.Helper()
	var left []string // not looked at once more: another copy of the same world may have begun meanwhile
	Until(goneLimit, func() bool { left = w.hidden(); return len(left) == 0 })
	for _, name := range left {
		t.Errorf("left behind: %s", name)
	}
}

// Hidden is the number of hidden files in the sandbox now.
func (w *World) Hidden() int { return len(w.hidden()) }

func (w *World) hidden() []string {
	var names []string
	_ = filepath.WalkDir(w.Dir, func(name string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(filepath.Base(name), HiddenPrefix) {
			names = append(names, name)
		}
		return nil // what vanishes meanwhile is not left behind
	})
	return names
}
