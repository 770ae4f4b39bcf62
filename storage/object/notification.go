package object

import (
	"context"
	"net/http"
	"slices"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/notification"

	"github.com/copyfleet/copyfleet/storage"
)

// BucketNotification has a store tell of what happens in a bucket.
type BucketNotification struct {
	ARN    string   // of whom it is told, as the store names it
	Events []string // by their names in S3, such as s3:ObjectCreated:*
	Prefix string   // of the keys; "": all
	Suffix string
}

// Notifications are those of a bucket that go to queues, which are all that MinIO has.
func (s *Store) Notifications(ctx context.Context, bucket string) ([]BucketNotification, error) {
	cfg, err := s.notifications(ctx, bucket)
	if err != nil {
		return nil, err
	}
	out := make([]BucketNotification, len(cfg.QueueConfigs))
	for i := range cfg.QueueConfigs {
		out[i] = notificationOf(&cfg.QueueConfigs[i])
	}
	return out, nil
}

// AddNotification adds one to those that a bucket has. It reports false if it was there.
func (s *Store) AddNotification(ctx context.Context, bucket string, n BucketNotification) (bool, error) {
	const op = "connect"
	arn, err := notification.NewArnFromString(n.ARN)
	if err != nil {
		e := storage.Errorf(storage.Invalid, "invalid_arn", op, "s3://"+bucket, "%q is no ARN: want arn:partition:service:region:account:resource", n.ARN)
		e.Err = err
		return false, e
	}
	if len(n.Events) == 0 {
		n.Events = []string{string(notification.ObjectCreatedAll)}
	}
	cfg, err := s.notifications(ctx, bucket)
	if err != nil {
		return false, err
	}
	if slices.ContainsFunc(cfg.QueueConfigs, func(q notification.QueueConfig) bool { had := notificationOf(&q); return n.same(&had) }) {
		return false, nil
	}
	more := notification.NewConfig(arn)
	for _, event := range n.Events {
		more.AddEvents(notification.EventType(event))
	}
	if n.Prefix != "" {
		more.AddFilterPrefix(n.Prefix)
	}
	if n.Suffix != "" {
		more.AddFilterSuffix(n.Suffix)
	}
	cfg.QueueConfigs = append(cfg.QueueConfigs, notification.QueueConfig{Config: more, Queue: n.ARN})
	return true, s.setNotifications(ctx, op, bucket, cfg)
}

// RemoveNotification removes those with the same ARN, prefix and suffix, and the same events unless there are none, and counts them. The others stay.
func (s *Store) RemoveNotification(ctx context.Context, bucket string, n BucketNotification) (int, error) {
	cfg, err := s.notifications(ctx, bucket)
	if err != nil {
		return 0, err
	}
	before := len(cfg.QueueConfigs)
	cfg.QueueConfigs = slices.DeleteFunc(cfg.QueueConfigs, func(q notification.QueueConfig) bool {
		had := notificationOf(&q)
		if len(n.Events) == 0 {
			had.Events = nil
		}
		return n.same(&had)
	})
	removed := before - len(cfg.QueueConfigs)
	if removed == 0 {
		return 0, nil
	}
	return removed, s.setNotifications(ctx, "disconnect", bucket, cfg)
}

// same reports whether two tell the same, in whatever order the events are named.
func (n *BucketNotification) same(o *BucketNotification) bool {
	a, b := slices.Sorted(slices.Values(n.Events)), slices.Sorted(slices.Values(o.Events))
	return n.ARN == o.ARN && n.Prefix == o.Prefix && n.Suffix == o.Suffix && slices.Equal(slices.Compact(a), slices.Compact(b))
}

func notificationOf(q *notification.QueueConfig) BucketNotification {
	n := BucketNotification{ARN: q.Queue}
	for _, event := range q.Events {
		n.Events = append(n.Events, string(event))
	}
	if q.Filter == nil {
		return n
	}
	for _, rule := range q.Filter.S3Key.FilterRules {
		switch rule.Name {
		case "prefix", "Prefix": // Amazon S3 writes it so
			n.Prefix = rule.Value
		case "suffix", "Suffix":
			n.Suffix = rule.Value
		}
	}
	return n
}

func (s *Store) notifications(ctx context.Context, bucket string) (notification.Configuration, error) {
	const op = "look at the notifications of"
	if err := checkNames(op, bucket, "x"); err != nil {
		return notification.Configuration{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	cfg, err := s.client.GetBucketNotification(ctx, bucket)
	switch resp := minio.ToErrorResponse(err); {
	case err == nil:
		return cfg, nil
	case resp.Code == minio.NoSuchBucket:
		return cfg, noBucket(op, "s3://"+bucket, bucket)
	case resp.StatusCode == http.StatusNotImplemented:
		return cfg, storage.Errorf(storage.Invalid, "notifications_unsupported", op, "s3://"+bucket, "the store has no notifications")
	}
	return cfg, classify(op, "s3://"+bucket, err)
}

func (s *Store) setNotifications(ctx context.Context, op, bucket string, cfg notification.Configuration) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return classify(op, "s3://"+bucket, s.client.SetBucketNotification(ctx, bucket, cfg))
}
