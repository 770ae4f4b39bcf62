package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// controls knows which batches are not to run, from a watch of what is wanted. A watch may be behind, so it only makes things prompt;
// what must not happen is ruled out by reading the control of a batch after an item of it was claimed, and before
// the item's destination becomes visible. Who stops a batch reads the claims after the control is stored: one of the two finds the other.
type controls struct {
	bucket *broker.Bucket
	conn   *broker.Conn
	claims *claims
	grace  time.Duration
	log    *slog.Logger

	mu     sync.Mutex
	acted  map[batchName]acted
	count  atomic.Int32  // of acted, to be looked at without the lock
	paused chan struct{} // holds a token when a batch was paused
}

type batchName struct {
	org   protocol.OrgID
	batch protocol.BatchID
}

func nameOf(work *protocol.Work) batchName { return batchName{work.Org, work.Batch} }

// acted is a batch that somebody stopped or paused.
type acted struct {
	wanted   protocol.Wanted
	revision uint64    // of the control
	until    time.Time // of a pause: when running items are broken off
}

// Why an item is broken off. Neither is the item's failure.
var (
	errStopped = errors.New("the batch was stopped")
	errPaused  = errors.New("the batch was paused")
	// errUnconfirmed is why an item is handed back: whether its batch is to run could not be found out.
	errUnconfirmed = errors.New("it is not known whether the batch is to run")
)

const (
	watchRetry  = time.Second      // after the watch broke off
	watchCheck  = time.Second      // how often the watch is compared with the connection
	controlRead = 10 * time.Second // within which a control must have been read
)

func newControls(bucket *broker.Bucket, conn *broker.Conn, claims *claims, cfg *Config) *controls {
	return &controls{
		bucket: bucket, conn: conn, claims: claims, grace: cfg.PauseGrace, log: cfg.Logger,
		acted: map[batchName]acted{}, paused: make(chan struct{}, 1),
	}
}

// wanted returns what is wanted of a batch, as far as it is known here.
func (c *controls) wanted(name batchName) protocol.Wanted {
	if c.count.Load() == 0 {
		return protocol.WantRun
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if a, ok := c.acted[name]; ok {
		return a.wanted
	}
	return protocol.WantRun
}

// follow keeps the table until the context ends. A watch that broke off, or that an earlier connection made, is made anew.
func (c *controls) follow(ctx context.Context) {
	for ctx.Err() == nil {
		if err := c.watch(ctx); err != nil && ctx.Err() == nil {
			c.log.Warn("cannot watch what is wanted of batches", "error", err)
			timer := time.NewTimer(watchRetry)
			select {
			case <-ctx.Done():
			case <-timer.C:
			}
			timer.Stop()
		}
	}
}

// watch reads all controls and follows their changes until the connection is another one.
func (c *controls) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	epoch := c.conn.Epoch()
	events, err := c.bucket.Watch(ctx, ">")
	if err != nil {
		return err //nolint:wrapcheck // it says what it is about
	}
	check := time.NewTicker(watchCheck)
	defer check.Stop()
	present, before := map[batchName]bool{}, c.names()
	for c.conn.Epoch() == epoch {
		select {
		case <-ctx.Done():
			return nil
		case <-check.C:
		case e, ok := <-events:
			switch {
			case !ok:
				return fmt.Errorf("%w: the watch ended", broker.ErrUnavailable)
			case e.Current: // what was known and is not there any more was removed while nobody watched
				for _, name := range before {
					if !present[name] {
						c.forget(name)
					}
				}
				present, before = nil, nil
			default:
				name, known := c.take(e)
				if present != nil && known {
					present[name] = true
				}
			}
		}
	}
	return nil
}

func (c *controls) names() []batchName {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]batchName, 0, len(c.acted))
	for name := range c.acted {
		list = append(list, name)
	}
	return list
}

func (c *controls) forget(name batchName) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(name)
}

