package object

import (
	"context"
	"errors"
	"net/url"

	"github.com/copyfleet/copyfleet/storage"
)

// stater is a source that tells of itself without being read. Those of package storage/http do.
type stater interface {
	Stat(ctx context.Context) (storage.Stat, error)
}

// Stat looks at the object without reading it.
func (o *source) Stat(ctx context.Context) (storage.Stat, error) {
	if err := o.check("look at"); err != nil {
		return storage.Stat{}, err
	}
	u, err := o.store.client.PresignedGetObject(ctx, o.bucket, o.key, presignFor, url.Values{})
	if err != nil {
		return storage.Stat{}, classify("look at", o.subject(), err)
	}
	get, ok := o.store.cfg.Transport.Get(u.String(), nil).(stater)
	if !ok {
		return storage.Stat{}, storage.Errorf(storage.Internal, "unsupported", "look at", o.subject(), "the transport cannot look without reading")
	}
	stat, err := get.Stat(ctx)
	if err != nil {
		return storage.Stat{}, o.explain(ctx, err, "source")
	}
	return stat, nil
}

// Look tells what a Put would meet and writes nothing. A key that may write objects and not read them cannot tell what is there.
func (o *destination) Look(ctx context.Context) (storage.Look, error) {
	if err := o.check("look at"); err != nil {
		return storage.Look{}, err
	}
	look := storage.Look{Checked: true, Free: storage.UnknownSize}
	o.store.forget(o.bucket) // what is known of it may be a minute old
	exists, err := o.store.BucketExists(ctx, o.bucket)
	switch {
	case err != nil && !isDenied(err):
		return storage.Look{}, err
	case err == nil && !exists && o.store.cfg.AutoBuckets:
		look.Makes = "bucket"
		return look, nil
	case err == nil && !exists:
		e := noBucket("look at", o.subject(), o.bucket)
		o.asFile(e)
		return storage.Look{}, e
	}
	stat, err := (&source{o.place}).Stat(ctx)
	switch {
	case err == nil:
		look.Exists, look.Size = true, stat.Size
		return look, nil
	case storage.ClassOf(err) == storage.NotFound:
		return look, nil
	case isDenied(err):
		look.Checked = false
		return look, nil
	}
	return storage.Look{}, err
}

// isDenied reports whether credentials that are good lack a permission.
func isDenied(err error) bool {
	e, ok := errors.AsType[*storage.Error](err)
	return ok && e.Class == storage.Denied && (e.Code == accessDenied || e.Code == "source_http_403")
}

// LargestPut is the most bytes that a destination takes.
func (o *destination) LargestPut() int64 { return maxObject }
