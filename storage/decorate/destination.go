package decorate

import (
	"context"
	"io"

	"github.com/copyfleet/copyfleet/storage"
)

// Destination puts hooks around a destination.
func Destination(inner storage.Destination, hooks Hooks) storage.Destination {
	d := &destination{in: inner, hooks: hooks}
	in, ok := inner.(storage.PartDestination)
	if !ok {
		return d
	}
	parts := &partDestination{d, in}
	if reader, ok := inner.(storage.UploadReader); ok {
		return &readable{parts, reader}
	}
	return parts
}

type destination struct {
	in    storage.Destination
	hooks Hooks
}

func (d *destination) inner() any { return d.in }

// NeedsSize asks the inner destination.
func (d *destination) NeedsSize() bool { return d.in.NeedsSize() }

// Put writes to the inner destination.
func (d *destination) Put(ctx context.Context, content storage.Content) (stored storage.Stored, err error) {
	content.Body = d.hooks.body(ctx, Put, content.Body)
	err = d.hooks.call(ctx, Put, func() (err error) {
		stored, err = d.in.Put(ctx, content)
		return err
	})
	return stored, err
}

// Look asks the inner destination; at one that cannot be looked at nothing was looked for.
func (d *destination) Look(ctx context.Context) (look storage.Look, err error) {
	in, ok := d.in.(interface {
		Look(ctx context.Context) (storage.Look, error)
	})
	if !ok {
		return storage.Look{Free: storage.UnknownSize}, nil
	}
	err = d.hooks.call(ctx, Look, func() (err error) {
		look, err = in.Look(ctx)
		return err
	})
	return look, err
}

// CopyFrom lets the inner destination copy the inner source; one that cannot does not take it.
func (d *destination) CopyFrom(ctx context.Context, source storage.Source, c storage.DirectCopy) (stored storage.Stored, took bool, err error) {
	in, ok := d.in.(storage.DirectCopier)
	if !ok {
		return storage.Stored{}, false, nil
	}
	if from, ok := Inner(source).(storage.Source); ok {
		source = from
	}
	err = d.hooks.call(ctx, CopyFrom, func() (err error) {
		stored, took, err = in.CopyFrom(ctx, source, c)
		return err
	})
	return stored, took, err
}

// Discard asks the inner destination; one that leaves nothing has nothing to remove.
func (d *destination) Discard() error {
	in, ok := d.in.(interface{ Discard() error })
	if !ok {
		return nil
	}
	return in.Discard()
}

// DiscardUploads is Discard of what was begun in parts.
func (d *destination) DiscardUploads(keep string) error {
	in, ok := d.in.(interface{ DiscardUploads(keep string) error })
	if !ok {
		return nil
	}
	return in.DiscardUploads(keep)
}

// partDestination is a destination that can be written in parts.
type partDestination struct {
	*destination

	in storage.PartDestination
}

// PartLimits asks the inner destination.
func (d *partDestination) PartLimits() storage.PartLimits { return d.in.PartLimits() }

// Begin begins at the inner destination.
func (d *partDestination) Begin(ctx context.Context, content storage.PartContent) (upload string, err error) {
	err = d.hooks.call(ctx, Begin, func() (err error) {
		upload, err = d.in.Begin(ctx, content)
		return err
	})
	return upload, err
}

// PutPart stores at the inner destination.
func (d *partDestination) PutPart(ctx context.Context, upload string, part storage.Part) (stored storage.PartStored, err error) {
	part.Body = d.hooks.body(ctx, PutPart, part.Body)
	err = d.hooks.call(ctx, PutPart, func() (err error) {
		stored, err = d.in.PutPart(ctx, upload, part)
		return err
	})
	return stored, err
}

// Complete completes at the inner destination.
func (d *partDestination) Complete(
	ctx context.Context, upload string, content storage.PartContent, parts []storage.PartStored, ready func() error,
) (stored storage.Stored, err error) {
	err = d.hooks.call(ctx, Complete, func() (err error) {
		stored, err = d.in.Complete(ctx, upload, content, parts, ready)
		return err
	})
	return stored, err
}

// Abort aborts at the inner destination.
func (d *partDestination) Abort(ctx context.Context, upload string) error {
	return d.hooks.call(ctx, Abort, func() error { return d.in.Abort(ctx, upload) })
}

// readable is one whose parts can be read before they are visible.
type readable struct {
	*partDestination

	reader storage.UploadReader
}

// OpenUpload opens at the inner destination.
func (d *readable) OpenUpload(ctx context.Context, upload string, offset int64) (body io.ReadCloser, err error) {
	err = d.hooks.call(ctx, OpenUpload, func() (err error) {
		body, err = d.reader.OpenUpload(ctx, upload, offset)
		return err
	})
	if err != nil {
		if body != nil {
			_ = body.Close() // the error is the hook's
		}
		return nil, err
	}
	return d.hooks.closing(ctx, OpenUpload, body), nil
}
