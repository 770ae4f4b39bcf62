package worker

import (
	"context"
	"errors"
	"fmt"

	"github.com/copyfleet/copyfleet/protocol"
)

// clearance is what was found out about the claim of jobs, and then about their batches, once for all of them.
type clearance struct {
	claimed chan struct{} // closed when unclaimed is set
	known   chan struct{} // closed after that, when failed is set

	unclaimed error // why the claim is not stored; nil: it is
	failed    map[batchName]error
}

func newClearance() *clearance {
	return &clearance{claimed: make(chan struct{}), known: make(chan struct{})}
}

// errUnclaimed is why an item is handed back that was begun while its claim was being stored.
var errUnclaimed = errors.New("the claim was not stored")

// stored says what became of the claim.
func (c *clearance) stored(err error) {
	if err != nil {
		c.unclaimed = fmt.Errorf("%w: %w", errUnclaimed, err)
	}
	close(c.claimed)
}

// wait returns when the claim is stored, or why it is not. It is waited for before anything comes of an item, and before its destination is
// touched: what its worker may leave there, if it dies, is found by the claim.
func (c *clearance) wait(ctx context.Context) error {
	select {
	case <-c.claimed:
		return c.unclaimed
	default:
	}
	select {
	case <-c.claimed:
		return c.unclaimed
	case <-ctx.Done():
		return context.Cause(ctx) //nolint:wrapcheck // says whose wish it was
	}
}

// confirm finds out whether jobs that were claimed just now are to run, and breaks off those that are not.
func (c *controls) confirm(ctx context.Context, answer *clearance, jobs []*job) {
	defer close(answer.known)
	asked := map[batchName]bool{}
	for _, j := range jobs {
		name := nameOf(&j.work)
		if j.work.Kind == protocol.KindWebhook || asked[name] {
			continue
		}
		asked[name] = true
		if err := c.read(ctx, name); err != nil {
			if answer.failed == nil {
				answer.failed = map[batchName]error{}
			}
			answer.failed[name] = err
			continue
		}
		c.apply(name)
	}
}

// apply breaks off what runs of a batch that is not to run. What was noted before the items were claimed has not reached them.
func (c *controls) apply(name batchName) {
	c.mu.Lock()
	a, ok := c.acted[name]
	c.mu.Unlock()
	switch {
	case ok && a.wanted == protocol.WantStop:
		c.claims.breakOff(name, errStopped)
	case ok && a.wanted == protocol.WantPause && a.until.IsZero():
		c.claims.breakOff(name, errPaused)
	}
}

// clear is asked right before a destination becomes visible: is the batch still to run, as of a moment after the item was claimed? A claim
// that was not written for long does not count: whoever read it since then took this worker for dead.
func (c *controls) clear(ctx context.Context, j *job) error {
	select {
	case <-j.clearance.known:
	case <-ctx.Done():
		return context.Cause(ctx) //nolint:wrapcheck // says whose wish it was
	}
	name := nameOf(&j.work)
	old := c.claims.age() >= c.conn.AckWait()
	if old {
		if err := c.claims.write(ctx); err != nil {
			return fmt.Errorf("%w: %w", errUnconfirmed, err)
		}
	}
	if old || j.clearance.failed[name] != nil {
		if err := c.read(ctx, name); err != nil {
			return err
		}
		c.apply(name)
	}
	return context.Cause(ctx) //nolint:wrapcheck // says whose wish it was; nil if nobody's
}
