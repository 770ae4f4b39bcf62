package events

import (
	"fmt"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"

	"github.com/copyfleet/copyfleet/producer/triggers"
	"github.com/copyfleet/copyfleet/protocol"
)

// trail is what the metadata of an object say that it came through.
func (f *fleet) trail(t *testing.T, bucket, key string) string {
	t.Helper()
	info, err := f.store.StatObject(t.Context(), bucket, key, minio.StatObjectOptions{})
	if err != nil {
		t.Fatalf("%s: %v", key, err)
	}
	return info.Metadata.Get("X-Amz-Meta-" + protocol.TrailHeader)
}

// countObjects is how many objects there are in a bucket.
func (f *fleet) countObjects(t *testing.T, bucket string) int {
	t.Helper()
	n := 0
	for object := range f.store.ListObjects(t.Context(), bucket, minio.ListObjectsOptions{Recursive: true}) {
		if object.Err != nil {
			t.Fatal(object.Err)
		}
		n++
	}
	return n
}

// looped fails the test unless a rule has refused n events for a code, and shows it.
func (f *fleet) looped(t *testing.T, rule, code string, n int) {
	t.Helper()
	v := f.counts(t, rule, func(c triggers.Counts) bool { return c.Loops == n })
	if v.Counts.Refused != 0 || v.Counts.Duplicates != 0 {
		t.Errorf("%s counts %+v", rule, v.Counts)
	}
	if len(v.Problems) == 0 {
		t.Errorf("%s tells of no problem", rule)
	}
	for _, p := range v.Problems {
		if p.Code != code || p.Message == "" || p.Event == "" || p.At.IsZero() {
			t.Errorf("%s tells of the problem %+v, must be %s", rule, p, code)
		}
	}
}

// triggersItself is a rule whose copies lie where it looks.
func triggersItself(t *testing.T, f *fleet) {
	t.Helper()
	const rule, n = "itself", 10
	bucket := f.publishing(t, natsJetStream)
	f.apply(t, toBucket(rule, bucket, "", bucket, "out/"))
	for i := range n {
		f.puts(t, bucket, fmt.Sprint("in/", i), fmt.Sprint("object ", i))
	}
	f.copied(t, rule, n)
	f.looped(t, rule, "loop", n)
	f.copied(t, rule, n)
	if objects := f.countObjects(t, bucket); objects != 2*n {
		t.Errorf("there are %d objects, must be %d", objects, 2*n)
	}
	if trail := f.trail(t, bucket, "out/0"); trail != f.API.Org+"/"+rule {
		t.Errorf("the copy came through %q", trail)
	}
	t.Logf("%d objects, %d copies that trigger their rule, %d refused", n, n, n)
}

// triggerEachOther are two rules, each of which copies to where the other looks.
func triggerEachOther(t *testing.T, f *fleet) {
	t.Helper()
	const there, back, n = "there", "back", 10
	a, b := f.publishing(t, natsCore), f.publishing(t, webhook)
	f.apply(t, toBucket(there, a, "", b, "x/"), toBucket(back, b, "", a, "y/"))
	for i := range n {
		f.puts(t, a, fmt.Sprint(i), fmt.Sprint("object ", i))
	}
	f.copied(t, there, n)
	f.copied(t, back, n)
	f.looped(t, there, "loop", n)
	f.copied(t, there, n)
	if inA, inB := f.countObjects(t, a), f.countObjects(t, b); inA != 2*n || inB != n {
		t.Errorf("there are %d and %d objects, must be %d and %d", inA, inB, 2*n, n)
	}
	org := f.API.Org
	if trail := strings.ReplaceAll(f.trail(t, a, "y/0"), " ", ""); trail != org+"/"+there+","+org+"/"+back {
		t.Errorf("the copy of the copy came through %q", trail)
	}
	if content, err := f.API.Object(t.Context(), a, "y/0"); err != nil || string(content) != "object 0" {
		t.Errorf("the copy of the copy holds %q, %v", content, err)
	}
	t.Logf("%d objects there and back, %d refused", n, n)
}

// tooManyHops are more rules in a row than an object may come through, none of them twice.
func tooManyHops(t *testing.T, f *fleet) {
	t.Helper()
	bucket := f.publishing(t, natsJetStream)
	rules := make([]string, triggers.MaxHops+1)
	for i := range rules {
		rules[i] = toBucket(fmt.Sprint("hop-", i), bucket, fmt.Sprintf("p%d/", i), bucket, fmt.Sprintf("p%d/", i+1))
	}
	f.apply(t, rules...)
	f.puts(t, bucket, "p0/x", "far")
	f.looped(t, fmt.Sprint("hop-", triggers.MaxHops), "too_many_hops", 1)
	for i := range triggers.MaxHops {
		f.copied(t, fmt.Sprint("hop-", i), 1)
	}
	if objects := f.countObjects(t, bucket); objects != 1+triggers.MaxHops {
		t.Errorf("there are %d objects, must be %d", objects, 1+triggers.MaxHops)
	}
}
