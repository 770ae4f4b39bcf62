package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
)

// direct lets the store copy by itself, where both ends of an item are in one: no byte of it passes through this process. took is
// false if it cannot, and nothing has happened: the item is to be copied as any other.
func (c *copier) direct(ctx context.Context, t transfer) (came copied, took bool, err error) {
	if !stored(t.src) || !stored(t.dest) {
		return copied{}, false, nil
	}
	_, can := c.driverDestination(t).(storage.DirectCopier)
	destination, ok := c.destination(t).(storage.DirectCopier)
	if !can || !ok {
		return copied{}, false, nil
	}
	source := c.source(t)
	known, vouched := storage.Digests{Mark: storage.Mark{Size: storage.UnknownSize}}, true
	if t.expect.Given() {
		known, vouched, err = vouch(ctx, t, source)
	}
	if err != nil {
		return copied{}, true, blame(t, &sourceError{err})
	}
	if !vouched {
		return copied{}, false, nil
	}
	ask := storage.DirectCopy{Mark: known.Mark, OnlyNew: t.onlyNew(), Trail: t.trail, Ready: t.ready}
	result, took, err := destination.CopyFrom(ctx, c.driverSource(t), ask)
	switch {
	case !took && err == nil:
		return copied{}, false, nil
	case err != nil:
		return copied{}, true, blame(t, ofSource(fmt.Errorf("copy %s to %s: %w", t.src, t.dest, err)))
	}
	failpoint.HitItem(failpoint.DestinationVisible, t.id)
	return copied{
		stored: result.Bytes, sha256: t.expect.SHA256, etag: result.ETag, status: result.Status, method: protocol.MethodServerCopy,
		verified: result.Compared,
	}, true, nil
}

// stored reports whether a location may be in a store of objects.
func stored(l protocol.Location) bool {
	return l.Type == protocol.Object || l.Type == protocol.SandboxFile || l.Type == protocol.StagedUpload
}

// vouch looks at a source that is not to be read. vouched: its state is known well enough, and the store itself says that it has every
// digest that the caller promised.
func vouch(ctx context.Context, t transfer, source storage.Source) (known storage.Digests, vouched bool, err error) {
	switch s := source.(type) {
	case storage.Digested:
		known, err = s.Digests(ctx)
	case stater:
		var stat storage.Stat
		stat, err = s.Stat(ctx)
		known.Mark = storage.Mark{ETag: stat.ETag, Modified: stat.Modified, Size: stat.Size}
	default:
		return known, false, nil
	}
	if err == nil {
		err = checkSize(t, known.Mark.Size)
	}
	if err != nil {
		return known, false, err
	}
	for _, promise := range [2]struct{ kind, want string }{{storage.DigestSHA256, t.expect.SHA256}, {storage.DigestMD5, t.expect.MD5}} {
		switch have := known.Of[promise.kind]; {
		case promise.want == "" || promise.want == have:
		case have == "" || promise.kind == storage.DigestMD5: // an ETag that looks like an MD5 may be none: what was read tells
			return known, false, nil
		default:
			return known, false, mismatch(t, promise.kind, have, promise.want)
		}
	}
	return known, known.Mark.Strong(), nil
}

// ofSource marks an error that tells of the source, so that it is blamed.
func ofSource(err error) error {
	e, ok := errors.AsType[*storage.Error](err)
	if ok && (strings.HasPrefix(e.Code, "source_") || e.Code == "sandbox_file_not_found") {
		return &sourceError{err}
	}
	return err
}
