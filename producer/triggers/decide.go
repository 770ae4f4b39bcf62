package triggers

import (
	"slices"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/producer/events"
	"github.com/copyfleet/copyfleet/protocol"
)

// verdict is what becomes of an event that a rule matches.
type verdict string

// The verdicts. They are the outcomes of the metric.
const (
	undecided  verdict = "" // no reason against a copy was found yet
	copies     verdict = "copy"
	duplicate  verdict = "duplicate"
	superseded verdict = "superseded"
	knownSwept verdict = "known"
	waits      verdict = "parked"
	looped     verdict = "loop"
	refusal    verdict = "refused"
)

// Codes of refusals that no other package has.
const (
	codeLoop        = "loop"
	codeHops        = "too_many_hops"
	codeExpression  = "expression_failed"
	codeRuleDeleted = "rule_deleted"
	codeUnreadable  = "source_unreadable"
	codeTrail       = "trail_invalid"
	codeNotGranted  = "bucket_not_granted" // as that of a copy from there
	codeTooLarge    = "too_large"
	codeInternal    = "internal"

	codeRuleUnreadable = "rule_unreadable" // of the rule itself
)

// versionSlack is by how much an event must be later than an object that a sweep found to be taken for that of a later version: the event of a version
// is told a little after the object was written.
const versionSlack = 2 * time.Second

// mostTrail bounds a trail with the rule that is added to it, in bytes: S3 takes no more metadata of an object.
const mostTrail = 2 << 10

// unit is an event for one rule.
type unit struct {
	event  *events.Event
	rule   activeRule
	place  parked
	stored int64 // when the notification came, in ns
	mark   hash  // the fingerprint
	source hash
	etag   hash
	time   int64
	dest   hash // once it is rendered
	front  hash // the destination where it was in front of all others that wait; zero: none
	item   protocol.ManifestItem
	pool   string
	size   int  // of the notification's share in memory
	again  bool // it was parked before, or recorded as parked: it is counted as matched already
}

func newUnit(e *events.Event, rule activeRule, place parked, stored int64) *unit {
	name := rule.rule.Name
	return &unit{
		event: e, rule: rule, place: place, stored: stored,
		mark: fingerprint(name, e), source: sourceOf(name, e), etag: etagOf(e), time: nanoOf(e),
	}
}

// waiting are the events that wait for earlier copies to their destinations.
type waiting struct {
	queues  map[hash][]*unit // by destination, in the order of the events
	order   []hash           // of the destinations, which are looked at in turn
	prints  map[hash]struct{}
	sources map[hash]*unit // the last one of each source
	number  int
	bytes   int
}

func newWaiting() *waiting {
	return &waiting{queues: map[hash][]*unit{}, prints: map[hash]struct{}{}, sources: map[hash]*unit{}}
}

func (w *waiting) add(u *unit) {
	if len(w.queues[u.dest]) == 0 {
		w.order = append(w.order, u.dest)
	}
	w.queues[u.dest] = append(w.queues[u.dest], u)
	w.prints[u.mark] = struct{}{}
	if u.source != (hash{}) {
		w.sources[u.source] = u
	}
	w.number++
	w.bytes += u.size
}

// putBack puts an event in front of all others again.
func (w *waiting) putBack(u *unit) {
	w.add(u)
	queue := w.queues[u.dest]
	copy(queue[1:], queue)
	queue[0] = u
	if len(queue) > 1 && u.source != (hash{}) {
		for _, other := range queue {
			if other.source == u.source {
				w.sources[u.source] = other
			}
		}
	}
}

func (w *waiting) remove(u *unit) {
	queue := w.queues[u.dest]
	at := slices.Index(queue, u)
	if at < 0 {
		return
	}
	if queue = slices.Delete(queue, at, at+1); len(queue) == 0 {
		delete(w.queues, u.dest)
		w.order = slices.DeleteFunc(w.order, func(d hash) bool { return d == u.dest })
	} else {
		w.queues[u.dest] = queue
	}
	delete(w.prints, u.mark)
	if w.sources[u.source] == u {
		delete(w.sources, u.source)
	}
	w.number--
	w.bytes -= u.size
}

