package worker

import (
	"context"
	"encoding/hex"
	"errors"
	"sync/atomic"
	"time"

	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/decorate"
)

// owner moves an item in parts: the one that holds the item does. Of all owners that an item may have at once, after a pause of a process
// or of the network, the plan's revision lets one go on.
type owner struct {
	w    *Worker
	j    *job
	t    transfer
	from storage.Ranger
	to   storage.PartDestination

	mark     storage.Mark // of the source
	kind     string       // content type
	sparse   bool         // the source has holes
	declared string       // SHA-256, by the source; "": it does not say
	plan     protocol.PartPlan
	revision uint64
	states   []protocol.PartState // of the parts, in order; see [isStored]
	resumes  *atomic.Int64        // of broken bodies
	resumed  int64                // bytes that earlier owners had stored
	waits    bool                 // it has a place among those that wait for their parts
	spread   bool                 // an earlier owner had spread the parts
	chain    *chain
	kept     []byte // the state of the chain at keptAt, the end of a part
	keptAt   int64
	meter    *meter // of what this owner reads
}

// maxRestarts is how often an attempt begins anew because its source or its upload is not what it was.
const maxRestarts = 2

// inParts moves an open source in parts. took is false if the item is to be moved as a whole; then restart says what was given up for that.
func (w *Worker) inParts(
	ctx context.Context, j *job, t transfer, source storage.Source, dest storage.Destination, object *storage.Object, resumes *atomic.Int64,
) (came copied, took bool, err error) {
	from, ranged := source.(storage.Ranger)
	to, parted := dest.(storage.PartDestination)
	if !parted {
		return copied{}, false, nil
	}
	mark := object.Mark()
	large := object.Size >= w.cfg.PartThreshold && object.Size > partSize(object.Size, w.cfg.PartSize, to.PartLimits())
	if !large || !ranged || !object.Ranges || !mark.Strong() || sent(&t, object) {
		if !j.mayHaveParts() {
			return copied{}, false, nil
		}
		had, err := w.dropParts(ctx, j, to)
		if had {
			came.restart = protocol.RestartSourceChanged
		}
		return came, false, err
	}
	j.parted = true
	o := &owner{w: w, j: j, t: t, from: from, to: to, resumes: resumes}
	o.meter = newCounter(&t, object.Size, w.copier.progress)
	defer w.copier.progress.end(o.meter)
	defer func() {
		if o.waits {
			<-w.waits
		}
	}()
	came, err = o.run(ctx, object)
	return came, true, err
}

// sent reports whether a file is copied to a file by the system, which is faster than any number of parts.
func sent(t *transfer, object *storage.Object) bool {
	_, file := object.Body.(storage.FileSender)
	return file && t.dest.Type == protocol.SandboxFile && newChain(t).idle() && len(object.Digests) == 0
}

// mayHaveParts reports whether an earlier owner may have left parts of an item, or this one has begun some.
func (j *job) mayHaveParts() bool {
	return j.work.Kind == protocol.KindCopy && (j.parted || j.repeated() && !j.unplanned)
}

// lookForPlan finds out, while the claim is fresh, whether a plan is there at all. Most items that come again have none, and then nothing
// is asked of the broker until they are to become visible: it may be away meanwhile.
func (w *Worker) lookForPlan(ctx context.Context, j *job) {
	if !j.mayHaveParts() || len(j.held.stale) > 0 {
		return
	}
	_, revision, err := w.parts.plan(ctx, j.held.Ref)
	j.unplanned = err == nil && revision == 0 // an error: it is looked for again where it matters
}

// run moves the item. What turns out to be of no use any more is given up, and everything begun anew.
func (o *owner) run(ctx context.Context, object *storage.Object) (copied, error) {
	reason := ""
	for restarts := 0; ; restarts++ {
		stored, err := o.move(ctx, object, reason)
		if err == nil {
			return o.came(stored), nil
		}
		if _, useless := errors.AsType[*wastedError](err); useless {
			err = o.waste(ctx, err)
			return o.failed(), err
		}
		reason = restartReason(err)
		if reason == "" || restarts == maxRestarts || ctx.Err() != nil {
			return o.failed(), err
		}
		o.w.cfg.Logger.Info("an item begins anew", "batch", o.j.work.Batch, "index", o.j.work.Index, "reason", reason, "error", err)
		again, openErr := o.from.Open(ctx)
		if openErr != nil {
			return o.failed(), &sourceError{openErr}
		}
		defer func() { _ = again.Body.Close() }() //nolint:gocritic // at most maxRestarts of them
		if mark := again.Mark(); !mark.Strong() || mark.Size == 0 {
			return o.failed(), err
		}
		if err := checkSize(o.t, again.Size); err != nil {
			return o.failed(), &sourceError{err}
		}
		object = again
	}
}

