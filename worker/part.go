package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
)

const (
	partTries   = 3
	partBackoff = 5 * time.Second // most that is waited between tries, in a slot
)

// copyPart copies one part of an item that another worker, or this one, holds.
func (w *Worker) copyPart(ctx context.Context, j *job) (copied, error) {
	plan, err := w.planOf(ctx, j)
	if err != nil {
		return copied{}, err
	}
	t, err := w.transfer(ctx, j)
	if err != nil {
		return copied{}, err
	}
	t.stale = nil // they are its item's
	if t.src.Type == protocol.StagedUpload {
		if _, err := w.staged(ctx, j, &t); err != nil { // its item has put it together
			return copied{}, err
		}
	}
	came := copied{}
	for try := 1; ; try++ {
		part, err := w.onePart(ctx, j, &t, &plan, &came)
		if err == nil {
			part.Twice = j.twoWriters()
			came.part, came.stored = &part, part.Size
			return came, nil
		}
		err = blame(t, err)
		failure, retryAfter := explain(err)
		if ctx.Err() != nil || failure.Code == storage.CodeUploadGone || decideFailure(failure, false, try, partTries) != retry {
			return came, err
		}
		w.pause(ctx, min(backoff(try, retryAfter), partBackoff))
	}
}

// planOf returns the plan that a part belongs to, or [errUnwanted] if nobody waits for the part any more.
func (w *Worker) planOf(ctx context.Context, j *job) (protocol.PartPlan, error) {
	ref := j.held.Ref
	plan, revision, err := w.parts.plan(ctx, ref)
	if err != nil {
		return plan, err
	}
	if revision == 0 || plan.Version > protocol.PartVersion || plan.Epoch != j.work.Epoch || ref.Part < 1 || ref.Part > plan.Count {
		return plan, errUnwanted // its item has gone on without it
	}
	page, err := w.parts.page(ctx, ref, protocol.PartPageOf(ref.Part))
	if err != nil {
		return plan, err
	}
	for i := range page.Parts {
		if s := &page.Parts[i]; s.Number == ref.Part && isStored(s) && page.Upload == plan.Upload {
			return plan, errUnwanted
		}
	}
	return plan, nil
}

// twoWriters reports whether another worker may be at a part still: it was delivered before, and who had it is dead or silent. Most that come
// again were handed back before they were begun. A claim that is very old may have been removed with its worker.
func (j *job) twoWriters() bool {
	return j.repeated() && (len(j.held.stale) > 0 || time.Since(j.delivery.Published) > claimsFade)
}

// claimsFade is well below the time after which aggregators remove the claims of dead workers.
const claimsFade = 5 * time.Minute

// onePart makes one try.
func (w *Worker) onePart(ctx context.Context, j *job, t *transfer, plan *protocol.PartPlan, came *copied) (protocol.PartState, error) {
	from, ranged := w.copier.source(*t).(storage.Ranger)
	to, parted := w.copier.destination(*t).(storage.PartDestination)
	if !ranged || !parted {
		return protocol.PartState{}, storage.Errorf(storage.Invalid, "parts_unsupported", "write", t.dest.Redacted(), "this worker cannot copy a part of it")
	}
	number := j.work.Part
	offset, size := int64(number-1)*plan.PartSize, partLength(plan, number)
	counter := newCounter(t, size, w.copier.progress)
	defer w.copier.progress.end(counter)
	body := &partBody{left: size, counter: counter, read: &came.read, open: func() (*storage.Object, error) {
		return w.copier.openRange(ctx, t, from, planMark(plan), offset, size, new(atomic.Int64))
	}}
	defer body.close()
	stored, err := to.PutPart(ctx, plan.Upload, storage.Part{Number: number, Offset: offset, Size: size, Body: body})
	if err != nil {
		return protocol.PartState{}, fmt.Errorf("copy part %d of %s to %s: %w", number, t.src, t.dest, err)
	}
	if body.left > 0 {
		return protocol.PartState{}, storage.Errorf(storage.Internal, "part_short", "write", t.dest.Redacted(),
			"%d bytes of part %d were not taken", body.left, number)
	}
	failpoint.HitItem(failpoint.PartStored, t.id)
	w.strayed(ctx, j, plan.Upload, to)
	return protocol.PartState{
		Number: number, Size: stored.Size, Upload: plan.Upload, ETag: stored.ETag, Checksum: stored.Checksum, Worker: w.cfg.ID,
	}, nil
}

