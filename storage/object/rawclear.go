package object

import (
	"context"
	"strings"

	"github.com/minio/minio-go/v7"

	"github.com/copyfleet/copyfleet/storage"
)

// Others tells whether the bucket has keys that do not begin with a prefix, which ends with a slash. The error's class is NotFound, its code
// bucket_not_found, if there is no bucket.
func (r *Raw) Others(ctx context.Context, bucket, prefix string) (bool, error) {
	const op = "look for keys of others"
	if err := checkPrefix(op, bucket, prefix); err != nil {
		return false, err
	}
	// Folded at the slash, all keys below a directory are one entry: at each level there may be that of the prefix, and nothing else.
	for from := 0; from < len(prefix); {
		to := from + strings.IndexByte(prefix[from:], '/') + 1
		for object := range r.core.ListObjectsIter(ctx, bucket, minio.ListObjectsOptions{Prefix: prefix[:from], MaxKeys: 10}) {
			if object.Err != nil {
				return false, listingError(op, bucket, prefix[:from], object.Err)
			}
			if object.Key != prefix[:to] {
				return true, nil
			}
		}
		from = to
	}
	return false, nil
}

func checkPrefix(op, bucket, prefix string) error {
	if err := checkNames(op, bucket, prefix); err != nil {
		return err
	}
	if !strings.HasSuffix(prefix, "/") {
		return storage.Errorf(storage.Invalid, "invalid_key", op, subject(bucket, prefix), "the prefix must end with a slash, to be that of nobody else")
	}
	return nil
}

func listingError(op, bucket, prefix string, err error) error {
	if minio.ToErrorResponse(err).Code == minio.NoSuchBucket {
		return noBucket(op, subject(bucket, ""), bucket)
	}
	return classify(op, subject(bucket, prefix), err)
}

// Clear removes all that is below a prefix, which ends with a slash: objects, with their earlier versions, and uploads in parts that nobody has ended.
// It returns how many objects it has removed; without an error that is all. A store that lists no versions or uploads, or not for these credentials, keeps
// them; MinIO lists uploads by their whole keys only, and removes them by itself after a day.
func (r *Raw) Clear(ctx context.Context, bucket, prefix string) (int, error) {
	const op = "remove"
	if err := checkPrefix(op, bucket, prefix); err != nil {
		return 0, err
	}
	c := clearing{raw: r, bucket: bucket, prefix: prefix}
	removed, err := c.objects(ctx, false)
	if err != nil {
		return removed, err
	}
	// Where versions are kept, what was removed has become one more of them.
	if _, err := c.objects(ctx, true); err != nil && !cannotList(err) {
		return removed, err
	}
	if err := c.uploads(ctx); err != nil && !cannotList(err) {
		return removed, err
	}
	return removed, nil
}

// clearing removes what is below a prefix.
type clearing struct {
	raw            *Raw
	bucket, prefix string
}

// listError is a listing that the store refused.
type listError struct{ error }

// Unwrap returns why.
func (e listError) Unwrap() error { return e.error }

// cannotList tells whether a store has answered that it lists something not, or not for these credentials.
func cannotList(err error) bool {
	failed, ok := err.(listError) //nolint:errorlint // it is made here, and not wrapped
	if !ok {
		return false
	}
	class := storage.ClassOf(failed.error)
	e, ok := failed.error.(*storage.Error) //nolint:errorlint // as classify returns it
	return class == storage.Denied || class == storage.Invalid || ok && e.Status == statusNotImplemented
}

const (
	statusNotImplemented = 501
	pageUploads          = 1000
)

// objects removes objects, or their versions, and returns how many there were.
func (c clearing) objects(ctx context.Context, versions bool) (int, error) {
	const op = "remove"
	var failed error
	listing := func(yield func(minio.ObjectInfo) bool) {
		opts := minio.ListObjectsOptions{Prefix: c.prefix, Recursive: true, WithVersions: versions}
		for object := range c.raw.core.ListObjectsIter(ctx, c.bucket, opts) {
			if object.Err != nil {
				failed = listError{listingError("list", c.bucket, c.prefix, object.Err)}
				return
			}
			if !strings.HasPrefix(object.Key, c.prefix) {
				failed = c.notBelow(object.Key)
				return
			}
			if !yield(minio.ObjectInfo{Key: object.Key, VersionID: object.VersionID}) {
				return
			}
		}
	}
	results, err := c.raw.core.RemoveObjectsWithIter(ctx, c.bucket, listing, minio.RemoveObjectsOptions{})
	if err != nil {
		return 0, classify(op, subject(c.bucket, c.prefix), err)
	}
	removed := 0
	for result := range results {
		if result.Err == nil {
			removed++
		} else if failed == nil {
			failed = classify(op, subject(c.bucket, result.ObjectName), result.Err)
		}
	}
	if failed == nil && ctx.Err() != nil {
		failed = context.Cause(ctx) // what is cut short is not all
	}
	return removed, failed
}

// notBelow says that the store lists keys that it was not asked for. They are others', and none of them is touched.
func (c clearing) notBelow(key string) error {
	const op = "list"
	e := storage.Errorf(storage.Unavailable, "invalid_listing", op, subject(c.bucket, c.prefix), "the store listed the key %.200q, which is not below it", key)
	e.Hint = "What lies between this program and the store may have changed the request."
	return e
}

// uploads ends the uploads in parts that nobody has ended.
func (c clearing) uploads(ctx context.Context) error {
	var key, id string
	for {
		page, err := c.raw.core.ListMultipartUploads(ctx, c.bucket, c.prefix, key, id, "", pageUploads)
		if err != nil {
			return listError{listingError("list the uploads", c.bucket, c.prefix, err)}
		}
		for i := range page.Uploads {
			upload := &page.Uploads[i]
			if !strings.HasPrefix(upload.Key, c.prefix) {
				return c.notBelow(upload.Key)
			}
			err := c.raw.core.AbortMultipartUpload(ctx, c.bucket, upload.Key, upload.UploadID)
			if err != nil && minio.ToErrorResponse(err).Code != minio.NoSuchUpload {
				return classify("end the upload", subject(c.bucket, upload.Key), err)
			}
		}
		if !page.IsTruncated || page.NextKeyMarker == key && page.NextUploadIDMarker == id {
			return nil
		}
		key, id = page.NextKeyMarker, page.NextUploadIDMarker
	}
}
