package worker

import (
	"context"
	"time"

	"github.com/sourcegraph/conc/pool"

	"github.com/copyfleet/copyfleet/internal/broker"
)

// heartbeat is how often, and within how long, what is held is extended: there is time for a second try.
func heartbeat(conn *broker.Conn) time.Duration { return conn.AckWait() / 3 }

const (
	heartbeatAtOnce = 8
	// An idle worker tells that it lives. One that holds something does so at every heartbeat: its record counts as that of a
	// dead one when it is older than AckWait and a third.
	claimRefresh = 30 * time.Second
)

// keepHeld extends everything that is held until the work's context ends. Nothing is extended past MaxHold.
func (w *Worker) keepHeld(work context.Context) {
	tick := time.NewTicker(heartbeat(w.conn))
	defer tick.Stop()
	for {
		select {
		case <-work.Done():
			return
		case <-tick.C:
			w.extendAll(work)
		}
	}
}

// keepRecord keeps the record fresh until the work's context ends. It does not stand in the way of keepHeld: a write may take as long as a disk
// does, and what is not extended meanwhile would be given to others.
func (w *Worker) keepRecord(work context.Context) {
	tick := time.NewTicker(heartbeat(w.conn))
	defer tick.Stop()
	w.claims.rewrite() // tells at once that there is a worker
	for {
		fresh := false
		select {
		case <-work.Done():
			return
		case <-w.claims.untidy:
		case <-tick.C:
			age := w.claims.age()
			fresh = age < heartbeat(w.conn)/2 || age < claimRefresh && !w.claims.busy()
		}
		if fresh {
			continue
		}
		if err := w.claims.write(work); err != nil && work.Err() == nil {
			w.cfg.Logger.Warn("cannot refresh the claim", "error", err)
		}
	}
}

func (w *Worker) extendAll(work context.Context) {
	extending := pool.New().WithMaxGoroutines(heartbeatAtOnce)
	for _, h := range w.claims.all() {
		if time.Since(h.since) > w.cfg.MaxHold {
			continue
		}
		extending.Go(func() {
			ctx, cancel := context.WithTimeout(work, heartbeat(w.conn)/2)
			defer cancel()
			epoch, asked := w.conn.Epoch(), time.Now()
			if err := h.delivery.Extend(ctx); err != nil {
				if work.Err() == nil {
					w.cfg.Logger.Warn("cannot extend an item", "batch", h.Ref.Batch, "index", h.Ref.Index, "error", err)
				}
				return
			}
			w.claims.extended(h, epoch, asked)
		})
	}
	extending.Wait()
}