// remove is forget for those who have the lock.
func (c *controls) remove(name batchName) {
	delete(c.acted, name)
	c.count.Store(int32(len(c.acted))) //nolint:gosec // far below
}

// forgetKey forgets a batch whose control was removed: by retention, with the batch. Another one may get its id, from a caller who
// uses an Idempotency-Key again, and must not find itself stopped.
func (c *controls) forgetKey(key string, revision uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, a := range c.acted { // seldom, and few
		if a.revision < revision && protocol.ControlKey(name.org, name.batch) == key {
			c.remove(name)
		}
	}
}

// revision is that of the control that is known of a batch; 0: none is.
func (c *controls) revision(name batchName) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.acted[name].revision
}

// take learns from an event of the watch, and returns which batch it was about.
func (c *controls) take(e broker.Watched) (batchName, bool) {
	if e.Deleted {
		c.forgetKey(e.Entry.Key, e.Entry.Revision)
		return batchName{}, false
	}
	control, err := decodeControl(e.Entry)
	if err != nil {
		c.log.Error("a control cannot be read", "key", e.Entry.Key, "error", err)
		return batchName{}, false
	}
	name := batchName{control.Org, control.Batch}
	c.note(name, control.Wanted, e.Entry.Revision)
	return name, true
}

func decodeControl(e broker.Entry) (protocol.Control, error) {
	var control protocol.Control
	if err := json.Unmarshal(e.Value, &control); err != nil {
		return control, fmt.Errorf("read the control %s: %w", e.Key, err)
	}
	return control, nil
}

// note enters what is wanted of a batch, and tells its running items.
func (c *controls) note(name batchName, wanted protocol.Wanted, revision uint64) {
	c.mu.Lock()
	old, known := c.acted[name]
	if known && revision <= old.revision {
		c.mu.Unlock()
		return
	}
	if wanted == protocol.WantRun {
		delete(c.acted, name)
	} else {
		c.acted[name] = acted{wanted: wanted, revision: revision, until: time.Now().Add(c.grace)}
	}
	c.count.Store(int32(len(c.acted))) //nolint:gosec // far below
	c.mu.Unlock()
	if known || wanted == protocol.WantPause {
		c.claims.recalled(name)
	}
	switch wanted {
	case protocol.WantStop:
		c.claims.breakOff(name, errStopped)
	case protocol.WantPause:
		select {
		case c.paused <- struct{}{}:
		default:
		}
	case protocol.WantRun:
		return
	}
	c.claims.tidy(name)
}

// breakOffPaused breaks off, until the context ends, what still runs of a paused batch when its grace is over.
func (c *controls) breakOffPaused(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.paused:
		case <-timer.C:
		}
		over, next := c.overdue(time.Now())
		for _, name := range over {
			c.claims.breakOff(name, errPaused)
		}
		timer.Stop()
		if next > 0 {
			timer.Reset(next)
		}
	}
}

// overdue returns the paused batches whose grace ended of late, and how long it is until that of another one does; 0: there is none.
func (c *controls) overdue(now time.Time) (over []batchName, next time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, a := range c.acted {
		if a.wanted != protocol.WantPause || a.until.IsZero() {
			continue
		}
		if left := a.until.Sub(now); left > 0 {
			if next == 0 || left < next {
				next = left
			}
			continue
		}
		a.until = time.Time{}
		c.acted[name] = a
		over = append(over, name)
	}
	return over, next
}

// read asks what is wanted of a batch now.
func (c *controls) read(ctx context.Context, name batchName) error {
	ctx, cancel := context.WithTimeout(ctx, controlRead)
	defer cancel()
	known := c.revision(name)
	entry, err := c.bucket.Get(ctx, protocol.ControlKey(name.org, name.batch))
	if errors.Is(err, broker.ErrNotFound) {
		if c.revision(name) == known { // else the watch told of a later one meanwhile
			c.forget(name)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errUnconfirmed, err)
	}
	control, err := decodeControl(entry)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnconfirmed, err)
	}
	c.note(name, control.Wanted, entry.Revision)
	return nil
}
