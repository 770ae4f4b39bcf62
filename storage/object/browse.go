package object

import (
	"context"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/copyfleet/copyfleet/storage"
)

// Info is what a store tells of an object without its content.
type Info struct {
	Key      string
	ETag     string // without quotes
	Version  string // "" in a bucket without versions
	Size     int64  // bytes
	Modified time.Time
	Metadata map[string]string // the object's own, by lowercase name without "x-amz-meta-"; nil: not told, as by [Store.List]
}

func infoOf(o *minio.ObjectInfo) Info {
	info := Info{Key: o.Key, ETag: bare(o.ETag), Version: o.VersionID, Size: o.Size, Modified: o.LastModified}
	if info.Version == "null" { // of what was written before the bucket had versions
		info.Version = ""
	}
	return info
}

// Stat returns what is known of an object, of its newest version unless one is named. The error's class is NotFound if it is not there, with the code
// bucket_not_found if there is no bucket. What is reserved is refused.
func (s *Store) Stat(ctx context.Context, bucket, key, version string) (Info, error) {
	const op = "look at"
	p := place{store: s, bucket: bucket, key: key}
	if err := p.check(op); err != nil {
		return Info{}, err
	}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	o, err := s.client.StatObject(call, bucket, key, minio.StatObjectOptions{VersionID: version})
	if err != nil {
		return Info{}, p.explain(ctx, classify(op, p.subject(), err), "source")
	}
	info := infoOf(&o)
	info.Key, info.Metadata = key, make(map[string]string, len(o.UserMetadata))
	for name, value := range o.UserMetadata {
		info.Metadata[strings.ToLower(name)] = value
	}
	return info, nil
}

// List visits the objects below a prefix until visit returns false; what is reserved is left out. It holds one page of a listing at a time. The error's
// class is NotFound, its code bucket_not_found, if there is no bucket. After an error some of the objects may have been visited.
func (s *Store) List(ctx context.Context, bucket, prefix string, visit func(Info) bool) error {
	const op = "list"
	if err := checkNames(op, bucket, prefix+"x"); err != nil {
		return err
	}
	listing, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(pageTimeout, func() { cancel(context.DeadlineExceeded) })
	defer stalled.Stop()
	var turns cycle
	for o := range s.client.ListObjectsIter(listing, bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true, MaxKeys: objectsListed}) {
		stalled.Stop() // visit has its own time
		switch {
		case o.Err != nil:
			return s.listRefusal(op, bucket, prefix, told(listing, o.Err))
		case turns.closed(o.Key):
			return storage.Errorf(storage.Unavailable, "list_not_ended", op, subject(bucket, prefix), "the store does not come to the end of the list")
		case !s.Reserved(bucket, o.Key) && !visit(infoOf(&o)):
			return nil
		}
		stalled.Reset(pageTimeout)
	}
	// The library ends a list that was canceled as it ends one that is complete.
	return s.listRefusal(op, bucket, prefix, context.Cause(listing))
}

const (
	objectsListed = 1000            // that one call asks for; S3 tells no more
	pageTimeout   = 2 * callTimeout // within which the next page must have come
)

// told is why a call failed: the library tells a cancellation without its cause.
func told(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// cycle notices that a list without end begins anew, and remembers one key: Brent, "An improved Monte Carlo factorization algorithm", 1980.
type cycle struct {
	key         string
	steps, most int
}

// closed reports whether a key has come before, at the latest when all have come three times.
func (c *cycle) closed(key string) bool {
	if c.most > 0 && key == c.key {
		return true
	}
	if c.steps++; c.steps > c.most {
		c.key, c.steps, c.most = key, 0, 2*c.most+1
	}
	return false
}

// listRefusal says what it means that the store lists no objects.
func (s *Store) listRefusal(op, bucket, prefix string, err error) error {
	if minio.ToErrorResponse(err).Code == minio.NoSuchBucket {
		s.forget(bucket)
		return noBucket(op, subject(bucket, prefix), bucket)
	}
	return classify(op, subject(bucket, prefix), err)
}

func noBucket(op, subject, bucket string) *storage.Error {
	e := storage.Errorf(storage.NotFound, "bucket_not_found", op, subject, "the bucket does not exist")
	e.Hint = "Create the bucket \"" + bucket + "\"."
	return e
}
