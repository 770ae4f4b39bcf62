package object

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"

	"github.com/minio/minio-go/v7"

	"github.com/copyfleet/copyfleet/storage"
)

// The names of uploads begin with what their parts must come with.
const (
	checkedUpload = "crc64nvme." // the store compares the checksums of the parts, and knows that of the whole
	plainUpload   = "plain."
)

// PartLimits implements storage.PartDestination: those of S3.
func (o *destination) PartLimits() storage.PartLimits {
	return storage.PartLimits{Min: minPart, Max: maxPut, Count: maxParts}
}

// Begin implements storage.PartDestination with a multipart upload.
func (o *destination) Begin(ctx context.Context, content storage.PartContent) (string, error) {
	if err := o.acceptable(content.Size, content.Trail); err != nil {
		return "", err
	}
	if err := o.prepareBucket(ctx); err != nil {
		return "", err
	}
	compares, err := o.compares(ctx)
	if err != nil {
		return "", err
	}
	// MinIO composes the checksum of a single part without bytes wrongly.
	opts := minio.PutObjectOptions{ContentType: content.ContentType, UserMetadata: o.trailed(nil, content.Trail)}
	return o.begin(ctx, opts, compares && content.Size != 0)
}

// begin begins a multipart upload.
func (o *destination) begin(ctx context.Context, opts minio.PutObjectOptions, compares bool) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	name := plainUpload
	if compares {
		name = checkedUpload
		if opts.UserMetadata == nil {
			opts.UserMetadata = map[string]string{}
		}
		maps.Copy(opts.UserMetadata, withChecksums())
	}
	id, err := o.store.core.NewMultipartUpload(ctx, o.bucket, o.key, opts)
	if err != nil {
		return "", o.answered(ctx, err)
	}
	return name + id, nil
}

// answered is classify for an answer about a destination.
func (o *destination) answered(ctx context.Context, err error) error {
	return o.explain(ctx, classify("write", o.subject(), err), "dest")
}

// uploadID takes the name of an upload apart.
func (o *destination) uploadID(upload string) (id string, checked bool, err error) {
	id, checked = strings.CutPrefix(upload, checkedUpload)
	if !checked {
		var plain bool
		if id, plain = strings.CutPrefix(upload, plainUpload); !plain {
			id = ""
		}
	}
	if id == "" {
		return "", false, o.gone("this is no name of an upload")
	}
	return id, checked, nil
}

func (o *destination) gone(why string) *storage.Error {
	return storage.Errorf(storage.Conflict, storage.CodeUploadGone, "write", o.subject(), "%s", why)
}

// PutPart implements storage.PartDestination.
func (o *destination) PutPart(ctx context.Context, name string, part storage.Part) (storage.PartStored, error) {
	if err := o.check("write"); err != nil {
		return storage.PartStored{}, err
	}
	id, checked, err := o.uploadID(name)
	if err != nil {
		return storage.PartStored{}, err
	}
	if part.Number < 1 || part.Number > maxParts || part.Size < 0 || part.Size > maxPut {
		return storage.PartStored{}, storage.Errorf(storage.Invalid, "part_invalid", "write", o.subject(),
			"part %d of %d bytes: S3 takes parts 1 to %d of at most %d bytes", part.Number, part.Size, maxParts, int64(maxPut))
	}
	stored, checksum, err := o.sendPart(ctx, id, part, checked)
	if err != nil {
		return storage.PartStored{}, o.partRefusal(ctx, err)
	}
	out := storage.PartStored{Number: part.Number, Size: part.Size, ETag: bare(stored.ETag)}
	if checked {
		out.Checksum = checksumName + checksum
	}
	return out, nil
}

func (o *destination) sendPart(ctx context.Context, id string, part storage.Part, checked bool) (stored storage.Stored, checksum string, err error) {
	u, content := upload{query: partQuery(id, part.Number)}, storage.Content{Body: part.Body, Size: part.Size}
	switch {
	case !checked:
		stored, err = o.sendPlain(ctx, u, content)
		return stored, "", err
	case part.Size <= smallContent:
		return o.sendSmall(ctx, u, content)
	}
	return o.sendFramed(ctx, u, content)
}

