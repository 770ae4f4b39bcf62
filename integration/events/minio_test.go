package events

import (
	"fmt"
	"os"
	"testing"

	"github.com/copyfleet/copyfleet/producer/triggers"
)

// holds fails the test unless the file that a rule wrote for a key has the content.
func (f *fleet) holds(t *testing.T, rule, key, content string) {
	t.Helper()
	if got, err := os.ReadFile(f.OnDisk("/" + rule + "/" + key)); err != nil || string(got) != content {
		t.Errorf("the file of %q holds %.100q (%v), must hold %.100q", key, got, err, content)
	}
}

// TestMinIOPublishes writes objects of which MinIO tells in each of its ways.
func TestMinIOPublishes(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	for rule, arn := range map[string]string{"core": natsCore, "js": natsJetStream, "js-queue": natsQueued, "hook": webhook, "hook-queue": webhookQueued} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			const n = 20
			bucket := f.publishing(t, arn)
			f.apply(t, f.toSandbox(rule, bucket))
			for i := range n {
				f.puts(t, bucket, fmt.Sprintf("dir/%d.txt", i), fmt.Sprint("object ", i))
			}
			f.copied(t, rule, n)
			for i := range n {
				f.holds(t, rule, fmt.Sprintf("dir/%d.txt", i), fmt.Sprint("object ", i))
			}
			v := f.counts(t, rule, func(c triggers.Counts) bool { return c.Copies == n })
			if c := v.Counts; c.Matched != n || c.Duplicates+c.Superseded+c.Loops+c.Refused+c.Recovered != 0 {
				t.Errorf("the counts are %+v", c)
			}
			if v.Batch == "" || v.Version != 1 {
				t.Errorf("the rule is shown as %+v", v)
			}
			t.Logf("%d objects, %d copies", n, v.Counts.Copies)
		})
	}
}
