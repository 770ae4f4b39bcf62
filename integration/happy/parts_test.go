package happy

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

// TestUpWithPartsOfYours gives up a NATS and an S3: it starts none of its own, and what it keeps is in those.
func TestUpWithPartsOfYours(t *testing.T) {
	t.Parallel()
	minio := miniotest.Start(t)
	f := mixtest.NewRoles(t, minio)
	f.StartNATS(t)
	data := t.TempDir()
	p := f.Start(t, "up", "DATA="+data)
	if ready := p.Ready(t); ready["nats"] != f.NATS || ready["s3"] != minio.Endpoint {
		t.Errorf("it says %v; want %s and %s", ready, f.NATS, minio.Endpoint)
	}
	batch := f.Mixed(t, "mine", 10)
	called, err := f.API.Copy(t.Context(), f.Sandbox, map[string]string{"Idempotency-Key": "k"}, batch.Files())
	if err != nil || called.Status != http.StatusOK {
		t.Fatalf("status %d, %v: %s", called.Status, err, called.Body)
	}
	f.Check(t, called.Batch(), batch, limit)
	for _, part := range []string{"nats", "s3"} {
		if _, err := os.Stat(filepath.Join(data, part)); !os.IsNotExist(err) {
			t.Errorf("there is a %s in its data directory: %v", part, err)
		}
	}
	// A process with another data directory finds everything where it was.
	p.Kill9(t)
	f.Start(t, "up", "DATA="+t.TempDir())
	f.Check(t, called.Batch(), batch, limit)
}

// TestManyItemsOnManyWorkers runs one call of 5,000 files on the roles, which take it up in several chunks.
func TestManyItemsOnManyWorkers(t *testing.T) {
	t.Parallel()
	f := roles(t)
	const items = 5000
	content := random(1 << 10)
	source := mixtest.FromURL(f.Give("/1k", content))
	batch := make(mixtest.Batch, items)
	for i := range batch {
		name := "/many/" + numeral(i)
		batch[i] = mixtest.Copy{ID: name, Src: source, Dest: mixtest.ToSandbox(name), Content: content}
	}
	for i, r := range copies(t, f, batch.Files()) {
		if want := (result{ID: batch[i].ID, Success: true}); r != want {
			t.Fatalf("result %d: %+v, want %+v", i, r, want)
		}
	}
	if n := f.Asked("/1k"); n != items {
		t.Errorf("the source was asked %d times for %d items", n, items)
	}
	answer, err := f.API.Copy(t.Context(), f.Sandbox, map[string]string{"Prefer": "respond-async"}, batch.Files())
	if err != nil {
		t.Fatal(err)
	}
	workers := map[string]int{}
	for _, r := range f.Check(t, answer.Batch(), batch, limit) {
		workers[r.Attempts[len(r.Attempts)-1].Worker]++
	}
	if len(workers) != 2 {
		t.Errorf("the workers that took part: %v", workers)
	}
	if view, err := f.API.Batch(t.Context(), answer.Batch()); err != nil || view.State != protocol.BatchSucceeded || view.Counts["succeeded"] != items {
		t.Errorf("%+v, %v", view, err)
	}
}

// numeral keeps the names of many files in directories of a hundred.
func numeral(i int) string {
	digits := []byte{'0' + byte(i/1000), '0' + byte(i/100%10), '/', '0' + byte(i/10%10), '0' + byte(i%10)}
	return string(digits)
}
