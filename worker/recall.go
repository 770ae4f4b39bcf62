package worker

import (
	"context"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

const (
	// recalledFor is how long after a resume the parts of an item are looked for in the queue. A pause takes out what waits there, and so does a
	// resume, a moment after the workers hear of it; what was handed back for a moment comes no more before AckWait is over.
	recalledFor  = 20 * time.Second
	recalledLook = 500 * time.Millisecond
)

// recalled notes that the queue of a batch was recalled, or is now.
func (c *claims) recalled(name batchName) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	for ref, h := range c.held {
		if ref.Org == name.org && ref.Batch == name.batch {
			h.recalled = now
		}
	}
}

// recalledAt is when the queue of the batch of an item was recalled last while it was held; zero: it was not.
func (c *claims) recalledAt(h *held) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return h.recalled
}

// recalled reports whether parts that were published may have been taken out of the queue of late.
func (p *scattered) recalled() bool {
	at := p.o.w.claims.recalledAt(p.o.j.held)
	return p.fold > 0 || !at.IsZero() && time.Since(at) < recalledFor
}

// rest is how long nothing needs to be looked at.
func (p *scattered) rest() time.Duration {
	if p.recalled() {
		return recalledLook
	}
	return partsLook
}

// renew publishes those parts again that the queue has lost to a pause or a resume. Works that nobody claims are not waited for: with
// the next epoch those of them are dropped that come nevertheless. Who began one before has claimed it, or has told of it.
func (p *scattered) renew(ctx context.Context) error {
	o := p.o
	if p.fold == 0 {
		if !p.gone(ctx) {
			p.publish(ctx)
			return nil
		}
		o.w.cfg.Logger.Debug("parts of an item were recalled and are published again", "batch", o.j.work.Batch, "index", o.j.work.Index)
		if err := o.save(ctx, func(plan *protocol.PartPlan) { plan.Epoch++ }); err != nil {
			return err
		}
		p.again = true
		p.spare(ctx)
		_, last, err := o.w.conn.ReportFloor(ctx)
		if err != nil {
			p.out = nil // all are asked for; most are found stored
			return nil  //nolint:nilerr // it is looked again
		}
		p.fold = last
	}
	floor, _, err := o.w.conn.ReportFloor(ctx)
	if err != nil || floor < p.fold || o.w.parts.fill(ctx, o.j.held.Ref, &o.plan, o.states) != nil {
		return nil //nolint:nilerr // as above
	}
	p.fold, p.news, p.late, p.lost = 0, time.Now(), 0, nil
	p.publish(ctx)
	return nil
}

// gone reports whether a part that was published is neither in the queue nor with a worker.
func (p *scattered) gone(ctx context.Context) bool {
	o := p.o
	work := &o.j.work
	waits, err := o.w.conn.Waits(ctx, broker.Shard{Lane: work.Lane, Pool: work.Pool, Index: work.Shard}, work.Org, work.Batch)
	if err != nil || waits || len(p.out) == 0 {
		return false
	}
	taken, err := o.w.claims.parts(ctx, o.j.held.Ref)
	if err != nil {
		return false
	}
	for number := range p.out {
		if !taken[number] {
			return true
		}
	}
	return false
}
