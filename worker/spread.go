package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/internal/hosts"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
)

const (
	// partsAhead is how many works for parts of one item are in the queue: more would stand in the way of other tenants' items, and
	// make the feeder believe that workers have enough to do.
	partsAhead = 64
	partsLook  = 2 * time.Second // how often the records of parts are read though nobody told of news
	// partsLost is how many heartbeats nothing is heard of parts until they are published again although items of their batch wait in the queue.
	partsLost = 12
)

// waitMost is how many items may wait for their parts at once, outside of the slots.
func waitMost(slots int) int { return max(4, slots/2) }

// takeWait takes a place among the items that wait for their parts, if there is one.
func (w *Worker) takeWait() bool {
	select {
	case w.waits <- struct{}{}:
		return true
	default:
		return false
	}
}

// wait takes such a place for the item, which it gives back when it has ended here.
func (o *owner) wait() bool {
	o.waits = o.waits || o.w.takeWait()
	return o.waits
}

// stepOut gives up the slot of an item that only waits from here on. It is held as before.
func (w *Worker) stepOut(j *job) {
	if j.out {
		return
	}
	w.slots.line.leave(j.bulk(), j.entered)
	w.leaveSlot(j)
	j.visit.Leave(j.visited(nil, &result{})...)
	j.out = true
}

// maySpread reports whether parts may be copied by others. Where a digest is to be known before the content is visible, it must be
// possible to read what they wrote. What workers have died of stays alone, and so does what a source gives as a whole only.
func (o *owner) maySpread() bool {
	return o.readable() && o.j.held.Crashes < soloCrashes && o.plan.RestartReason != protocol.RestartNoRanges
}

// readable reports whether a digest that was not made in passing can be made before it is asked for.
func (o *owner) readable() bool {
	_, can := o.to.(storage.UploadReader)
	return can || o.t.expect.SHA256 == "" && o.t.expect.MD5 == "" && (o.declared == "" || o.chain.sha == nil)
}

// scatter publishes the parts that are missing as work for all, and waits until they are stored. The item leaves its slot for that: parts
// find slots even if every worker holds nothing but items that wait.
func (o *owner) scatter(ctx context.Context) error {
	o.rewind()
	if err := o.save(ctx, func(p *protocol.PartPlan) { p.Spread = true }); err != nil {
		return err
	}
	ref := o.j.held.Ref
	changes, stop, err := o.w.conn.WatchParts(ref.Org, ref.Batch, ref.Index)
	if err != nil {
		return unconfirmed(err)
	}
	defer stop()
	o.w.stepOut(o.j)
	look := time.NewTimer(partsLook)
	defer look.Stop()
	p := &scattered{o: o, news: time.Now()}
	defer p.moving.hear(o.w, ref)()
	if o.spread { // works of the earlier epoch may run
		p.spare(ctx)
	}
	for {
		if err := p.step(ctx); err != nil || o.missing(1) == 0 {
			return err
		}
		if o.advance(ctx) {
			continue
		}
		look.Reset(p.rest())
		select {
		case <-ctx.Done():
			o.settle(ctx)
			return context.Cause(ctx) //nolint:wrapcheck // says whose wish it was
		case <-o.w.stopping:
			return errDraining // another worker goes on: this one takes no parts any more
		case <-changes:
		case <-look.C:
		}
	}
}

// scattered is how far the parts of an item are, as its owner knows.
type scattered struct {
	o      *owner
	moving moving
	out    map[int]bool // parts that are in the queue, or with a worker
	next   int          // from where on none was published
	known  int          // how many are stored
	news   time.Time    // when one of them came last
	late   int          // how often since then it was looked for lost ones
	lost   []int        // parts that may be lost, if the reports up to mark do not say otherwise
	mark   uint64
	fold   uint64 // nothing is published until the reports up to here are folded; 0: there is nothing to wait for
	again  bool   // what is published may have been with a worker before
}

// step reads what became of the parts, and has more of them copied.
func (p *scattered) step(ctx context.Context) error {
	o := p.o
	if err := o.w.parts.fill(ctx, o.j.held.Ref, &o.plan, o.states); err != nil {
		o.w.cfg.Logger.Warn("cannot read the parts of an item; trying again", "batch", o.j.work.Batch, "index", o.j.work.Index, "error", err)
		return nil
	}
	stored, bytes := 0, int64(0)
	for i := range o.states {
		s := &o.states[i]
		if s.Failure != nil {
			return o.failedPart(s.Number, s.Failure, p.known)
		}
		if isStored(s) {
			delete(p.out, s.Number)
			stored, bytes = stored+1, bytes+o.sizeOf(s.Number)
		}
	}
	o.meter.ahead.Store(bytes + p.moving.bytes(o.states, o.sizeOf) - o.meter.read.Load())
	o.meter.watch()
	if stored > p.known {
		p.known, p.news, p.late, p.lost = stored, time.Now(), 0, nil
	}
	if o.w.controls.wanted(nameOf(&o.j.work)) == protocol.WantPause {
		return nil // nothing more begins; the item is broken off with its parts, unless the batch goes on before
	}
	if p.recalled() {
		return p.renew(ctx)
	}
	p.recover(ctx)
	p.publish(ctx)
	return nil
}

