package object

import (
	"context"

	"github.com/minio/minio-go/v7"

	"github.com/copyfleet/copyfleet/storage"
)

// partsListed is the number of parts that one call asks for; S3 tells no more.
const partsListed = 1000

// ListParts implements storage.PartLister.
func (o *destination) ListParts(ctx context.Context, upload string) ([]storage.PartStored, error) {
	const op = "look at"
	if err := o.check(op); err != nil {
		return nil, err
	}
	id, checked, err := o.uploadID(upload)
	if err != nil {
		return nil, err
	}
	var parts []storage.PartStored
	for after := 0; ; {
		list, err := o.listParts(ctx, id, after)
		if err != nil {
			return nil, o.listRefusal(ctx, op, err)
		}
		for i := range list.ObjectParts {
			p := &list.ObjectParts[i]
			part := storage.PartStored{Number: p.PartNumber, Size: p.Size, ETag: bare(p.ETag)}
			if checked && p.ChecksumCRC64NVME != "" {
				part.Checksum = checksumName + p.ChecksumCRC64NVME
			}
			parts = append(parts, part)
		}
		if !list.IsTruncated || len(list.ObjectParts) == 0 {
			return parts, nil
		}
		if list.NextPartNumberMarker <= after || len(parts) > maxParts {
			// A list that is cut short would have parts that are there be sent once more.
			return nil, storage.Errorf(storage.Unavailable, "list_not_ended", op, o.subject(), "the store does not come to the end of the list of parts")
		}
		after = list.NextPartNumberMarker
	}
}

func (o *destination) listParts(ctx context.Context, id string, after int) (minio.ListObjectPartsResult, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return o.store.core.ListObjectParts(ctx, o.bucket, o.key, id, after, partsListed) //nolint:wrapcheck // classified by the caller
}

// listRefusal says what it means that the store lists no parts.
func (o *destination) listRefusal(ctx context.Context, op string, err error) error {
	switch minio.ToErrorResponse(err).Code {
	case minio.NoSuchUpload, minio.NoSuchKey, minio.NoSuchBucket:
		return o.gone("the upload is not there: it was completed or removed")
	}
	return o.explain(ctx, classify(op, o.subject(), err), "dest")
}

// Remove implements storage.Remover. In a bucket with versions the former ones stay: they are its owner's.
func (o *destination) Remove(ctx context.Context) error {
	const op = "clean up"
	if err := o.check(op); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := o.store.client.RemoveObject(ctx, o.bucket, o.key, minio.RemoveObjectOptions{})
	if code := minio.ToErrorResponse(err).Code; err == nil || code == minio.NoSuchKey || code == minio.NoSuchBucket {
		return nil
	}
	return o.explain(ctx, classify(op, o.subject(), err), "dest")
}
