package object_test

import (
	"context"
	"testing"

	"github.com/minio/minio-go/v7"

	"github.com/copyfleet/copyfleet/storage"
)

type looker interface {
	Look(ctx context.Context) (storage.Look, error)
}

type stater interface {
	Stat(ctx context.Context) (storage.Stat, error)
}

func TestLookAtObjects(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		s, bucket := e.store(t, nil), e.newBucket(t)
		e.seed(t, bucket, "full", []byte("12345"))
		e.seed(t, bucket, "empty", nil)

		for key, size := range map[string]int64{"full": 5, "empty": 0} {
			stat, err := s.Source(bucket, key).(stater).Stat(t.Context())
			if err != nil || stat.Size != size || stat.ETag == "" && key == "full" {
				t.Errorf("%s: %+v, %v", key, stat, err)
			}
			look, err := s.Destination(bucket, key).(looker).Look(t.Context())
			if err != nil || !look.Checked || !look.Exists || look.Size != size {
				t.Errorf("%s: %+v, %v", key, look, err)
			}
		}
		_, err := s.Source(bucket, "none").(stater).Stat(t.Context())
		refused{storage.NotFound, "source_object_not_found"}.check(t, err, bucket, "none")
		look, err := s.Destination(bucket, "none").(looker).Look(t.Context())
		if err != nil || !look.Checked || look.Exists {
			t.Errorf("a new key: %+v, %v", look, err)
		}

		missing := newName()
		_, err = s.Source(missing, "k").(stater).Stat(t.Context())
		refused{storage.NotFound, "bucket_not_found"}.check(t, err, missing, "k")
		_, err = s.Destination(missing, "k").(looker).Look(t.Context())
		refused{storage.NotFound, "bucket_not_found"}.check(t, err, missing, "k")
		look, err = e.store(t, autoBuckets).Destination(missing, "k").(looker).Look(t.Context())
		if err != nil || look.Makes != "bucket" {
			t.Errorf("a bucket that would be made: %+v, %v", look, err)
		}
		if exists, err := e.raw(t).BucketExists(t.Context(), missing); err != nil || exists {
			t.Errorf("looking made the bucket: %t, %v", exists, err)
		}
		for o := range e.raw(t).ListObjectsIter(t.Context(), bucket, minio.ListObjectsOptions{Recursive: true}) {
			if o.Key != "full" && o.Key != "empty" {
				t.Errorf("looking made %s", o.Key)
			}
		}
	})
}
