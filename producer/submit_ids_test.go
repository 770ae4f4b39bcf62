package producer

import "testing"

// TestIDsAreHeldApart adds a million ids and finds each again.
func TestIDsAreHeldApart(t *testing.T) {
	t.Parallel()
	limit := &budget{limit: 64 << 20}
	set := newIDSet(&share{budget: limit})
	const n = 1_000_000
	for i := range n {
		if known, room := set.add(itoa(i)); known || !room {
			t.Fatalf("id %d: known %v, room %v", i, known, room)
		}
	}
	for i := range n {
		if known, _ := set.add(itoa(i)); !known {
			t.Fatalf("id %d is not known", i)
		}
	}
	if len(set.table)*8 != 16<<20 {
		t.Errorf("the table has %d bytes", len(set.table)*8)
	}
}