// failedPart is what the failure of a part means for its item. One at a host that rests was not tried: its item waits for the host like any
// other, uncharged.
func (o *owner) failedPart(number int, f *protocol.Failure, stored int) error {
	failed := &failureError{f.Clipped()}
	failed.failure.Part = number
	if f.Code != codeHostRest {
		return failed
	}
	for _, key := range o.j.gates {
		if !strings.HasSuffix(key.Host, "://"+f.Host) {
			continue
		}
		if stored > o.plan.Had { // the host has worked since the item waited last
			o.j.work.Since = time.Time{}
		}
		o.j.work.Recheck = true // whoever gets it must know that there is a plan
		return &hosts.LaterError{
			Key: key, Wait: max(o.w.hosts.Rests(key), restAgain), Resting: true, Cause: f.Cause, Class: string(f.Class),
		}
	}
	return failed
}

// restAgain is how long an item waits whose parts have found their host resting, if this worker does not know for how long.
const restAgain = 2 * time.Second

// publish has parts copied that are missing, a few at a time.
func (p *scattered) publish(ctx context.Context) {
	o := p.o
	if p.out == nil {
		p.out, p.next = map[int]bool{}, 1
	}
	if len(p.out) > partsAhead/2 {
		return
	}
	var numbers []int
	n := o.missing(p.next)
	for ; n > 0 && len(p.out)+len(numbers) < partsAhead; n = o.missing(n + 1) {
		if !p.out[n] {
			numbers = append(numbers, n)
		}
	}
	if len(numbers) == 0 {
		return
	}
	if err := o.publish(ctx, numbers, p.again); err != nil {
		o.w.cfg.Logger.Warn("cannot publish the parts of an item; trying again", "batch", o.j.work.Batch, "index", o.j.work.Index, "error", err)
		return
	}
	for _, number := range numbers {
		p.out[number] = true
	}
	p.next = numbers[len(numbers)-1] + 1
	failpoint.HitItem(failpoint.PartsSpread, o.t.id)
}

// spare leaves those parts to the workers that have them already.
func (p *scattered) spare(ctx context.Context) {
	p.out, p.next = map[int]bool{}, 1
	taken, err := p.o.w.claims.parts(ctx, p.o.j.held.Ref)
	if err != nil {
		return // they are copied twice
	}
	for number := range taken {
		if number <= len(p.o.states) {
			p.out[number] = true
		}
	}
}

// recover publishes parts again that may be lost: nothing was heard for long, no living worker claims them, all that was reported until that was
// known is folded, and nothing of the batch waits in the queue. If they are not lost, whoever comes second finds the part stored, or
// stores it once more.
func (p *scattered) recover(ctx context.Context) {
	o := p.o
	if time.Since(p.news) < time.Duration(p.late+1)*heartbeat(o.w.conn) || len(p.out) == 0 {
		return
	}
	p.late++
	if p.lost == nil {
		p.suspect(ctx)
		return
	}
	work := &o.j.work
	floor, _, err := o.w.conn.ReportFloor(ctx)
	if err != nil || floor < p.mark {
		return // they may be done, and nobody has read it yet
	}
	waits, err := o.w.conn.Waits(ctx, broker.Shard{Lane: work.Lane, Pool: work.Pool, Index: work.Shard}, work.Org, work.Batch)
	if err != nil || waits && p.late < partsLost {
		return
	}
	taken, err := o.w.claims.parts(ctx, o.j.held.Ref)
	if err != nil {
		return
	}
	lost := slices.DeleteFunc(p.lost, func(number int) bool { return taken[number] || isStored(&o.states[number-1]) })
	p.lost, p.late = nil, 0
	p.news = time.Now()
	if len(lost) == 0 {
		return
	}
	o.w.cfg.Logger.Info("parts of an item seem to be lost and are published again", "batch", work.Batch, "index", work.Index, "parts", len(lost))
	if err := o.publish(ctx, lost, true); err != nil {
		o.w.cfg.Logger.Warn("cannot publish the parts of an item; trying again", "batch", work.Batch, "index", work.Index, "error", err)
	}
}