// failed is what a copy that failed came to.
func (o *owner) failed() copied {
	return copied{read: o.meter.read.Load(), restart: o.plan.RestartReason}
}

// restartReason is why all is to begin anew after an error; "": it is an error like any other.
func restartReason(err error) string {
	var class protocol.Class
	var code string
	source, fromSource := errors.AsType[*sourceError](err)
	if fromSource {
		err = source.err
	}
	if own, ok := errors.AsType[*failureError](err); ok { // of a part that another worker had
		class, code, fromSource = own.failure.Class, own.failure.Code, true
	} else if e, ok := errors.AsType[*storage.Error](err); ok {
		class, code = classes[e.Class], e.Code
	}
	switch {
	case code == storage.CodeUploadGone && (!fromSource || source == nil):
		return protocol.RestartUploadGone
	case code == storage.CodeSourceChanged && fromSource:
		return protocol.RestartSourceChanged
	case fromSource && (code == storage.CodeNoRanges && class == protocol.Invalid || code == storage.CodeRangeWrong && class == protocol.Corrupt):
		// It broke its word, but not as to the whole. Of another class is a body that broke off, and could not be continued: that waits.
		return protocol.RestartNoRanges
	}
	return ""
}

// move plans the parts, or finds the plan, has them copied, and makes the whole visible. reason is why what the plan says is given up.
func (o *owner) move(ctx context.Context, object *storage.Object, reason string) (storage.Stored, error) {
	o.mark, o.kind, o.declared, o.sparse = object.Mark(), object.ContentType, object.Digests[storage.DigestSHA256], object.Sparse
	if err := o.begin(ctx, reason); err != nil {
		return storage.Stored{}, err
	}
	err := o.inOrder(ctx, object)
	if errors.Is(err, errSpread) {
		err = o.scatter(ctx)
	}
	if err != nil {
		return storage.Stored{}, err
	}
	return o.complete(ctx)
}

// begin finds the plan of the item and takes it over, or makes one.
func (o *owner) begin(ctx context.Context, reason string) error {
	var err error
	if o.plan, o.revision, err = o.w.parts.plan(ctx, o.j.held.Ref); err != nil {
		return err
	}
	if o.revision == 0 {
		return o.anew(ctx, reason)
	}
	if reason == "" {
		reason = o.unusable()
	}
	if o.plan.Upload == "" && reason == "" { // its owner died while it began, or was not answered
		reason = o.plan.RestartReason
	} else if reason == "" {
		return o.takeOver(ctx)
	}
	// Whoever else takes itself for the owner is stopped first: what is removed here might be what that one goes on with.
	if err := o.save(ctx, func(p *protocol.PartPlan) { p.Epoch, p.Had = p.Epoch+1, p.Count }); err != nil {
		return err
	}
	if err := o.w.abortUpload(ctx, o.j.held.Ref, &o.plan, o.to); err != nil {
		return err
	}
	return o.anew(ctx, reason)
}

// unusable is why the plan that was found cannot be continued; "": it can.
func (o *owner) unusable() string {
	p := &o.plan
	switch {
	case p.Version > protocol.PartVersion, p.PartSize <= 0, p.Count <= 0, int64(p.Count) != (p.Size+p.PartSize-1)/p.PartSize:
		return protocol.RestartPlanChanged
	case !planMark(p).Equal(o.mark):
		return protocol.RestartSourceChanged
	}
	return ""
}

// save writes the plan with a change. An error of another owner's having written is [errLeaseLost].
func (o *owner) save(ctx context.Context, change func(*protocol.PartPlan)) error {
	plan := o.plan
	plan.Version, plan.Fence = protocol.PartVersion, o.j.held.Fence
	change(&plan)
	revision, err := o.w.parts.save(ctx, o.j.held.Ref, &plan, o.revision)
	if err != nil {
		return err
	}
	o.plan, o.revision, o.j.planned = plan, revision, revision
	return nil
}

// takeOver continues what an earlier owner, or an earlier attempt, has begun.
func (o *owner) takeOver(ctx context.Context) error {
	o.spread = o.plan.Spread
	had, err := o.w.parts.stored(ctx, o.j.held.Ref, &o.plan)
	if err != nil {
		return err
	}
	err = o.save(ctx, func(p *protocol.PartPlan) {
		p.Epoch, p.Had = p.Epoch+1, had
		p.Stale = p.Stale || p.Spread && !p.Settled || len(o.j.held.stale) > 0
		p.Spread, p.Settled = false, false
	})
	if err != nil {
		return err
	}
	o.states = make([]protocol.PartState, o.plan.Count)
	if err := o.w.parts.fill(ctx, o.j.held.Ref, &o.plan, o.states); err != nil {
		return err
	}
	o.resumeChain()
	o.resumed = 0
	for i := range o.states {
		if isStored(&o.states[i]) {
			o.resumed += o.sizeOf(i + 1)
		}
	}
	o.meter.goesOn(o.plan.Created, o.resumed)
	return nil
}