// less reports whether an object's version with sequencer a is older than one with b. Sequencers are hexadecimal numbers of any length. What has none
// is neither older nor newer.
func less(a, b string) bool {
	if a == "" || b == "" {
		return false
	}
	a, b = strings.TrimLeft(strings.ToLower(a), "0"), strings.TrimLeft(strings.ToLower(b), "0")
	if len(a) != len(b) {
		return len(a) < len(b)
	}
	return a < b
}

// before decides by what is remembered of the event and its source.
func (m *memory) before(w *waiting, u *unit) verdict {
	if _, ok := m.seen[u.mark]; ok {
		return duplicate
	}
	if _, ok := w.prints[u.mark]; ok {
		return duplicate
	}
	if u.source == (hash{}) || !u.event.Created() {
		return undecided
	}
	k, remembered := m.known[u.source]
	if u.event.Source != events.Sweep {
		return k.late(u)
	}
	if p := w.sources[u.source]; p != nil && covers(p.etag, p.time, u) || remembered && covers(k.etag, k.time, u) {
		return knownSwept
	}
	return undecided
}

// late decides on an event of an object that a sweep has found.
func (k known) late(u *unit) verdict {
	if k.swept == 0 || u.time == 0 {
		return undecided
	}
	// A sweep has found the object. The event of that very version comes late; it is older than the listing. That of an earlier one is older
	// than the version that was found.
	switch {
	case u.etag == k.etag && u.time <= k.swept:
		return duplicate
	case u.etag != k.etag && u.time <= k.time:
		return superseded
	}
	return undecided
}

// covers reports whether an event of a source tells of the version that a sweep found, or of a later one.
func covers(etag hash, at int64, swept *unit) bool {
	return etag == swept.etag || at > swept.time+int64(versionSlack)
}

// trailVerdict decides by the rules that the object came through. The object and its event are somebody else's: a trail may be anything.
func trailVerdict(trail []string, self string) (verdict, string, string) {
	joined := protocol.JoinTrail(trail)
	odd := func(r rune) bool { return r < ' ' || r > '~' }
	switch {
	case len(joined)+len(",")+len(self) > mostTrail || strings.ContainsFunc(joined, odd):
		return refusal, codeTrail, "The object's metadata x-amz-meta-" + protocol.TrailHeader + " is none that a rule writes."
	case slices.Contains(trail, self):
		return looped, codeLoop, "This rule wrote the object, or one that it was made of: " + strings.Join(trail, ", ") + "."
	case len(trail) >= MaxHops:
		return looped, codeHops, "The object came through as many rules as it may: " + strings.Join(trail, ", ") + "."
	}
	return undecided, "", ""
}

// trailOf reads the trail of an object from its metadata.
func trailOf(metadata map[string]string) []string {
	return protocol.SplitTrail(metadata[protocol.TrailHeader])
}

// after decides by what else goes to the same destination. older are events that wait there and that this one replaces. ended reports whether the last
// copy there has ended.
func (m *memory) after(w *waiting, u *unit, ended bool) (v verdict, older []*unit) {
	older, later := w.of(u)
	if later {
		return superseded, nil
	}
	last, ok := m.newest[u.dest]
	if !ok {
		return copies, older
	}
	if u.source != (hash{}) && last.source == u.source && less(u.event.Sequencer, last.sequencer) {
		return superseded, nil
	}
	// Another object may have been copied there after the later version of this one.
	if k := m.known[u.source]; k.dest == u.dest && less(u.event.Sequencer, k.sequencer) {
		return superseded, nil
	}
	if queue := w.queues[u.dest]; len(queue) > len(older) && u.front != u.dest || !ended {
		return waits, older
	}
	return copies, older
}

// of are the events of the same source that wait for the same destination and are older; later reports whether one is that is later.
func (w *waiting) of(u *unit) (older []*unit, later bool) {
	if u.source == (hash{}) {
		return nil, false
	}
	for _, p := range w.queues[u.dest] {
		switch {
		case p.source != u.source:
		case less(u.event.Sequencer, p.event.Sequencer):
			return nil, true
		case less(p.event.Sequencer, u.event.Sequencer), p.event.Source == events.Sweep, u.event.Source == events.Sweep:
			older = append(older, p)
		}
	}
	return older, false
}
