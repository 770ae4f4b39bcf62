package events

import (
	"fmt"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/sourcegraph/conc/pool"

	"github.com/copyfleet/copyfleet/producer/triggers"
)

// overwritten are a few keys that are written again and again: MinIO tells of each version, not always in their order, and the last one must be in place
// in the end.
func overwritten(t *testing.T, f *fleet) {
	t.Helper()
	const rule, keys, times = "overwritten", 5, 20
	bucket := f.publishing(t, natsJetStream)
	if err := f.store.EnableVersioning(t.Context(), bucket); err != nil {
		t.Fatal(err)
	}
	f.apply(t, f.toSandbox(rule, bucket))
	writing := pool.New().WithErrors()
	for k := range keys {
		writing.Go(func() error {
			for n := range times {
				if _, err := f.put(t.Context(), bucket, fmt.Sprint("k", k), fmt.Append(nil, "time ", n)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := writing.Wait(); err != nil {
		t.Fatal(err)
	}
	c := f.counts(t, rule, func(c triggers.Counts) bool { return c.Copies+c.Superseded >= keys*times }).Counts
	f.copied(t, rule, c.Copies)
	for k := range keys {
		f.holds(t, rule, fmt.Sprint("k", k), fmt.Sprint("time ", times-1))
	}
	if c.Copies+c.Superseded != keys*times || c.Duplicates+c.Refused != 0 {
		t.Errorf("the counts are %+v", c)
	}
	t.Logf("%d keys written %d times: %d copies, %d superseded", keys, times, c.Copies, c.Superseded)
}

// inParts is an object that is uploaded in parts, and one that the store copies itself.
func inParts(t *testing.T, f *fleet) {
	t.Helper()
	const rule, size = "in-parts", 12 << 20
	bucket := f.publishing(t, natsJetStream)
	f.apply(t, f.toSandbox(rule, bucket))
	content := strings.Repeat("0123456789abcdef", size/16)
	if _, err := f.store.PutObject(t.Context(), bucket, "large", strings.NewReader(content), -1, minio.PutObjectOptions{PartSize: 5 << 20}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.store.CopyObject(t.Context(), minio.CopyDestOptions{Bucket: bucket, Object: "copied"}, minio.CopySrcOptions{Bucket: bucket, Object: "large"}); err != nil {
		t.Fatal(err)
	}
	f.copied(t, rule, 2)
	f.holds(t, rule, "large", content)
	f.holds(t, rule, "copied", content)
}
