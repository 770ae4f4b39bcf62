package object_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/object"
)

// TestNotifications adds and removes them at a MinIO that has somebody to tell. What others have configured stays.
func TestNotifications(t *testing.T) {
	t.Parallel()
	deaf := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(deaf.Close)
	server := miniotest.Start(t)
	server.Stop()
	server.Setenv("MINIO_NOTIFY_WEBHOOK_ENABLE_FLEET=on", "MINIO_NOTIFY_WEBHOOK_ENDPOINT_FLEET="+deaf.URL,
		"MINIO_NOTIFY_WEBHOOK_ENABLE_OTHER=on", "MINIO_NOTIFY_WEBHOOK_ENDPOINT_OTHER="+deaf.URL)
	server.Start()
	e := endpoint{server.Endpoint, server.AccessKey, server.SecretKey}
	s, bucket := e.store(t, nil), e.newBucket(t)
	const fleet, other = "arn:minio:sqs::FLEET:webhook", "arn:minio:sqs::OTHER:webhook"
	created, both := []string{"s3:ObjectCreated:*"}, []string{"s3:ObjectCreated:*", "s3:ObjectRemoved:*"}
	for i, step := range []struct {
		add  bool
		n    object.BucketNotification
		want int // changed
		left int
	}{
		{true, object.BucketNotification{ARN: other, Events: both, Prefix: "raw/", Suffix: ".csv"}, 1, 1},
		{true, object.BucketNotification{ARN: fleet}, 1, 2},
		{true, object.BucketNotification{ARN: fleet, Events: created}, 0, 2},
		{false, object.BucketNotification{ARN: fleet, Prefix: "raw/"}, 0, 2},
		{false, object.BucketNotification{ARN: fleet, Events: both}, 0, 2},
		{true, object.BucketNotification{ARN: other, Events: []string{both[1], both[0]}, Prefix: "raw/", Suffix: ".csv"}, 0, 2},
		{false, object.BucketNotification{ARN: fleet}, 1, 1},
		{false, object.BucketNotification{ARN: fleet}, 0, 1},
	} {
		changed := 0
		var err error
		if step.add {
			var added bool
			if added, err = s.AddNotification(t.Context(), bucket, step.n); added {
				changed = 1
			}
		} else {
			changed, err = s.RemoveNotification(t.Context(), bucket, step.n)
		}
		left, listErr := s.Notifications(t.Context(), bucket)
		if err != nil || listErr != nil || changed != step.want || len(left) != step.left {
			t.Fatalf("step %d: changed %d, want %d; left %+v; %v, %v", i, changed, step.want, left, err, listErr)
		}
	}
	left, err := s.Notifications(t.Context(), bucket)
	if err != nil || left[0].ARN != other || left[0].Prefix != "raw/" || left[0].Suffix != ".csv" || !slices.Equal(left[0].Events, both) {
		t.Errorf("what others configured is %+v, %v", left, err)
	}
	_, err = s.AddNotification(t.Context(), bucket, object.BucketNotification{ARN: "arn:minio:sqs::NOBODY:webhook"})
	refused{storage.Invalid, ""}.check(t, err, "", "")
	_, err = s.AddNotification(t.Context(), bucket, object.BucketNotification{ARN: "fleet"})
	refused{storage.Invalid, "invalid_arn"}.check(t, err, "", "")
	_, err = s.AddNotification(t.Context(), "no-such-bucket-here", object.BucketNotification{ARN: fleet})
	refused{storage.NotFound, "bucket_not_found"}.check(t, err, "", "")
}
