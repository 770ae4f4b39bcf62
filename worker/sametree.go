package worker

import (
	"bufio"
	"context"
	"errors"
	"io"
	"path"
	"sync/atomic"

	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/archive"
)

// errDiffers says that a directory is not what an archive would become.
var errDiffers = errors.New("the directory is not that of the archive")

// sameTree reports whether each file of an archive is at the destination, byte by byte. What a worker that died right after its directory was
// visible has done is told by that from what somebody else has there. Links, and what is there beside, are not looked at.
func (c *copier) sameTree(ctx context.Context, t transfer) (came copied, same bool, err error) {
	var resumes atomic.Int64
	object, err := c.open(ctx, t, c.source(t), &resumes)
	if err != nil {
		return copied{}, false, blame(t, &sourceError{err})
	}
	defer func() { _ = object.Body.Close() }() // only read
	meter := newMeter(t, object)
	defer c.progress.end(meter)
	meter.progress = c.progress
	count := &protocol.Unpacked{}
	err = archive.Walk(meter, TreeLimits, func(e archive.Entry) error {
		switch e.Kind {
		case archive.File:
			count.Files++
			count.Bytes += e.Size
			return c.sameFile(ctx, &t, &e)
		case archive.Link, archive.Symlink:
			count.Files++
		case archive.Dir:
		}
		return nil
	})
	if err == nil {
		err = meter.complete(t)
	}
	came = copied{read: meter.read.Load(), resumes: int(resumes.Load())}
	if errors.Is(err, errDiffers) {
		return came, false, nil
	}
	if err != nil {
		return came, false, blame(t, err)
	}
	came.stored, came.sha256, came.unpacked, came.verified, came.method = came.read, meter.sha256(), count, meter.verified(t), protocol.MethodStream
	return came, true, nil
}

// sameFile compares a file of an archive with the one that is in its place.
func (c *copier) sameFile(ctx context.Context, t *transfer, e *archive.Entry) error {
	there := t.reverse()
	there.src.Type, there.src.Path = protocol.SandboxFile, path.Join(t.dest.Path, e.Path)
	object, err := c.source(there).Open(ctx)
	switch storage.ClassOf(err) {
	case storage.NotFound, storage.Denied, storage.Invalid, storage.Conflict:
		return errDiffers // nothing, or something that is no file
	default:
	}
	if err != nil {
		return err //nolint:wrapcheck // the driver's own words
	}
	defer func() { _ = object.Body.Close() }() // only read
	if object.Size != storage.UnknownSize && object.Size != e.Size {
		return errDiffers
	}
	return sameBytes(e.Body, object.Body)
}

// sameBytes compares what two readers give, with little memory.
func sameBytes(a, b io.Reader) error {
	left, right := bufio.NewReader(a), bufio.NewReader(b)
	for {
		x, errX := left.ReadByte()
		y, errY := right.ReadByte()
		switch {
		case errX == io.EOF && errY == io.EOF:
			return nil
		case errX != nil && errX != io.EOF:
			return errX //nolint:wrapcheck // of the archive
		case errY != nil && errY != io.EOF:
			return errY //nolint:wrapcheck // of the sandbox
		case errX != nil, errY != nil, x != y:
			return errDiffers
		}
	}
}
