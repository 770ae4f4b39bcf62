package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

const (
	settleFor     = 5 * time.Second // how long the owner of an item waits for its parts to end when somebody waits for the owner
	settleAtMost  = time.Minute     // and when nobody does
	settleLook    = 50 * time.Millisecond
	settleLookCap = time.Second
)

// settle writes into the plan of a paused item that nobody is at its parts any more, if that comes to be: else the next owner must reckon with
// writers that are only slow, and have all that was stored copied once more. With the epoch raised no work begins any more; one that has begun
// stands in a claim until it has ended, also if its worker is dead or silent. While the batch is paused nothing is lost by waiting: the item holds
// no slot. Who resumes it, or stops this worker, waits for settleFor at most.
func (o *owner) settle(ctx context.Context) {
	if !errors.Is(context.Cause(ctx), errPaused) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleAtMost)
	defer cancel()
	err := o.save(ctx, func(p *protocol.PartPlan) { p.Epoch++ })
	since, look := time.Now(), settleLook
	for begun := true; begun && err == nil; look = min(2*look, settleLookCap) {
		if begun, err = o.w.claims.anyPart(ctx, o.j.held.Ref); !begun || err != nil {
			break
		}
		if o.awaited() && time.Since(since) > settleFor {
			err = errStillBegun
			break
		}
		o.w.pause(ctx, look)
	}
	if err == nil {
		err = o.save(ctx, func(p *protocol.PartPlan) { p.Settled = true })
	}
	if err != nil {
		o.w.cfg.Logger.Debug("the parts of a paused item may be written still", "batch", o.j.work.Batch, "index", o.j.work.Index, "error", err)
	}
}

// errStillBegun is why the plan of a paused item does not say that its parts have ended.
var errStillBegun = errors.New("a worker claims a part of it")

// awaited reports whether somebody waits for a paused item to be put down: its batch is not paused any more, or this worker is to end.
func (o *owner) awaited() bool {
	select {
	case <-o.w.stopping:
		return true
	default:
		return o.w.controls.wanted(nameOf(&o.j.work)) != protocol.WantPause
	}
}

// anyPart reports whether a claim names a part of an item, that of a worker that may be dead included.
func (c *claims) anyPart(ctx context.Context, ref protocol.Ref) (bool, error) {
	entries, err := c.bucket.List(ctx, ">")
	if err != nil {
		return false, fmt.Errorf("read the claims of workers: %w", err)
	}
	is := func(r protocol.Ref) bool {
		return r.Part > 0 && r.Org == ref.Org && r.Batch == ref.Batch && r.Index == ref.Index
	}
	for _, e := range entries {
		var claim protocol.Claim
		if err := json.Unmarshal(e.Value, &claim); err != nil {
			return false, fmt.Errorf("read the claim %s: %w", e.Key, err)
		}
		for _, h := range claim.Held {
			if is(h.Ref) {
				return true, nil
			}
		}
	}
	for _, h := range c.all() {
		if is(h.Ref) {
			return true, nil
		}
	}
	return false, nil
}