// partBody reads one part of a source, which it opens when the first byte is asked for: a destination that is away costs the source nothing.
type partBody struct {
	open func() (*storage.Object, error)
	body io.ReadCloser // nil: it is not open yet
	left int64
	read *int64

	counter *meter
}

// Read implements io.Reader.
func (b *partBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	if b.body == nil {
		object, err := b.open()
		if err != nil {
			return 0, &sourceError{err}
		}
		b.body = object.Body
	}
	n, err := b.body.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	*b.read += int64(n)
	b.counter.count(n)
	switch {
	case err == nil, err == io.EOF && b.left == 0: //nolint:errorlint // an error that wraps io.EOF is a broken connection
		return n, nil
	case err == io.EOF: //nolint:errorlint // as above
		err = storage.Errorf(storage.Interrupted, "source_short", "read", "source", "the source gave %d bytes less than were asked for", b.left)
	}
	return n, &sourceError{err}
}

func (b *partBody) close() {
	if b.body != nil {
		_ = b.body.Close() // read to its end, or failed already
	}
}

// finishPart has the news of a part reported, which has left its slot.
func (w *Worker) finishPart(work context.Context, j *job, res *result) {
	state := res.copied.part
	if state == nil {
		plan, _, err := w.parts.plan(work, j.held.Ref)
		if err != nil {
			w.abandon(work, err, j)
			w.reporter.leave()
			return
		}
		// All of it: the receipt of the item tells it. Its texts are bounded as those of receipts are, of which a page holds as many.
		state = &protocol.PartState{Number: j.work.Part, Upload: plan.Upload, Worker: w.cfg.ID, Failure: res.failure}
	}
	w.reportPart(j, state, j.work.Epoch, j)
}

// reportPart gives the news of a part to the reporter. answered, unless nil, is the job whose delivery waits for that, and which has room there.
func (w *Worker) reportPart(j *job, state *protocol.PartState, epoch int, answered *job) {
	ref := j.held.Ref
	ref.Part = state.Number
	encoded, err := protocol.Encode(protocol.PartReport{Ref: ref, Epoch: epoch, State: *state})
	if err != nil {
		w.cfg.Logger.Error("the news of a part cannot be encoded", "batch", ref.Batch, "index", ref.Index, "error", err)
		return // it is copied once more
	}
	w.reporter.add(news{job: answered, part: true, id: j.asked.ID, urgent: answered != nil, report: encoded, since: time.Now()})
}

// removeParts removes what is left of an item's parts, as far as that is possible: what is not is found by the aggregator later.
func (w *Worker) removeParts(work context.Context, j *job) error {
	if !j.mayHaveParts() || j.unreadable != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(work, abortLimit)
	defer cancel()
	t := transfer{org: j.work.Org, src: j.asked.Src, dest: j.asked.Dest, temp: protocol.TempToken(w.cfg.ID, j.held.HeldClaim), stale: j.held.stale}
	to, parted := w.copier.destination(t).(storage.PartDestination)
	if !parted {
		return nil
	}
	had, err := w.dropParts(ctx, j, to)
	if err != nil && had && !errors.Is(err, errLeaseLost) {
		w.cfg.Logger.Warn("what was stored of an item's parts was not removed", "batch", j.work.Batch, "index", j.work.Index, "error", err)
		return nil
	}
	return err
}
