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

// Source returns an object to read.
func (s *Staging) Source(key string) storage.Source { return &source{s.place(key)} }

// Destination returns an object to write, as [Store.Destination] does.
func (s *Staging) Destination(key string) storage.Destination { return &destination{s.place(key)} }

func (s *Staging) place(key string) place {
	return place{store: s.store, bucket: s.bucket, key: key, staging: true}
}
