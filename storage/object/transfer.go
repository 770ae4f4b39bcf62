package object

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/sandbox"
)

// Source returns an object to read. Its URL is made at each Open. It is a [storage.Ranger] and [storage.Digested].
func (s *Store) Source(bucket, key string) storage.Source {
	return &source{place{store: s, bucket: bucket, key: key}}
}

// Destination returns an object to write, of at most 5 TiB. It is a [storage.PartDestination], a [storage.PartLister], a [storage.DirectCopier]
// and a [storage.Remover].
func (s *Store) Destination(bucket, key string) storage.Destination {
	return &destination{place{store: s, bucket: bucket, key: key}}
}

// place is one object of a store.
type place struct {
	store       *Store
	bucket, key string
	file        file   // of a sandbox, that the object holds; the zero value if it is an object for its own sake
	staging     string // the bucket of uploads, if the object is reached as one of it; ""
}

// makesBucket reports whether a missing bucket is made at its first use.
func (p place) makesBucket() bool { return p.store.cfg.AutoBuckets || p.staging != "" }

func (p place) subject() string {
	if p.file != (file{}) {
		return sandbox.Subject(p.file.sandbox, p.file.path)
	}
	return subject(p.bucket, p.key)
}

type source struct{ place }

// Open implements storage.Source.
func (o *source) Open(ctx context.Context) (*storage.Object, error) {
	if err := o.check("open"); err != nil {
		return nil, err
	}
	get, err := o.get(ctx, tellChecksums)
	if err != nil {
		return nil, err
	}
	object, err := get.Open(ctx)
	return o.opened(ctx, object, err)
}

// OpenRange implements storage.Ranger.
func (o *source) OpenRange(ctx context.Context, mark storage.Mark, offset, length int64) (*storage.Object, error) {
	if err := o.check("open"); err != nil {
		return nil, err
	}
	get, err := o.get(ctx, nil)
	if err != nil {
		return nil, err
	}
	ranger, ok := get.(storage.Ranger)
	if !ok {
		return nil, storage.Errorf(storage.Invalid, storage.CodeNoRanges, "open", o.subject(), "the transport cannot read a part")
	}
	if length == storage.UnknownSize || length > mark.Size-offset {
		length = mark.Size - offset
	}
	if length == 0 && offset >= 0 {
		return o.nothing(ctx, mark)
	}
	object, err := ranger.OpenRange(ctx, mark, offset, length)
	if told, ok := errors.AsType[*storage.Error](err); ok && told.Code == storage.CodeSourceShort {
		return nil, o.changed() // a store has all bytes that it tells of an object: it is a shorter one by now
	}
	return o.opened(ctx, object, err)
}

// nothing is a range of no bytes, which no request can ask for: whether the object is still the one is asked apart.
func (o *source) nothing(ctx context.Context, mark storage.Mark) (*storage.Object, error) {
	stat, err := o.Stat(ctx)
	if err != nil {
		return nil, err
	}
	if stat.Size != mark.Size || stat.ETag != mark.ETag && stat.ETag != "" { // MinIO tells no ETag where there are no bytes
		return nil, o.changed()
	}
	return &storage.Object{Body: http.NoBody, ContentType: stat.ContentType, ETag: stat.ETag, Modified: stat.Modified, Ranges: true}, nil
}

func (p place) changed() *storage.Error {
	return storage.Errorf(storage.Corrupt, storage.CodeSourceChanged, "open", p.subject(), "the object is not any more what it was when the copy began")
}

// tellChecksums makes a store tell the checksums that it keeps of an object beside its content.
var tellChecksums = map[string]string{"X-Amz-Checksum-Mode": "ENABLED"}

func (o *source) get(ctx context.Context, headers map[string]string) (storage.Source, error) {
	signed := http.Header{}
	for name, value := range headers {
		signed.Set(name, value)
	}
	u, err := o.store.client.PresignHeader(ctx, http.MethodGet, o.bucket, o.key, presignFor, url.Values{}, signed)
	if err != nil {
		return nil, classify("open", o.subject(), err)
	}
	return o.store.cfg.Transport.Get(u.String(), headers), nil
}

// opened names the object in what the transport gave.
func (o *source) opened(ctx context.Context, object *storage.Object, err error) (*storage.Object, error) {
	if err != nil {
		return nil, o.explain(ctx, err, "source")
	}
	object.Ranges = true // S3 reads parts of everything
	object.Body = &body{object.Body, o.place}
	return object, nil
}

// body is an open object whose errors name it.
type body struct {
	io.ReadCloser
	place place
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // an error that wraps io.EOF is not the end
		err = b.place.named(err)
	}
	return n, err
}

// named names the object in a transport's error, in place of a URL.
func (p place) named(err error) error {
	e, ok := errors.AsType[*storage.Error](err)
	if !ok {
		return err
	}
	named := *e
	named.Subject = p.subject()
	return &named
}

// explain names the object in a transport's error, and says what it means.
func (p place) explain(ctx context.Context, err error, side string) error {
	err = p.named(err)
	e, ok := errors.AsType[*storage.Error](err)
	if !ok {
		return err
	}
	if e.Status == http.StatusNotFound {
		p.explainMissing(ctx, e, side)
	}
	explainSkew(e, e.Reason)
	explainTree(e)
	p.asFile(e)
	return err
}

const bucketVanished = "bucket_vanished"

// explainMissing finds out what a 404 means.
func (p place) explainMissing(ctx context.Context, e *storage.Error, side string) {
	e.Code = side + "_object_not_found"
	p.store.forget(p.bucket)
	exists, lookErr := p.store.BucketExists(ctx, p.bucket)
	switch denied, _ := errors.AsType[*storage.Error](lookErr); {
	case denied != nil && denied.Class == storage.Denied && denied.Code != accessDenied:
		// Some answer an unknown key with 404.
		e.Class, e.Code, e.Message = denied.Class, denied.Code, denied.Message
	case lookErr != nil || exists:
	case side == "source" && (p.file != (file{}) || p.staging != "") && p.makesBucket(): // nothing was written to it yet
	case side == "dest" && p.makesBucket():
		e.Class, e.Code = storage.Unavailable, bucketVanished
		e.Message = "the bucket was removed a moment ago; the next attempt makes it once more"
	default:
		e.Code, e.Message, e.Hint = "bucket_not_found", "the bucket does not exist", fmt.Sprintf("Create the bucket %q.", p.bucket)
	}
}
