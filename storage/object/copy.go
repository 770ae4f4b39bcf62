package object

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"strings"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sync/errgroup"

	"github.com/copyfleet/copyfleet/storage"
)

const (
	copyAtOnce  = 5 << 30   // bytes that one request copies; S3's limit
	copyPart    = 512 << 20 // bytes of a part of what is longer
	copiesOfOne = 4         // parts of one object that are copied at the same time
)

// copyLimits are the constants above, except in tests: no test copies more than 5 GiB.
type copyLimits struct{ atOnce, part int64 }

// located is a source that is an object.
type located interface{ location() place }

func (p place) location() place { return p }

// wrapped is a source around another one, of the same content.
type wrapped interface{ Unwrap() storage.Source }

// locate finds the object that a source reads.
func locate(source storage.Source) (place, bool) {
	for {
		if l, ok := source.(located); ok {
			return l.location(), true
		}
		w, ok := source.(wrapped)
		if !ok {
			return place{}, false
		}
		source = w.Unwrap()
	}
}

// CopyFrom implements storage.DirectCopier for objects of the same store: what is not longer than 5 GiB with one request, the rest in parts.
// The type and the metadata of the source are copied with it, but for its trail.
func (o *destination) CopyFrom(ctx context.Context, source storage.Source, c storage.DirectCopy) (storage.Stored, bool, error) {
	from, ok := locate(source)
	if !ok || from.store != o.store || from.bucket == o.bucket && from.key == o.key {
		return storage.Stored{}, false, nil
	}
	stored, err := o.copyFrom(ctx, from, c)
	return stored, true, err
}

func (o *destination) copyFrom(ctx context.Context, from place, c storage.DirectCopy) (storage.Stored, error) {
	if err := errors.Join(from.check("copy"), o.check("copy"), o.checkTrail(c.Trail)); err != nil {
		return storage.Stored{}, err
	}
	info, err := from.head(ctx)
	if err != nil {
		return storage.Stored{}, from.explain(ctx, classify("copy", from.subject(), err), "source")
	}
	if c.Mark.Size != storage.UnknownSize && info.Size != c.Mark.Size || c.Mark.ETag != "" && info.ETag != bare(c.Mark.ETag) {
		return storage.Stored{}, from.changed()
	}
	if err := o.prepareBucket(ctx); err != nil {
		return storage.Stored{}, err
	}
	var made string
	switch {
	case c.OnlyNew && info.Size == 0:
		// There is no part of nothing to be copied.
		made, err = o.empty(ctx, &info, c)
	case c.OnlyNew || info.Size > o.store.limits.atOnce:
		// A copy that may replace nothing is in parts too: its last step can be refused.
		made, err = o.copyInParts(ctx, from, &info, c)
	default:
		made, err = o.copyWhole(ctx, from, &info, c)
	}
	if err != nil {
		return storage.Stored{}, err
	}
	return o.copied(ctx, &info, made)
}

// copied looks at what came of a copy. made is the ETag that the store told of it: what has another one is somebody else's by now.
func (o *destination) copied(ctx context.Context, from *minio.ObjectInfo, made string) (storage.Stored, error) {
	info, err := o.head(ctx)
	if err != nil {
		return storage.Stored{}, o.answered(ctx, err)
	}
	if info.Size != from.Size && info.ETag == bare(made) {
		return storage.Stored{}, storage.Errorf(storage.Corrupt, "copy_size_mismatch", "copy", o.subject(),
			"the store made a copy of %d bytes, the source has %d", info.Size, from.Size)
	}
	stored := storage.Stored{Bytes: from.Size, ETag: `"` + info.ETag + `"`, Status: http.StatusOK}
	if info.ChecksumCRC64NVME != "" {
		stored.Checksum = checksumName + info.ChecksumCRC64NVME
	}
	have, had := digestsOf(&info), digestsOf(from)
	for name, value := range had {
		if have[name] == value {
			stored.Compared = info.Size == from.Size
		}
	}
	if sum := had[storage.DigestMD5]; sum != "" && info.ETag == composedETag([]storage.PartStored{{ETag: sum}}) { // copied in one part
		stored.Compared = info.Size == from.Size
	}
	return stored, nil
}

func (o *destination) askReady(ctx context.Context, ready func() error) error {
	if ready == nil {
		return nil
	}
	if err := ready(); err != nil {
		return o.refused(ctx, err)
	}
	return nil
}

