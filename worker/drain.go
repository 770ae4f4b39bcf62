package worker

import (
	"context"
	"time"

	"github.com/sourcegraph/conc/pool"
)

// drain waits for running items, and for the storing of their news, for as long as the configuration allows, then breaks the rest off and waits for that.
func (w *Worker) drain(running *pool.Pool, cancel context.CancelCauseFunc) {
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		running.Wait()
		w.parker.open.Wait()
		w.retrying.Wait()
		w.reporter.open.Wait()
	}()
	limit := time.NewTimer(w.cfg.Drain)
	defer limit.Stop()
	select {
	case <-finished:
		return
	case <-limit.C:
	}
	w.cfg.Logger.Info("handing back items that did not finish in time", "items", len(w.claims.all()), "waited", w.cfg.Drain)
	cancel(errDraining)
	<-finished
}
