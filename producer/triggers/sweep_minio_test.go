package triggers

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/protocol"
)

// minioStore is a bucket of a real MinIO.
type minioStore struct{ *minio.Client }

func (s minioStore) Stat(context.Context, string, string, string) (Object, error) {
	return Object{}, ErrNoObject
}

func (s minioStore) List(ctx context.Context, bucket, prefix string, visit func(Object) bool) error {
	for o := range s.ListObjectsIter(ctx, bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
		if o.Err != nil {
			return o.Err
		}
		if !visit(Object{Key: o.Key, ETag: strings.Trim(o.ETag, `"`), Size: o.Size, Modified: o.LastModified}) {
			return nil
		}
	}
	return ctx.Err()
}

// write puts an object, and returns its ETag.
func (s minioStore) write(t *testing.T, bucket, key, text string) string {
	t.Helper()
	up, err := s.PutObject(t.Context(), bucket, key, strings.NewReader(text), int64(len(text)), minio.PutObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return up.ETag
}

// TestSweepOfMinIO goes the whole way of a sweep: MinIO lists, NATS stores, the org's loop decides. What was told of is known, whatever its key; what was
// not is recovered, once; its late event is a repetition; what was replaced is recovered again, and what was deleted is not listed.
func TestSweepOfMinIO(t *testing.T) {
	t.Parallel()
	server := miniotest.Shared(t)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	client, err := minio.New(strings.TrimPrefix(server.Endpoint, "http://"), &minio.Options{
		Creds: credentials.NewStaticV4(server.AccessKey, server.SecretKey, ""), Transport: transport,
	})
	if err != nil {
		t.Fatal(err)
	}
	store, bucket := minioStore{client}, server.NewBucket(t)
	stage := newStage(t, copyRule)
	stage.desk.all = true
	s, err := New(t.Context(), Config{Sweep: -1, Logger: slog.New(slog.DiscardHandler)}, stage.conn, stage.sealer, stage.desk, store)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan struct{})
	go func() { defer close(ended); s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	apply(t, s, strings.NewReplacer("name: copy", "name: ingest", "{source: s3, bucket: inbox}", "{source: s3, prefix: raw/, bucket: "+bucket+"}",
		"bucket: inbox,", "bucket: "+bucket+",").Replace(copyRule))

	keys := []string{"raw/plain", "raw/a b", "raw/a+b", "raw/100%", "raw/%41", "raw/ü/日本", `raw/"q"&<x>`, "raw/a=b;c", "raw/deep/er/x"}
	etags, written := map[string]string{}, map[string]time.Time{}
	tell := func(key string, sequencer int) {
		raw := notification("s3:ObjectCreated:Put", key, fmt.Sprintf("%016X", sequencer), etags[key], "", written[key])
		raw["Records"].([]any)[0].(map[string]any)["s3"].(map[string]any)["bucket"] = map[string]any{"name": bucket}
		stage.publish(protocol.EventS3, raw)
	}
	for i, key := range keys {
		etags[key], written[key] = store.write(t, bucket, key, key), time.Now()
		if i%2 == 0 {
			tell(key, i+1)
		}
	}
	store.write(t, bucket, "other/x", "x")
	told := (len(keys) + 1) / 2
	expect := func(all bool, listed, known, recovered int) {
		t.Helper()
		got := swept(t, s, all)
		if got.State != sweepDone || got.Listed != listed || got.Known != known || got.Recovered != recovered || got.Refused != 0 {
			t.Errorf("%+v, want %d listed, %d known, %d recovered", got, listed, known, recovered)
		}
	}
	expect(false, len(keys), told, len(keys)-told)
	expect(true, len(keys), len(keys), 0)
	store.write(t, bucket, keys[0], "another text")
	if err := client.RemoveObject(t.Context(), bucket, keys[2], minio.RemoveObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	tell(keys[1], 99) // late
	expect(false, len(keys)-1, len(keys)-2, 1)
	expect(false, len(keys)-1, len(keys)-1, 0)
	if got := len(stage.desk.items()); got != len(keys)+1 {
		t.Errorf("%d copies of %d versions", got, len(keys)+1)
	}
}