// brokenOff is the error for a copy of which the store tells no ETag. A store that begins to answer before it is done tells an error behind
// the headers of a success, and the library takes that for one (Amazon S3, CopyObject: "a 200 OK response can contain either a success
// or an error").
func (o *destination) brokenOff() error {
	return storage.Errorf(storage.Unavailable, "copy_broken_off", "copy", o.subject(), "the store began to copy, and did not come to its end")
}

// copyWhole copies with one request, and returns the ETag of the copy.
func (o *destination) copyWhole(ctx context.Context, from place, info *minio.ObjectInfo, c storage.DirectCopy) (etag string, err error) {
	if err := o.askReady(ctx, c.Ready); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, slowTimeout)
	defer cancel()
	headers := map[string]string{"X-Amz-Copy-Source-If-Match": info.ETag, "X-Amz-Checksum-Algorithm": "CRC64NVME"}
	if o.shown(c.Trail) != trailOf(info) {
		maps.Copy(headers, flat(o.sameAs(info, c.Trail).Header()))
		headers["X-Amz-Metadata-Directive"] = "REPLACE"
	}
	made, err := o.store.slow.CopyObject(ctx, from.bucket, from.key, o.bucket, o.key, headers, minio.CopySrcOptions{}, minio.PutObjectOptions{})
	if err == nil && made.ETag == "" && info.ETag != "" {
		return "", o.brokenOff()
	}
	return made.ETag, o.copyRefusal(ctx, from, err)
}

// copyRefusal says what it means that the store did not copy.
func (o *destination) copyRefusal(ctx context.Context, from place, err error) error {
	switch resp := minio.ToErrorResponse(err); {
	case err == nil:
		return nil
	case resp.StatusCode == http.StatusPreconditionFailed:
		return from.changed()
	case resp.Code == minio.NoSuchKey:
		return from.explain(ctx, classify("copy", from.subject(), err), "source")
	}
	return o.answered(ctx, err)
}

// empty writes an object without bytes.
func (o *destination) empty(ctx context.Context, from *minio.ObjectInfo, c storage.DirectCopy) (etag string, err error) {
	content := storage.Content{Body: strings.NewReader(""), ContentType: from.ContentType, Ready: c.Ready}
	stored, err := o.send(ctx, upload{contentType: from.ContentType, onlyNew: true, trail: o.shown(c.Trail)}, content)
	if err != nil {
		return "", o.refusal(ctx, err)
	}
	return stored.ETag, nil
}

// copyInParts copies with several requests, and one that makes an object of what they copied.
func (o *destination) copyInParts(ctx context.Context, from place, info *minio.ObjectInfo, c storage.DirectCopy) (etag string, err error) {
	name, err := o.begin(ctx, o.sameAs(info, c.Trail), false)
	if err != nil {
		return "", err
	}
	defer func() {
		if err == nil {
			return
		}
		if left := o.Abort(context.WithoutCancel(ctx), name); left != nil {
			err = errors.Join(err, left)
		}
	}()
	id, _, err := o.uploadID(name)
	if err != nil {
		return "", err
	}
	content := storage.PartContent{Size: info.Size, OnlyNew: c.OnlyNew}
	content.PartSize = roundUp(max(o.store.limits.part, (info.Size+maxParts-1)/maxParts), 1<<20)
	parts := make([]storage.PartStored, content.Count())
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(copiesOfOne)
	for i := range parts {
		group.Go(func() error {
			offset, size := content.Span(i + 1)
			etag, err := o.copyPart(groupCtx, from, info.ETag, id, i+1, offset, size)
			parts[i] = storage.PartStored{Number: i + 1, Size: size, ETag: etag}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return "", err
	}
	stored, err := o.commit(ctx, id, content, parts, c.Ready)
	return stored.ETag, err
}

func (o *destination) copyPart(ctx context.Context, from place, etag, id string, number int, offset, size int64) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, slowTimeout)
	defer cancel()
	headers := map[string]string{"X-Amz-Copy-Source-If-Match": etag}
	part, err := o.store.slow.CopyObjectPart(ctx, from.bucket, from.key, o.bucket, o.key, id, number, offset, size, headers)
	if err != nil {
		return "", o.copyRefusal(ctx, from, err)
	}
	if part.ETag == "" {
		return "", o.brokenOff()
	}
	return bare(part.ETag), nil
}