// partRefusal says what it means that the store did not take a part.
func (o *destination) partRefusal(ctx context.Context, err error) error {
	if _, ok := errors.AsType[*ownError](err); ok {
		return err
	}
	err = o.refusal(ctx, err)
	if e, ok := errors.AsType[*storage.Error](err); ok && (e.Code == "dest_object_not_found" || e.Code == bucketVanished) {
		return o.gone("the upload is not there: it was completed or removed")
	}
	return err
}

// Complete implements storage.PartDestination. That an upload was completed by an earlier call is told by the ETag of what is there.
func (o *destination) Complete(
	ctx context.Context, name string, content storage.PartContent, parts []storage.PartStored, ready func() error,
) (storage.Stored, error) {
	id, _, err := o.uploadID(name)
	if err != nil {
		return storage.Stored{}, err
	}
	if err := content.Check("commit", o.subject(), parts); err != nil {
		return storage.Stored{}, err
	}
	return o.commit(ctx, id, content, parts, ready)
}

// commit makes an object of the parts, which are all there.
func (o *destination) commit(
	ctx context.Context, id string, content storage.PartContent, parts []storage.PartStored, ready func() error,
) (storage.Stored, error) {
	if ready != nil {
		if err := ready(); err != nil {
			return storage.Stored{}, o.refused(ctx, err)
		}
	}
	return o.complete(ctx, id, content, parts)
}

// complete makes an object of the parts.
func (o *destination) complete(ctx context.Context, id string, content storage.PartContent, parts []storage.PartStored) (storage.Stored, error) {
	ctx, cancel := context.WithTimeout(ctx, slowTimeout)
	defer cancel()
	opts := minio.PutObjectOptions{ContentType: content.ContentType}
	checksum := composed(parts)
	if checksum != "" {
		opts.UserMetadata = map[string]string{checksumHeader: checksum, "X-Amz-Checksum-Type": "FULL_OBJECT"}
	}
	if content.OnlyNew {
		opts.SetMatchETagExcept("*")
	}
	list := make([]minio.CompletePart, len(parts))
	for i, p := range parts {
		value, _ := strings.CutPrefix(p.Checksum, checksumName)
		list[i] = minio.CompletePart{PartNumber: p.Number, ETag: bare(p.ETag), ChecksumCRC64NVME: value}
	}
	info, err := o.store.slow.CompleteMultipartUpload(ctx, o.bucket, o.key, id, list, opts)
	if err != nil {
		return o.incomplete(ctx, id, content, parts, err)
	}
	if !strings.HasSuffix(bare(info.ETag), "-"+strconv.Itoa(len(parts))) {
		return o.completedBefore(ctx, content, parts) // versitygw tells success of an upload that is not there, if an object is
	}
	stored := storage.Stored{Bytes: content.Size, ETag: `"` + bare(info.ETag) + `"`, Status: http.StatusOK}
	if info.ChecksumCRC64NVME == "" {
		stored.Compared = checksum != "" // the store was sent it, and would have refused
		return stored, nil
	}
	stored.Checksum = checksumName + info.ChecksumCRC64NVME
	return o.compare(stored, checksum)
}

// incomplete says what it means that the parts were not made an object by this call.
func (o *destination) incomplete(
	ctx context.Context, id string, content storage.PartContent, parts []storage.PartStored, err error,
) (storage.Stored, error) {
	resp := minio.ToErrorResponse(err)
	switch {
	case resp.Code == minio.NoSuchUpload, failedCondition(&resp) && !o.hasUpload(ctx, id):
		return o.completedBefore(ctx, content, parts)
	case failedCondition(&resp):
		return storage.Stored{}, o.exists()
	case resp.Code == "BadDigest", strings.HasPrefix(resp.Code, "XAmzContentChecksum"):
		return storage.Stored{}, o.mismatch()
	case resp.Code == conditionalConflict:
		return storage.Stored{}, o.changing()
	case resp.Code == "InvalidPart", resp.Code == "InvalidPartOrder":
		// A late writer may have stored a part once more, and where parts are encrypted their ETags differ with the same bytes.
		return storage.Stored{}, o.gone("a part is not stored as it was told")
	}
	return storage.Stored{}, o.answered(ctx, err)
}

// failedCondition reports whether something is there that may not be replaced. An answer that began as a success has no other status.
func failedCondition(resp *minio.ErrorResponse) bool {
	return resp.StatusCode == http.StatusPreconditionFailed || resp.Code == minio.PreconditionFailed
}

