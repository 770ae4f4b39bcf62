package producer

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/notification"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/producer/events"
)

// TestMinIOTellsByWebhook has a MinIO send what happens in a bucket to the front, as it is configured by its environment alone, and reads what comes.
func TestMinIOTellsByWebhook(t *testing.T) {
	t.Parallel()
	b := newBundle(t, Config{})
	box := newInbox(b, nil)
	server := miniotest.Start(t)
	server.Stop()
	server.Setenv("MINIO_NOTIFY_WEBHOOK_ENABLE_hook=on", "MINIO_NOTIFY_WEBHOOK_ENDPOINT_hook="+b.url+"/v1/events/s3",
		"MINIO_NOTIFY_WEBHOOK_AUTH_TOKEN_hook="+b.keys["one/copy"])
	server.Start()
	bucket := server.NewBucket(t)
	store, err := minio.New(strings.TrimPrefix(server.Endpoint, "http://"), &minio.Options{
		Creds: credentials.NewStaticV4(server.AccessKey, server.SecretKey, ""), Region: "us-east-1", BucketLookup: minio.BucketLookupPath,
		Transport: &http.Transport{DisableKeepAlives: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	target := notification.NewConfig(notification.NewArn("minio", "sqs", "", "hook", "webhook"))
	target.AddEvents(notification.ObjectCreatedAll, notification.ObjectRemovedAll)
	var configuration notification.Configuration
	configuration.AddQueue(target)
	if err := store.SetBucketNotification(t.Context(), bucket, configuration); err != nil {
		t.Fatal(err)
	}
	put := func(key string, size int, options minio.PutObjectOptions) (events.Event, string) {
		t.Helper()
		before := box.count()
		info, err := store.PutObject(t.Context(), bucket, key, bytes.NewReader(make([]byte, size)), int64(size), options)
		if err != nil {
			t.Fatalf("%q: %v", key, err)
		}
		return box.next(t, before), info.ETag
	}
	for _, key := range []string{"plain", "a b+c%20d%2Fe", "100%", "ünï/日本語/🙂", `quo"te'&amp;=;,?x=1#f`, "dir/trailing+ ", strings.Repeat("k/", 200) + "k"} {
		e, etag := put(key, 3, minio.PutObjectOptions{UserMetadata: map[string]string{"Copyfleet-Trail": "ORG/r"}})
		want := events.Event{Source: events.S3, Type: "s3:ObjectCreated:Put", Bucket: bucket, Key: key, ETag: etag, Size: 3,
			Metadata: map[string]string{"copyfleet-trail": "ORG/r"}}
		if e.Sequencer == "" || e.Time.IsZero() || e.Fields["id"] == nil {
			t.Errorf("%q: not told: %+v", key, e)
		}
		e.Sequencer, e.Time, e.Fields = "", time.Time{}, nil
		if diff := cmp.Diff(want, e); diff != "" {
			t.Errorf("%q (-want +got):\n%s", key, diff)
		}
	}
	first, _ := put("again", 1, minio.PutObjectOptions{})
	second, _ := put("again", 1, minio.PutObjectOptions{})
	if len(first.Sequencer) != len(second.Sequencer) || first.Sequencer >= second.Sequencer || first.Identity() == second.Identity() {
		t.Errorf("sequencers %s and %s", first.Sequencer, second.Sequencer)
	}
	if e, _ := put("empty", 0, minio.PutObjectOptions{}); e.Size != 0 || e.ETag == "" {
		t.Errorf("an empty object: %+v", e)
	}
	parts, etag := put("parts", 6<<20, minio.PutObjectOptions{PartSize: 5 << 20, UserMetadata: map[string]string{"A": "b"}})
	if parts.Type != "s3:ObjectCreated:CompleteMultipartUpload" || parts.ETag != etag || parts.Size != 6<<20 || parts.Metadata["a"] != "b" {
		t.Errorf("an object in parts: %+v", parts)
	}
	before := box.count()
	if err := store.RemoveObject(t.Context(), bucket, "again", minio.RemoveObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	if e := box.next(t, before); e.Type != "s3:ObjectRemoved:Delete" || e.Key != "again" || e.Created() || e.Identity() == second.Identity() {
		t.Errorf("a removal: %+v", e)
	}
}

func (b *inbox) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.taken
}

// next waits for the one event that comes after so many, and reads it.
func (b *inbox) next(t *testing.T, before int) events.Event {
	t.Helper()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for end := time.Now().Add(4 * time.Minute); time.Now().Before(end) && b.count() == before; {
		<-poll.C
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	list, err := events.ParseS3(b.last)
	if err != nil || len(list) != 1 || b.taken != before+1 {
		t.Fatalf("%d notifications, %d events, %v", b.taken-before, len(list), err)
	}
	return list[0]
}
