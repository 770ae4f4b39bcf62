package worker

import (
	"context"
	"fmt"
	"path"
	"sync/atomic"

	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/internal/hosts"
	"github.com/copyfleet/copyfleet/internal/observe"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/resume"
	"github.com/copyfleet/copyfleet/storage/spool"
)

// Drivers are the places that bytes come from and go to.
type Drivers struct {
	Sandboxes SandboxDriver
	HTTP      HTTPDriver
	Objects   ObjectDriver
	// Staging reads what upload sessions have staged, and puts it together, in a bucket that Objects refuses. nil: none are published here.
	Staging ObjectDriver
}

// SandboxDriver reads and writes files of sandboxes. temp names the hidden file until the commit, stale the ones that
// earlier owners of the item may have left.
type SandboxDriver interface {
	Source(org, sandbox, path string) storage.Source
	Destination(org, sandbox, path, temp string, stale []string) storage.Destination
}

// HTTPDriver reads and writes URLs that callers gave; it guards what it dials.
type HTTPDriver interface {
	Get(url string, headers map[string]string) storage.Source
	Put(url string, headers map[string]string) storage.Destination
	PostForm(url string, form map[string]string, fileField, fileName string, headers map[string]string) storage.Destination
}

// ObjectDriver reads and writes objects of our own store; it presigns at the moment of use.
type ObjectDriver interface {
	Source(bucket, key string) storage.Source
	Destination(bucket, key string) storage.Destination
}

// copier joins a source and a destination.
type copier struct {
	drivers    Drivers
	spoolDir   string
	spoolLimit int64
	progress   *progress        // nil: nobody is told
	metrics    *observe.Metrics // nil: nothing is measured
}

// transfer is one copy to be made.
type transfer struct {
	org       protocol.OrgID
	id        string // the caller's, "" if none was given
	src, dest protocol.Location
	staged    protocol.Location // where what src names lies, if that is an upload session
	temp      string
	stale     []string
	claimed   func() error // asked before anything is done at the destination; nil: the item is claimed
	fence     func() error // asked right before the destination becomes visible
	expect    protocol.Expect
	conflict  protocol.ConflictPolicy // what to do about something that is there; "": replace it
	digest    protocol.Digest         // what is computed; "": SHA-256
	trail     string                  // of rules that led here, as the destination is to show it
	again     bool                    // an earlier attempt, or a worker that died, may have made the destination visible
	begun     bool                    // one of them has read of the source, or may have
	mismatch  bool                    // what the last attempt read was not what the source, or the store, says it is
	watched   *protocol.Work          // whose progress is told; nil: nobody's
	// inParts, unless nil, moves what is large enough in parts; see [Worker.inParts].
	inParts func(ctx context.Context, source storage.Source, dest storage.Destination, object *storage.Object, resumes *atomic.Int64) (copied, bool, error)
	visit   *hosts.Visit // at the hosts of both; nil: there are none
}

// copied is what a copy came to; after an error only read, status, resumes and restart count.
type copied struct {
	read     int64 // bytes taken from the source
	stored   int64
	sha256   string
	etag     string
	unpacked *protocol.Unpacked // nil: it is kept as it came
	verified bool
	status   int                 // HTTP, of the peer that was asked last; 0: none was
	resumes  int                 // how often the source broke off and went on
	method   string              // how it was made: one of the Method constants
	skip     string              // why it was not made, and need not be: one of the Skip constants
	restart  string              // why nothing of an earlier attempt could be used: one of the Restart constants
	resumed  int64               // bytes that an earlier attempt had stored
	part     *protocol.PartState // of a part that was copied
}

// sourceError marks an error of the source, so that one that surfaces from the destination's Put is told
// from the destination's own.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

// copy makes the copy, unless the item's policy, and what is at the destination, say that there is to be none. Its error says whose
// failure it was.
func (c *copier) copy(ctx context.Context, t transfer) (copied, error) {
	if t.src.Type != protocol.HTTPGet || !replaces(t.conflict) { // else nothing is done but asking for the source until the claim is waited for
		if err := t.awaitClaim(); err != nil {
			return copied{}, err
		}
	}
	came, settled, err := c.settle(ctx, t)
	if settled || err != nil {
		return came, err
	}
	came, took, err := c.direct(ctx, t)
	if !took {
		came, err = c.stream(ctx, t)
	}
	if t.dest.Type == protocol.SandboxTree && t.again && isExists(err) {
		return c.lateTree(ctx, t, err)
	}
	return late(t, came, err)
}

