package events

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/producer/triggers"
)

// versions is a rule that copies each version of a key, which the peer gives by its sequencer, to the same file.
func (f *fleet) versions(name, bucket string) string {
	return fmt.Sprintf(`name: %[1]s
match: {source: s3, bucket: %[2]s}
copy:
  id: "{{key}} {{sequencer}}"
  src: {type: httpGetLocation, url: "%[3]s/%[1]s/{{key}}/{{sequencer}}"}
  dest: {type: sandboxFileLocation, sandbox: %[4]s, path: "/%[1]s/{{key}}"}
`, name, bucket, f.URL, f.Sandbox)
}

// laterVersionWins sends the notifications of each key's versions in any order.
func laterVersionWins(t *testing.T, f *fleet) {
	t.Helper()
	const rule, keys, each = "any-order", 40, 5
	const bucket = "not-looked-at-by-any-order"
	f.apply(t, f.versions(rule, bucket))
	var records []record
	for k := range keys {
		for v := range each {
			f.Give(fmt.Sprintf("/%s/k%d/%s", rule, k, sequencer(v)), fmt.Appendf(nil, "version %d of %d", v, k))
			records = append(records, record{bucket: bucket, key: fmt.Sprint("k", k), sequencer: sequencer(v), etag: fmt.Sprint("e", v)})
		}
	}
	rand.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
	for len(records) > 0 {
		n := min(1+rand.IntN(20), len(records))
		f.notify(t, records[:n]...)
		records = records[n:]
	}
	c := f.counts(t, rule, func(c triggers.Counts) bool { return c.Copies+c.Superseded == keys*each }).Counts
	f.copied(t, rule, c.Copies)
	for k := range keys {
		f.holds(t, rule, fmt.Sprint("k", k), fmt.Sprintf("version %d of %d", each-1, k))
	}
	if c.Superseded == 0 || c.Copies < keys || c.Duplicates+c.Refused+c.Loops != 0 {
		t.Errorf("the counts are %+v", c)
	}
	t.Logf("%d versions of %d keys in any order: %d copied, %d superseded, the last one everywhere", keys*each, keys, c.Copies, c.Superseded)
}

// laterVersionWaits has a version come while an earlier one is being copied, and a third one while the second waits.
func laterVersionWaits(t *testing.T, f *fleet) {
	t.Helper()
	const rule, bucket = "waits", "not-looked-at-by-waits"
	f.apply(t, f.versions(rule, bucket))
	gate := make(chan struct{})
	at := func(v int) string { return fmt.Sprintf("/%s/k/%s", rule, sequencer(v)) }
	of := func(v int) record { return record{bucket: bucket, key: "k", sequencer: sequencer(v)} }
	f.GiveHalf(at(1), []byte("version 1, which takes its time"), gate)
	for v := 2; v <= 3; v++ {
		f.Give(at(v), fmt.Append(nil, "version ", v))
	}
	f.notify(t, of(1))
	if !mixtest.Until(comes, func() bool { return f.Asked(at(1)) > 0 }) {
		t.Fatal("the first version is not being copied")
	}
	f.notify(t, of(2))
	if !mixtest.Until(comes, func() bool { v, err := f.view(t.Context(), rule); return err == nil && v.Counts.Waiting == 1 }) {
		t.Error("the second version does not wait")
	}
	f.notify(t, of(3))
	f.notify(t, record{bucket: bucket, key: "k", sequencer: sequencer(0)})
	if !mixtest.Until(comes, func() bool { v, err := f.view(t.Context(), rule); return err == nil && v.Counts.Superseded == 2 }) {
		t.Error("the second version is not superseded by the third, or the one before the first is not by the first")
	}
	if n := f.Asked(at(2)) + f.Asked(at(3)); n != 0 {
		t.Errorf("later versions were asked for %d times while the first was being copied", n)
	}
	close(gate)
	f.copied(t, rule, 2)
	f.holds(t, rule, "k", "version 3")
	if c := f.counts(t, rule, func(c triggers.Counts) bool { return c.Copies == 2 && c.Matched >= 4 }).Counts; c.Superseded != 2 || c.Matched != 4 || f.Asked(at(2)) != 0 {
		t.Errorf("the counts are %+v, the second version was asked for %d times", c, f.Asked(at(2)))
	}
}
