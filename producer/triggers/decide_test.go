package triggers

import (
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/producer/events"
	"github.com/copyfleet/copyfleet/producer/rules"
	"github.com/copyfleet/copyfleet/protocol"
)

func TestLess(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"1", "2", true},
		{"2", "1", false},
		{"1", "1", false},
		{"9", "A", true},
		{"9", "a", true},
		{"FF", "100", true},
		{"0000FF", "100", true},
		{"100", "00FF", false},
		{"", "1", false},
		{"1", "", false},
	} {
		if got := less(c.a, c.b); got != c.want {
			t.Errorf("less(%q, %q) is %v", c.a, c.b, got)
		}
	}
}

func TestTrailDecides(t *testing.T) {
	t.Parallel()
	long := make([]string, MaxHops)
	for i := range long {
		long[i] = "ORG/other"
	}
	for _, c := range []struct {
		trail []string
		want  string
	}{
		{nil, ""},
		{[]string{"ORG/other", "ORG2/rule"}, ""},
		{[]string{"ORG/rule"}, codeLoop},
		{[]string{"ORG/other", "ORG/rule", "ORG/third"}, codeLoop},
		{long, codeHops},
		{long[1:], ""},
	} {
		if _, code, _ := trailVerdict(c.trail, "ORG/rule"); code != c.want {
			t.Errorf("%v: %q, want %q", c.trail, code, c.want)
		}
	}
	got := trailOf(map[string]string{protocol.TrailHeader: "A/b, C/d"})
	if len(got) != 2 || got[1] != "C/d" {
		t.Errorf("trail %q", got)
	}
}

// TestSweptObjects holds what is remembered of an object against what a sweep finds, and the other way round.
func TestSweptObjects(t *testing.T) {
	t.Parallel()
	base := time.Unix(1_700_000_000, 0)
	rule := activeRule{rule: &rules.Rule{Name: "r"}}
	event := func(source events.Source, etag string, at time.Duration) *unit {
		e := &events.Event{Source: source, Type: "s3:ObjectCreated:Put", Bucket: "inbox", Key: "k", ETag: etag, Time: base.Add(at)}
		if source == events.Sweep {
			e.Sweep = etag + at.String()
		}
		return newUnit(e, rule, parked{}, base.Add(time.Hour).UnixNano())
	}
	for name, c := range map[string]struct {
		first, then *unit
		want        verdict
	}{
		"the sweep finds what was copied":            {event(events.S3, "a", 0), event(events.Sweep, "a", 0), knownSwept},
		"a later version was copied":                 {event(events.S3, "b", time.Minute), event(events.Sweep, "a", 0), knownSwept},
		"a version of nearly the same time":          {event(events.S3, "b", time.Second), event(events.Sweep, "a", 0), undecided},
		"an earlier version was copied":              {event(events.S3, "a", 0), event(events.Sweep, "b", time.Minute), undecided},
		"the event of what was found comes late":     {event(events.Sweep, "a", 0), event(events.S3, "a", time.Second), duplicate},
		"the event of an earlier version comes late": {event(events.Sweep, "b", time.Minute), event(events.S3, "a", 0), superseded},
		"a later version than was found":             {event(events.Sweep, "a", 0), event(events.S3, "b", time.Minute), undecided},
		"the same content, written after":            {event(events.Sweep, "a", 0), event(events.S3, "a", 2*time.Hour), undecided},
	} {
		m := newMemory()
		copiedOf(m, c.first)
		if got := m.before(newWaiting(), c.then); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// TestEarlierVersionIsSuperseded has an earlier version of an object come late, also after another object was copied to the same destination.
func TestEarlierVersionIsSuperseded(t *testing.T) {
	t.Parallel()
	event := func(key, sequencer, dest string) *unit {
		e := &events.Event{Source: events.S3, Type: "s3:ObjectCreated:Put", Bucket: "inbox", Key: key, Sequencer: sequencer}
		u := newUnit(e, activeRule{rule: &rules.Rule{Name: "r"}}, parked{}, 0)
		u.dest = hashOf(dest)
		return u
	}
	for name, c := range map[string]struct {
		copied []*unit
		then   *unit
		want   verdict
	}{
		"after a later one":                       {[]*unit{event("a", "100", "x")}, event("a", "FF", "x"), superseded},
		"after an earlier one":                    {[]*unit{event("a", "FF", "x")}, event("a", "100", "x"), copies},
		"of another object":                       {[]*unit{event("a", "100", "x")}, event("b", "FF", "x"), copies},
		"to another destination":                  {[]*unit{event("a", "100", "x")}, event("a", "FF", "y"), copies},
		"after a later one and another object":    {[]*unit{event("a", "100", "x"), event("b", "1", "x")}, event("a", "FF", "x"), superseded},
		"after an earlier one and another object": {[]*unit{event("a", "FF", "x"), event("b", "1", "x")}, event("a", "100", "x"), copies},
	} {
		m := newMemory()
		for _, u := range c.copied {
			copiedOf(m, u)
		}
		if got, _ := m.after(newWaiting(), c.then, true); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func copiedOf(m *memory, u *unit) {
	c := copied{Print: u.mark, Source: u.source, Dest: u.dest, Sequencer: u.event.Sequencer, ETag: u.etag, Time: u.time}
	if u.event.Source == events.Sweep {
		c.Swept = u.stored
	}
	m.n++
	m.copied(&record{N: m.n, Rules: []string{"r"}}, &c)
}

// TestMemoryIsBounded remembers more than there is room for.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.most = 1000
	for n := range uint64(10_000) {
		r := &record{N: n + 1, At: time.Unix(int64(n), 0), Rules: []string{"r"}, Submitted: n + 1}
		key := string(rune(n))
		m.copied(r, &copied{Print: hashOf("p", key), Source: hashOf("s", key), Dest: hashOf("d", key)})
		m.recorded(n+1, r)
	}
	if len(m.seen) != 1000 || len(m.newest) != 1000 || len(m.known) != 1000 || len(m.entries)-m.head != 1000 || cap(m.entries) > 8000 {
		t.Errorf("%d, %d, %d, %d, %d remembered", len(m.seen), len(m.newest), len(m.known), len(m.entries)-m.head, cap(m.entries))
	}
	// Records of which nothing is remembered are not needed, whatever their age; of the others those that are too old.
	if keep, old := m.expire(time.Unix(0, 0)); keep != 9001 || old != 9000 {
		t.Errorf("kept from %d, %d are old", keep, old)
	}
	if keep, old := m.expire(time.Unix(9500, 0)); keep != 9501 || old != 9500 || len(m.entries)-m.head != 500 || len(m.seen) != 500 {
		t.Errorf("kept from %d, %d are old, %d remembered", keep, old, len(m.entries)-m.head)
	}
}