// stream makes the copy with bytes that pass through here, in parts or in one go.
func (c *copier) stream(ctx context.Context, t transfer) (copied, error) {
	var resumes atomic.Int64
	source := c.source(t)
	object, err := c.open(ctx, t, source, &resumes)
	if err != nil {
		return copied{restart: t.restartOf(source, nil)}, blame(t, &sourceError{err})
	}
	defer func() { _ = object.Body.Close() }() // read to its end, or failed already
	if err := t.awaitClaim(); err != nil {
		return copied{}, err
	}
	came, err := c.join(ctx, t, source, object, &resumes)
	came.resumes = int(resumes.Load())
	came.status = peerStatus(t, object.Status, came.status)
	if err != nil {
		return copied{read: came.read, status: came.status, resumes: came.resumes, restart: came.restart}, blame(t, err)
	}
	return came, nil
}

// join brings an open source to the destination.
func (c *copier) join(ctx context.Context, t transfer, source storage.Source, object *storage.Object, resumes *atomic.Int64) (copied, error) {
	if err := checkSize(t, object.Size); err != nil {
		return copied{restart: t.restartOf(source, object)}, &sourceError{err}
	}
	destination, restart := c.destination(t), ""
	if t.inParts != nil {
		came, took, err := t.inParts(ctx, source, destination, object, resumes)
		if took || err != nil {
			return came, err
		}
		restart = came.restart
	}
	came, err := c.move(ctx, t, destination, object)
	came.method, came.restart = protocol.MethodStream, orDefault(restart, t.restartOf(source, object))
	return came, err
}

// open opens the source. A body that breaks off goes on by itself, where the source can be read from the middle; each time is counted. A
// file of a directory that breaks off will do so again.
func (c *copier) open(ctx context.Context, t transfer, source storage.Source, resumes *atomic.Int64) (*storage.Object, error) {
	if c.inDirectory(t.src) {
		return source.Open(ctx) //nolint:wrapcheck // the driver's own words
	}
	return resume.Open(ctx, source, resume.Options{Resumed: func(int64, error) { resumes.Add(1) }})
}

// openRange opens a part of the source, in the same way.
func (c *copier) openRange(
	ctx context.Context, t *transfer, source storage.Ranger, mark storage.Mark, offset, length int64, resumes *atomic.Int64,
) (*storage.Object, error) {
	if c.inDirectory(t.src) {
		return source.OpenRange(ctx, mark, offset, length) //nolint:wrapcheck // the driver's own words
	}
	return resume.OpenRange(ctx, source, mark, offset, length, resume.Options{Resumed: func(int64, error) { resumes.Add(1) }})
}

// restartOf says why an attempt begins at the first byte although an earlier one had come further; "": none had, or nothing was to be continued.
// object is nil if the source could not be opened.
func (t *transfer) restartOf(source storage.Source, object *storage.Object) string {
	_, ranger := source.(storage.Ranger)
	switch {
	case !t.begun:
		return ""
	case t.mismatch:
		return protocol.RestartMismatch
	case t.dest.Type == protocol.HTTPPut || t.dest.Type == protocol.HTTPPostForm:
		return protocol.RestartNotPossible
	case !ranger || object != nil && (!object.Mark().Strong() || t.src.Type == protocol.HTTPGet && !object.Ranges):
		return protocol.RestartNoRanges
	}
	return ""
}

// awaitClaim returns when the item may touch its destination.
func (t *transfer) awaitClaim() error {
	if t.claimed == nil {
		return nil
	}
	return t.claimed()
}

// ready is asked right before a destination becomes visible, when it has all of its content.
func (t *transfer) ready() error {
	failpoint.HitItem(failpoint.BytesComplete, t.id)
	if err := t.fence(); err != nil {
		return err
	}
	failpoint.HitItem(failpoint.LeaseChecked, t.id)
	return nil
}

