package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// lease is what is known about how long the server keeps a delivery for us.
type lease struct {
	epoch uint64    // of the connection over which it was last kept
	kept  time.Time // when we asked for what the server last confirmed; its clock for the delivery began then or later
	// lapsed says that the delivery was once not kept in time. The server has offered it to others since then, and confirms every
	// extension all the same: nothing that comes later makes the item ours again.
	lapsed bool
}

// errLeaseLost is why a copy is not committed: another worker may hold the item by now.
var errLeaseLost = errors.New("the item may have gone to another worker")

// extended notes that the server confirmed an extension that was asked for at a time, over the connection of an epoch.
func (c *claims) extended(h *held, epoch uint64, asked time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// What happened around a reconnection only the claims can tell: while the server was away nobody was offered anything.
	if epoch == h.lease.epoch && time.Since(h.lease.kept) >= c.conn.AckWait() {
		h.lease.lapsed = true
	}
	h.lease.epoch, h.lease.kept = epoch, asked
}

// lapsed reports whether the item was once not kept in time.
func (c *claims) lapsed(h *held) bool {
	epoch := c.conn.Epoch()
	c.mu.Lock()
	defer c.mu.Unlock()
	return h.lease.lapsed || h.lease.epoch == epoch && time.Since(h.lease.kept) >= c.conn.AckWait()
}

// fence is asked right before a destination becomes visible. JetStream cannot tell an owner from a stale one, so the answer is
// ours: the lease never lapsed on the connection over which the item came; or, after a reconnection, nobody else
// has claimed or ended the item.
func (c *claims) fence(ctx context.Context, h *held, work *protocol.Work) error {
	if c.lapsed(h) {
		return errLeaseLost
	}
	epoch := c.conn.Epoch()
	c.mu.Lock()
	fresh := h.lease.epoch == epoch && time.Since(h.lease.kept) < c.conn.AckWait()*2/3
	c.mu.Unlock()
	if !fresh {
		asked := time.Now()
		if err := h.delivery.Extend(ctx); err != nil {
			return fmt.Errorf("%w: %w", errLeaseLost, err)
		}
		c.extended(h, epoch, asked)
	}
	if c.lapsed(h) {
		return errLeaseLost
	}
	if h.delivery.Epoch == epoch && c.conn.Epoch() == epoch {
		return nil
	}
	return c.alone(ctx, h, work)
}

// alone asks the records whether somebody else had the item: a restarted server may have forgotten whose it is.
func (c *claims) alone(ctx context.Context, h *held, work *protocol.Work) error {
	others, err := c.others(ctx, map[protocol.Ref]bool{h.Ref: true})
	if err != nil {
		return fmt.Errorf("%w: %w", errLeaseLost, err)
	}
	if slices.ContainsFunc(others[h.Ref], func(e earlierClaim) bool { return e.held.Fence > h.Fence }) {
		return errLeaseLost
	}
	standing, err := newSettled(c.batches).standing(ctx, work) // not the intake's answer, which may be seconds old
	if err != nil {
		return fmt.Errorf("%w: %w", errLeaseLost, err)
	}
	if standing != standingOpen {
		return errLeaseLost
	}
	return nil
}
