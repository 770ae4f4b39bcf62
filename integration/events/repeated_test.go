package events

import (
	"slices"
	"testing"

	"github.com/copyfleet/copyfleet/producer/triggers"
)

// repeated sends notifications in a random order, and one in ten of them twice.
func repeated(t *testing.T, f *fleet) {
	t.Helper()
	const rule, n = "repeated", 200
	bucket, bodies := f.objects(t, n)
	f.apply(t, f.toSandbox(rule, bucket))
	again := publisher{fleet: f, again: true}.send(t.Context(), t, bodies)
	f.holdsAll(t, rule, n)
	c := f.counts(t, rule, func(c triggers.Counts) bool { return c.Matched >= n+again }).Counts
	if c.Copies != n || c.Duplicates < again || c.Matched != c.Copies+c.Duplicates {
		t.Errorf("of %d notifications, %d of them twice, the counts are %+v", n, again, c)
	}
	t.Logf("%d notifications, %d repeated: %d copies, %d duplicates", n, again, c.Copies, c.Duplicates)
}

// TestRepetitionsAreKnownAfterARestart sends everything once more after each process was killed.
func TestRepetitionsAreKnownAfterARestart(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	const rule, n = "restarted", 60
	bucket, bodies := f.objects(t, n)
	f.apply(t, f.toSandbox(rule, bucket))
	publisher{fleet: f}.send(t.Context(), t, bodies)
	f.copied(t, rule, n)
	f.roles["api"].Kill9(t)
	f.nats.Kill9(t)
	f.nats = f.StartNATS(t)
	f.roles["api"] = f.Start(t, "api")
	slices.Reverse(bodies)
	publisher{fleet: f}.send(t.Context(), t, bodies)
	c := f.counts(t, rule, func(c triggers.Counts) bool { return c.Matched >= 2*n }).Counts
	if c.Copies != n || c.Duplicates < n {
		t.Errorf("the counts are %+v", c)
	}
	f.holdsAll(t, rule, n)
}
