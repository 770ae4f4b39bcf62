package object

import (
	"context"
	"net/http"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/copyfleet/copyfleet/storage"
)

// A Begin has ended this long after its caller noted the time, and the clock of the store may be wrong by this much.
const (
	beginTakes = 3 * callTimeout // the bucket, the question whether the store compares, the upload
	clockSlack = time.Minute
)

// DiscardBegun implements storage.BegunDiscarder. Uploads are listed by their exact key: MinIO lists them in no other way. One with a part is
// somebody's, unless the part is one that this package itself asked the store with.
func (o *destination) DiscardBegun(ctx context.Context, began time.Time) error {
	return o.eachUpload(ctx, func(u *minio.ObjectMultipartInfo) error {
		if u.Initiated.Before(began.Add(-clockSlack)) || u.Initiated.After(began.Add(beginTakes+clockSlack)) {
			return nil
		}
		return o.discardEmpty(ctx, u.UploadID)
	})
}

// DiscardAll removes all uploads that were begun at the key, with the parts that are stored of them. Only keys in the bucket of uploads are nobody else's,
// whenever something was begun there.
func (o *destination) DiscardAll(ctx context.Context) error {
	if o.staging == "" {
		return storage.Errorf(storage.Denied, CodeReserved, "clean up", o.subject(), "what is begun here may be somebody else's")
	}
	return o.eachUpload(ctx, func(u *minio.ObjectMultipartInfo) error { return o.Abort(ctx, plainUpload+u.UploadID) })
}

// eachUpload visits the uploads that were begun at the key and are not over.
func (o *destination) eachUpload(ctx context.Context, visit func(*minio.ObjectMultipartInfo) error) error {
	if err := o.check("clean up"); err != nil {
		return err
	}
	after, afterID := "", ""
	for {
		list, err := o.listUploads(ctx, after, afterID)
		switch resp := minio.ToErrorResponse(err); {
		case resp.Code == minio.NoSuchBucket, resp.StatusCode == http.StatusForbidden, resp.StatusCode == http.StatusNotImplemented:
			return nil // what may not be listed is left to the store
		case err != nil:
			return classify("clean up", o.subject(), err)
		}
		for i := range list.Uploads {
			if list.Uploads[i].Key != o.key {
				continue
			}
			if err := visit(&list.Uploads[i]); err != nil {
				return err
			}
		}
		if !list.IsTruncated || list.NextKeyMarker == after && list.NextUploadIDMarker == afterID {
			return nil
		}
		after, afterID = list.NextKeyMarker, list.NextUploadIDMarker
	}
}

func (o *destination) listUploads(ctx context.Context, after, afterID string) (minio.ListMultipartUploadsResult, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return o.store.core.ListMultipartUploads(ctx, o.bucket, o.key, after, afterID, "", 0) //nolint:wrapcheck // classified by the caller
}

// discardEmpty removes an upload in which nothing is stored.
func (o *destination) discardEmpty(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	parts, err := o.store.core.ListObjectParts(ctx, o.bucket, o.key, id, 0, 2)
	switch code := minio.ToErrorResponse(err).Code; {
	case code == minio.NoSuchUpload, code == minio.NoSuchKey:
		return nil
	case err != nil:
		return classify("clean up", o.subject(), err)
	}
	for i := range parts.ObjectParts {
		if parts.ObjectParts[i].Size != int64(len(probeContent)) {
			return nil
		}
	}
	return o.Abort(ctx, plainUpload+id)
}
