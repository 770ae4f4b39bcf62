package events

import (
	"testing"

	buckets "github.com/minio/minio-go/v7/pkg/notification"
)

// connected is what a bucket's notifications are, by the ARN of the target.
func (f *fleet) connected(t *testing.T, bucket string) map[string]buckets.QueueConfig {
	t.Helper()
	all, err := f.store.GetBucketNotification(t.Context(), bucket)
	if err != nil {
		t.Fatal(err)
	}
	by := map[string]buckets.QueueConfig{}
	for i := range all.QueueConfigs {
		by[all.QueueConfigs[i].Queue] = all.QueueConfigs[i]
	}
	if len(by) != len(all.QueueConfigs) {
		t.Errorf("%s has several notifications to one target: %+v", bucket, all.QueueConfigs)
	}
	return by
}

// connecting adds to what a bucket has, and removes that again.
func connecting(t *testing.T, f *fleet) {
	t.Helper()
	bucket := f.bucket(t)
	f.connect(t, bucket, natsCore)
	f.connect(t, bucket, webhook, "s3:ObjectCreated:Put", "s3:ObjectRemoved:*")
	f.connect(t, bucket, webhook, "s3:ObjectCreated:Put", "s3:ObjectRemoved:*")
	by := f.connected(t, bucket)
	if len(by) != 2 || len(by[natsCore].Events) != 1 || by[natsCore].Events[0] != "s3:ObjectCreated:*" || len(by[webhook].Events) != 2 {
		t.Errorf("the notifications are %+v", by)
	}
	for _, args := range [][]string{
		{"events", "connect", "--bucket", bucket, "--arn", "arn:minio:sqs::nobody:nats"}, {"events", "connect", "--bucket", "no-such-bucket-here", "--arn", natsCore},
	} {
		if out := f.Command(t, nil, args...); out.Exit == 0 || out.Stderr == "" {
			t.Errorf("copyfleet %v: exit code %d: %s%s", args, out.Exit, out.Stdout, out.Stderr)
		}
	}
	if out := f.Command(t, nil, "events", "connect", "--bucket", bucket, "--arn", webhook, "--remove"); out.Exit != 0 {
		t.Errorf("exit code %d: %s", out.Exit, out.Stderr)
	}
	if by := f.connected(t, bucket); len(by) != 1 || by[natsCore].Queue != natsCore {
		t.Errorf("the notifications that are left are %+v", by)
	}
}