// resumeChain goes on with the digest from the last part up to which all parts are stored and one tells its state. Where the digest has to be known
// before the content is visible, and can be had in no other way, parts behind that one are copied once more.
func (o *owner) resumeChain() {
	o.chain = newChain(&o.t)
	if o.chain.idle() {
		return
	}
	end := 0
	for end < len(o.states) && isStored(&o.states[end]) {
		end++
	}
	from := 0
	for n := end; n > 0 && from == 0; n-- {
		if state := o.states[n-1].Chain; len(state) > 0 && o.chain.resume(state, o.offset(n)+o.sizeOf(n)) {
			from = n
		}
	}
	o.keepChain()
	if !o.readable() {
		clear(o.states[from:])
	}
}

// anew begins an upload and makes a plan for it. Where only the answer tells the name of the upload, a plan without it is stored first: the next
// owner learns from it that there may be one, and when it was begun.
func (o *owner) anew(ctx context.Context, reason string) error {
	size := partSize(o.mark.Size, o.w.cfg.PartSize, o.to.PartLimits())
	content := storage.PartContent{Size: o.mark.Size, PartSize: size, ContentType: o.kind, OnlyNew: o.t.onlyNew(), Sparse: o.sparse, Trail: o.t.trail}
	plan := protocol.PartPlan{
		Epoch: max(o.plan.Epoch, 1), ETag: o.mark.ETag, Modified: o.mark.Modified, Size: o.mark.Size, ContentType: o.kind, PartSize: size,
		Count: int((o.mark.Size + size - 1) / size), RestartReason: reason, Created: time.Now().UTC(),
	}
	if _, unnamed := decorate.Inner(o.to).(storage.BegunDiscarder); unnamed {
		if err := o.begun(ctx, plan); err != nil {
			return err
		}
	}
	upload, err := o.to.Begin(ctx, content)
	if err != nil {
		return err //nolint:wrapcheck // of the destination
	}
	failpoint.HitItem(failpoint.UploadBegun, o.t.id)
	plan.Upload = upload
	if err := o.begun(ctx, plan); err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortLimit)
		defer cancel()
		if abortErr := o.to.Abort(ctx, upload); abortErr != nil {
			o.w.cfg.Logger.Warn("what was begun for an item was not removed", "batch", o.j.work.Batch, "index", o.j.work.Index, "error", abortErr)
		}
		return err
	}
	failpoint.HitItem(failpoint.PartPlanned, o.t.id)
	o.kept, o.keptAt = nil, 0
	o.states, o.chain, o.resumed, o.spread = make([]protocol.PartState, o.plan.Count), newChain(&o.t), 0, false
	o.meter.goesOn(o.plan.Created, 0)
	return nil
}

// begun stores a new plan in the place of what there was.
func (o *owner) begun(ctx context.Context, plan protocol.PartPlan) error {
	return o.save(ctx, func(p *protocol.PartPlan) {
		plan.Version, plan.Fence = p.Version, p.Fence
		*p = plan
	})
}

const abortLimit = 30 * time.Second

// offset is where a part begins. Numbers begin with 1.
func (o *owner) offset(number int) int64 { return int64(number-1) * o.plan.PartSize }

func (o *owner) sizeOf(number int) int64 { return partLength(&o.plan, number) }

func partLength(plan *protocol.PartPlan, number int) int64 {
	return min(plan.PartSize, plan.Size-int64(number-1)*plan.PartSize)
}

// missing is the first part from a number on that is not stored; 0: there is none.
func (o *owner) missing(from int) int {
	for n := from; n <= len(o.states); n++ {
		if !isStored(&o.states[n-1]) {
			return n
		}
	}
	return 0
}

// left is how many parts are missing, and how many bytes they have.
func (o *owner) left() (parts int, bytes int64) {
	for i := range o.states {
		if !isStored(&o.states[i]) {
			parts++
			bytes += o.sizeOf(i + 1)
		}
	}
	return parts, bytes
}

// came is what the copy came to.
func (o *owner) came(stored storage.Stored) copied {
	came := copied{
		read: o.meter.read.Load(), stored: stored.Bytes, etag: stored.ETag, verified: true, status: stored.Status,
		method: protocol.MethodParts, resumed: o.resumed, restart: o.plan.RestartReason,
	}
	if o.chain.sha != nil && o.chain.at == o.plan.Size {
		came.sha256 = hex.EncodeToString(o.chain.sha.Sum(nil))
	}
	return came
}
