package worker

import (
	"context"
	"fmt"

	"github.com/copyfleet/copyfleet/protocol"
)

// clearance is what was found out about the batches of jobs after they were claimed, once for all of them.
type clearance struct {
	known  chan struct{} // closed when failed is set
	failed map[batchName]error
}

func newClearance() *clearance { return &clearance{known: make(chan struct{})} }

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
