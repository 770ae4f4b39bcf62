package worker

import (
	"context"
	"encoding/hex"
	"errors"

	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
)

// complete checks an item whose parts are all stored, and makes it visible.
func (o *owner) complete(ctx context.Context) (storage.Stored, error) {
	failpoint.HitItem(failpoint.PartsComplete, o.t.id)
	if err := o.verify(ctx); err != nil {
		return storage.Stored{}, wasted(err)
	}
	content := storage.PartContent{Size: o.plan.Size, PartSize: o.plan.PartSize, ContentType: o.plan.ContentType, OnlyNew: o.t.onlyNew(), Fresh: o.plan.Stale}
	parts := make([]storage.PartStored, len(o.states))
	for i := range o.states {
		s := &o.states[i]
		parts[i] = storage.PartStored{Number: s.Number, Size: s.Size, ETag: s.ETag, Checksum: s.Checksum}
		content.Fresh = content.Fresh || s.Twice
	}
	if err := o.save(ctx, func(p *protocol.PartPlan) { p.Completing = true }); err != nil {
		return storage.Stored{}, err
	}
	failpoint.HitItem(failpoint.Completing, o.t.id)
	stored, err := o.to.Complete(ctx, o.plan.Upload, content, parts, o.t.ready)
	if err != nil {
		return storage.Stored{}, wasted(err)
	}
	failpoint.HitItem(failpoint.UploadCompleted, o.t.id)
	if err := o.readBack(ctx, stored.ETag); err != nil {
		return storage.Stored{}, err
	}
	if err := o.w.parts.remove(context.WithoutCancel(ctx), o.j.held.Ref); err != nil { // an aggregator does it later
		o.w.cfg.Logger.Info("the records of an item's parts were not removed", "batch", o.j.work.Batch, "index", o.j.work.Index, "error", err)
	}
	o.j.parted = false
	failpoint.HitItem(failpoint.PartsCleared, o.t.id)
	failpoint.HitItem(failpoint.DestinationVisible, o.t.id)
	return stored, nil
}

// wastedError says that what is stored in parts is of no use to anybody, and does not tell which of them it is.
type wastedError struct{ error }

func (e *wastedError) Unwrap() error { return e.error }

func wasted(err error) error {
	if isCode(err, codeStoreMismatch) || isCode(err, codeSourceMismatch) {
		return &wastedError{err}
	}
	return err
}

// waste has the next attempt begin anew: with the same parts it would end in the same way.
func (o *owner) waste(ctx context.Context, err error) error {
	again := o.begin(ctx, protocol.RestartMismatch)
	switch {
	case errors.Is(again, errLeaseLost):
		return again
	case again != nil:
		o.w.cfg.Logger.Warn("what was stored of an item was not removed", "batch", o.j.work.Batch, "index", o.j.work.Index, "error", again)
	}
	return err
}

// verify holds what was stored to what the caller expects. What was not digested in passing is read where it lies, if that is possible.
func (o *owner) verify(ctx context.Context) error {
	if o.chain.idle() {
		return nil
	}
	if reader, can := o.to.(storage.UploadReader); can && o.chain.at < o.plan.Size {
		if err := o.digest(ctx, reader, o.plan.Size-o.chain.at); err != nil {
			return err
		}
	}
	if o.chain.at != o.plan.Size {
		if o.readable() {
			return nil // it is read back when it is visible
		}
		return storage.Errorf(storage.Internal, "digest_unknown", "verify", o.t.dest.Redacted(), "only %d of %d bytes were digested", o.chain.at, o.plan.Size)
	}
	if o.declared != "" && o.chain.sha != nil && hex.EncodeToString(o.chain.sha.Sum(nil)) != o.declared {
		return &sourceError{storage.Errorf(storage.Corrupt, codeSourceMismatch, "verify", o.t.src.Redacted(),
			"the SHA-256 of what came is not %s, as the source says", o.declared)}
	}
	if err := checkDigest(o.t, "sha256", o.t.expect.SHA256, o.chain.sha); err != nil {
		return &sourceError{err}
	}
	if o.chain.md5 != nil {
		if err := checkDigest(o.t, "md5", o.t.expect.MD5, o.chain.md5); err != nil {
			return &sourceError{err}
		}
	}
	return nil
}