// hasUpload reports whether an upload is there, as far as that can be told.
func (o *destination) hasUpload(ctx context.Context, id string) bool {
	_, err := o.store.core.ListObjectParts(ctx, o.bucket, o.key, id, 0, 1)
	return minio.ToErrorResponse(err).Code != minio.NoSuchUpload
}

// completedBefore is a success if the object is what the parts make: an earlier call completed them, and its answer was lost.
func (o *destination) completedBefore(ctx context.Context, content storage.PartContent, parts []storage.PartStored) (storage.Stored, error) {
	info, err := o.store.client.StatObject(ctx, o.bucket, o.key, minio.StatObjectOptions{Checksum: true})
	if err != nil && minio.ToErrorResponse(err).StatusCode != http.StatusNotFound {
		return storage.Stored{}, o.answered(ctx, err)
	}
	checksum := composed(parts)
	etag := composedETag(parts)
	same := etag != "" && info.ETag == etag || checksum != "" && info.ChecksumCRC64NVME == checksum
	if err != nil || info.Size != content.Size || !same {
		if content.OnlyNew && err == nil {
			return storage.Stored{}, o.exists()
		}
		return storage.Stored{}, o.gone("the upload is not there, and the object is not what it would have become")
	}
	return storage.Stored{
		Bytes: content.Size, ETag: `"` + info.ETag + `"`, Status: http.StatusOK, Compared: checksum != "" && info.ChecksumCRC64NVME == checksum,
	}, nil
}

// Abort implements storage.PartDestination.
func (o *destination) Abort(ctx context.Context, name string) error {
	id, _, err := o.uploadID(name)
	if err != nil {
		return nil // there is no such upload
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err = o.store.core.AbortMultipartUpload(ctx, o.bucket, o.key, id)
	if code := minio.ToErrorResponse(err).Code; err == nil || code == minio.NoSuchUpload || code == minio.NoSuchBucket || code == minio.NoSuchKey {
		return nil
	}
	return classify("clean up", o.subject(), err)
}

// putInParts writes content of known size in parts, one after the other.
func (o *destination) putInParts(ctx context.Context, content storage.Content) (storage.Stored, error) {
	size := roundUp(max(sequentialPart, (content.Size+maxParts-1)/maxParts), 1<<20)
	next := func(number int) (storage.Part, io.Closer, error) {
		offset := int64(number-1) * size
		if offset >= content.Size {
			return storage.Part{}, nil, expectEnd(content.Body, o.subject(), content.Size)
		}
		length := min(size, content.Size-offset)
		return storage.Part{Number: number, Offset: offset, Size: length, Body: io.LimitReader(content.Body, length)}, nil, nil
	}
	return o.sequence(ctx, content, next)
}

const sequentialPart = 64 << 20 // bytes of a part of content that is written by Put

func roundUp(n, step int64) int64 { return (n + step - 1) / step * step }

// sequence writes the parts that next gives, until one has no number, and makes an object of them.
func (o *destination) sequence(
	ctx context.Context, content storage.Content, next func(number int) (storage.Part, io.Closer, error),
) (stored storage.Stored, err error) {
	name, err := o.Begin(ctx, storage.PartContent{Size: content.Size, ContentType: content.ContentType, Trail: content.Trail})
	if err != nil {
		return storage.Stored{}, err
	}
	defer func() {
		if err == nil {
			return
		}
		if left := o.Abort(context.WithoutCancel(ctx), name); left != nil {
			err = errors.Join(err, left)
		}
	}()
	var parts []storage.PartStored
	var total int64
	for {
		part, closer, err := next(len(parts) + 1)
		if err != nil {
			return storage.Stored{}, o.refused(ctx, err)
		}
		if part.Number == 0 {
			break
		}
		stored, err := o.PutPart(ctx, name, part)
		if closer != nil {
			_ = closer.Close() // a file without a name
		}
		if err != nil {
			return storage.Stored{}, fmt.Errorf("part %d: %w", part.Number, err)
		}
		parts, total = append(parts, stored), total+part.Size
	}
	whole := storage.PartContent{Size: total, ContentType: content.ContentType, OnlyNew: content.OnlyNew}
	id, _, err := o.uploadID(name)
	if err != nil {
		return storage.Stored{}, err
	}
	return o.commit(ctx, id, whole, parts, content.Ready)
}
