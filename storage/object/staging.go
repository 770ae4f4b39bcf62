package object

import (
	"github.com/copyfleet/copyfleet/storage"
)

// Staging is a bucket of the fleet's own, in which uploads wait until they are whole. It is the only way to its objects: others neither read,
// write, copy nor presign them. The bucket is made when it is first written to, also where others are not.
type Staging struct {
	store  *Store
	bucket string
}

// Staging reserves a bucket for uploads. It must not be called once the store is in use.
func (s *Store) Staging(bucket string) (*Staging, error) {
	if err := s.reserve(reserve{bucket: bucket, purpose: forUploads}); err != nil {
		return nil, err
	}
	return &Staging{s, bucket}, nil
}

// Bucket is its name.
func (s *Staging) Bucket() string { return s.bucket }

// Source returns an object to read. That of another bucket, where uploads were staged under another configuration, refuses all calls.
func (s *Staging) Source(bucket, key string) storage.Source { return &source{s.place(bucket, key)} }

// Destination returns an object to write, as [Store.Destination] does.
func (s *Staging) Destination(bucket, key string) storage.Destination {
	return &destination{s.place(bucket, key)}
}

func (s *Staging) place(bucket, key string) place {
	return place{store: s.store, bucket: bucket, key: key, staging: s.bucket}
}

// checkStaged refuses what is not in the bucket of uploads.
func (p place) checkStaged(op string) error {
	if p.bucket == p.staging {
		return checkNames(op, p.bucket, p.key)
	}
	e := storage.Errorf(storage.Unavailable, "staged_elsewhere", op, p.subject(),
		"the upload is in the bucket %q, and uploads are staged in %q now", p.bucket, p.staging)
	e.Hint = "--staging-bucket names the bucket; every role has the same."
	return e
}
