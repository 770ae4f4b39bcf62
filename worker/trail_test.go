package worker

import (
	"testing"

	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
)

// TestTrailTravels: what is written shows the rules that led to it, whoever moves the bytes. A copy that no rule asked for shows none.
func TestTrailTravels(t *testing.T) {
	t.Parallel()
	if storage.TrailName != protocol.TrailHeader {
		t.Fatalf("objects show %s, and events are looked through for %s", storage.TrailName, protocol.TrailHeader)
	}
	for _, itself := range []bool{false, true} {
		for _, trail := range [][]string{nil, {"ORG/one"}, {"ORG/one", "OTHER/two"}} {
			objects := newShelf("from", "content")
			objects.copies, objects.trails["from"] = itself, "ORG/former"
			b := newBench(t)
			b.copier.drivers.Objects = objects
			j := &job{work: protocol.Work{Org: "ORG"}, held: &held{}}
			j.asked = &protocol.ManifestItem{Src: onShelf("from"), Dest: onShelf("to"), Trail: trail}
			w := &Worker{}
			tr, err := w.transfer(t.Context(), j)
			if err != nil {
				t.Fatal(err)
			}
			tr.claimed, tr.fence = nil, allowed
			came, err := b.copier.copy(t.Context(), tr)
			if err != nil || (came.method == protocol.MethodServerCopy) != itself {
				t.Fatalf("it came to %q: %v", came.method, err)
			}
			if got := objects.trails["to"]; got != protocol.JoinTrail(trail) {
				t.Errorf("trail %q, copied by the store: %t: the object shows %q", trail, itself, got)
			}
		}
	}
}