// suspect notes which parts nobody claims, and how far reports had come then.
func (p *scattered) suspect(ctx context.Context) {
	taken, err := p.o.w.claims.parts(ctx, p.o.j.held.Ref)
	if err != nil {
		return
	}
	_, last, err := p.o.w.conn.ReportFloor(ctx)
	if err != nil {
		return
	}
	p.mark = last
	for number := range p.out {
		if !taken[number] {
			p.lost = append(p.lost, number)
		}
	}
}

// publish puts works for parts into the queue.
func (o *owner) publish(ctx context.Context, numbers []int, again bool) error {
	work := o.j.work
	work.Version, work.Kind, work.Epoch, work.Recheck = protocol.WorkVersion, protocol.KindPart, o.plan.Epoch, again
	work.Attempts, work.Fence, work.Chunks = nil, 0, 0
	works := make([][]byte, len(numbers))
	for i, number := range numbers {
		work.Part = number
		encoded, err := protocol.Encode(&work)
		if err != nil {
			return fmt.Errorf("publish parts: %w", err)
		}
		works[i] = encoded
	}
	if err := o.w.conn.PublishParts(ctx, protocol.WorkSubject(work.Lane, work.Pool, work.Shard, work.Org, work.Batch), works); err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	if err := o.w.conn.Wake(broker.Shard{Lane: work.Lane, Pool: work.Pool, Index: work.Shard}); err != nil {
		o.w.cfg.Logger.Debug("workers were not woken and will look by themselves", "error", err)
	}
	return nil
}

// advance digests one more part of those that are stored without a gap, and reports whether there was one: so that little is left of that to
// be done at the end. That it fails does not matter here.
func (o *owner) advance(ctx context.Context) bool {
	reader, can := o.to.(storage.UploadReader)
	if !can || o.chain.idle() || o.chain.at >= o.plan.Size {
		return false
	}
	number := int(o.chain.at/o.plan.PartSize) + 1
	if o.chain.at != o.offset(number) || !isStored(&o.states[number-1]) {
		return false
	}
	if err := o.digest(ctx, reader, o.sizeOf(number)); err != nil {
		o.rewind()
		return false
	}
	return true
}

// digest goes on with the chain over so many bytes of what is stored.
func (o *owner) digest(ctx context.Context, reader storage.UploadReader, n int64) error {
	body, err := reader.OpenUpload(ctx, o.plan.Upload, o.chain.at)
	if err != nil {
		return err //nolint:wrapcheck // of the destination
	}
	defer func() { _ = body.Close() }() // only read
	got, err := o.chain.copy(io.LimitReader(stopping{ctx, body}, n))
	if err != nil {
		return err //nolint:wrapcheck // of the destination
	}
	if got != n {
		return storage.Errorf(storage.Interrupted, "upload_short", "verify", o.t.dest.Redacted(), "%d bytes of %d could be read back", got, n)
	}
	o.keepChain()
	return nil
}

// keepChain notes the state of the digest at the end of a part, and rewind goes back to it.
func (o *owner) keepChain() { o.kept, o.keptAt = o.chain.state(), o.chain.at }

func (o *owner) rewind() {
	if o.chain.at != o.keptAt {
		o.chain.resume(o.kept, o.keptAt)
	}
}

// stopping is a reader that ends with a context.
type stopping struct {
	ctx context.Context //nolint:containedctx // of the one call that it is made for
	r   io.Reader
}

func (s stopping) Read(p []byte) (int, error) {
	if s.ctx.Err() != nil {
		return 0, context.Cause(s.ctx) //nolint:wrapcheck // says whose wish it was
	}
	return s.r.Read(p) //nolint:wrapcheck // io.EOF must stay what it is
}

// parts returns the parts of an item that living workers claim, this one among them.
func (c *claims) parts(ctx context.Context, ref protocol.Ref) (map[int]bool, error) {
	entries, err := c.bucket.List(ctx, ">")
	if err != nil {
		return nil, fmt.Errorf("read the claims of other workers: %w", err)
	}
	taken := map[int]bool{}
	note := func(r protocol.Ref) {
		if r.Part > 0 && r.Org == ref.Org && r.Batch == ref.Batch && r.Index == ref.Index {
			taken[r.Part] = true
		}
	}
	for _, e := range entries {
		var claim protocol.Claim
		if err := json.Unmarshal(e.Value, &claim); err != nil {
			return nil, fmt.Errorf("read the claim %s: %w", e.Key, err)
		}
		if claim.Worker == c.worker || time.Since(claim.Written) > c.conn.AckWait()*4/3 {
			continue
		}
		for _, h := range claim.Held {
			note(h.Ref)
		}
	}
	for _, h := range c.all() {
		note(h.Ref)
	}
	return taken, nil
}