// move brings an open source to the destination in one go.
func (c *copier) move(ctx context.Context, t transfer, destination storage.Destination, object *storage.Object) (copied, error) {
	meter := newMeter(t, object)
	defer c.progress.end(meter)
	meter.progress = c.progress
	content := storage.Content{
		Body: meter.reader(), Size: object.Size, ContentType: object.ContentType, OnlyNew: t.onlyNew(), Sparse: object.Sparse, Trail: t.trail,
	}
	content.Ready = func() error {
		if err := meter.complete(t); err != nil {
			return err
		}
		return t.ready()
	}
	if object.Size == storage.UnknownSize && destination.NeedsSize() {
		spooled, err := spool.Content(ctx, meter, c.spoolDir, c.spoolLimit)
		if err != nil {
			return copied{read: meter.read.Load()}, &sourceError{err}
		}
		defer func() { _ = spooled.Close() }()    // an unlinked file; its space returns with the handle
		if err := meter.complete(t); err != nil { // it will be asked again, but all would have been sent by then
			return copied{read: meter.read.Load()}, err
		}
		content.Body, content.Size = spooled, spooled.Size()
	}
	stored, err := destination.Put(ctx, content)
	if err != nil {
		return copied{read: meter.read.Load()}, fmt.Errorf("copy %s to %s: %w", t.src, t.dest, err)
	}
	failpoint.HitItem(failpoint.DestinationVisible, t.id)
	return copied{
		read:     meter.read.Load(),
		stored:   stored.Bytes,
		sha256:   meter.sha256(),
		etag:     stored.ETag,
		unpacked: unpacked(stored),
		verified: meter.verified(t),
		status:   stored.Status,
	}, nil
}

// discarder is a destination that can remove what earlier owners of the item left without being written.
type discarder interface{ Discard() error }

// discard removes what earlier owners left at a destination of our own. At other places nothing can be left.
func (c *copier) discard(t transfer) error {
	if d, ok := c.destination(t).(discarder); ok {
		return d.Discard()
	}
	return nil
}

// driverSource is the source of a transfer as its driver gives it.
func (c *copier) driverSource(t transfer) storage.Source {
	switch t.src.Type {
	case protocol.SandboxFile:
		return c.drivers.Sandboxes.Source(string(t.org), string(t.src.Sandbox), t.src.Path)
	case protocol.HTTPGet:
		return c.drivers.HTTP.Get(t.src.URL, t.src.Headers)
	case protocol.Object:
		return c.drivers.Objects.Source(t.src.Bucket, t.src.Key)
	case protocol.StagedUpload:
		if t.staged.Key != "" {
			return c.drivers.Staging.Source(t.staged.Bucket, t.staged.Key)
		}
	case protocol.HTTPPut, protocol.HTTPPostForm, protocol.SandboxTree:
	}
	return unsupported{t.src.Type}
}

// driverDestination is the destination of a transfer as its driver gives it.
func (c *copier) driverDestination(t transfer) storage.Destination {
	switch t.dest.Type {
	case protocol.SandboxFile:
		return c.drivers.Sandboxes.Destination(string(t.org), string(t.dest.Sandbox), t.dest.Path, t.temp, t.stale)
	case protocol.HTTPPut:
		return c.drivers.HTTP.Put(t.dest.URL, t.dest.Headers)
	case protocol.HTTPPostForm:
		field := orDefault(t.dest.FileField, protocol.DefaultFileField)
		return c.drivers.HTTP.PostForm(t.dest.URL, t.dest.Form, field, fileName(t.src), t.dest.Headers)
	case protocol.Object:
		return c.drivers.Objects.Destination(t.dest.Bucket, t.dest.Key)
	case protocol.SandboxTree:
		return c.treeDestination(&t)
	case protocol.HTTPGet, protocol.StagedUpload:
	}
	return unsupported{t.dest.Type}
}

// fileName is the name that a form upload gives the file: the last element of where it comes from.
func fileName(src protocol.Location) string {
	switch src.Type {
	case protocol.SandboxFile:
		return path.Base(src.Path)
	case protocol.Object:
		return path.Base(src.Key)
	case protocol.HTTPGet, protocol.HTTPPut, protocol.HTTPPostForm, protocol.StagedUpload, protocol.SandboxTree:
	}
	return "file"
}

// unsupported stands for a location of a type that this build does not know: a newer front, an older worker.
type unsupported struct{ kind protocol.LocationType }

func (u unsupported) Open(context.Context) (*storage.Object, error) { return nil, u.err("open") }
func (u unsupported) NeedsSize() bool                               { return false }
func (u unsupported) Put(context.Context, storage.Content) (storage.Stored, error) {
	return storage.Stored{}, u.err("write")
}

func (u unsupported) err(op string) error {
	return storage.Errorf(storage.Invalid, "location_unsupported", op, string(u.kind), "this worker does not know locations of type %s", u.kind)
}
