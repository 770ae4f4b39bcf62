package target

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
)

// mostLoose bounds the batches that are remembered, so that an API that stays away fills no memory.
const mostLoose = 4096

// goesOn tells whether a call that failed may have been accepted all the same.
func goesOn(err error) bool {
	e, ok := errors.AsType[*storage.Error](err)
	if !ok {
		return false
	}
	switch e.Code {
	case "given_up", "api_broken_off", "api_timeout", "unknown_answer", "unavailable", "shutting_down", "still_running", "internal":
		return true
	}
	return false
}

// giveUp cancels the batch of a call that failed with err, if it may go on: what it writes later would be left behind.
func (f *Fleet) giveUp(ctx context.Context, err error, r *request, id protocol.BatchID) {
	if !goesOn(err) {
		return
	}
	e, _ := errors.AsType[*storage.Error](err)
	gone := e.Status == 0 && ctx.Err() == nil // it is the API that went away
	if gone || f.withdraw(ctx, r, id) != nil {
		f.remember(id)
	}
}

// withdraw cancels the batch of a call. If there is none, the call may be on its way into the queue still, and an acceptance goes on without its caller: the
// same call, with the same key, returns when that is done, and what there is then can be canceled.
func (f *Fleet) withdraw(ctx context.Context, r *request, id protocol.BatchID) error {
	found, err := f.cancel(ctx, id)
	if found || err != nil {
		return err
	}
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer done()
	again := *r
	again.prefer = "respond-async"
	if _, err := f.ask(ctx, &again, nil); err != nil {
		return err
	}
	_, err = f.cancel(ctx, id)
	return err
}

func (f *Fleet) remember(id protocol.BatchID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.loose) < mostLoose {
		f.loose = append(f.loose, id)
	}
}

// cancel cancels a batch, also when ctx has ended. One that has ended is as good as canceled.
func (f *Fleet) cancel(ctx context.Context, id protocol.BatchID) (found bool, err error) {
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer done()
	_, err = f.ask(ctx, &request{method: http.MethodPost, path: batchPath(id) + "/cancel"}, nil)
	switch storage.ClassOf(err) {
	case storage.NotFound:
		return false, nil
	case storage.Conflict:
		return true, nil
	default:
		return err == nil, err
	}
}

// Settle cancels the batches that may still run although their calls have failed. It is called when no operation runs any more, and before the objects are
// removed; without it, a fleet whose API was away for a while may write copies after that.
func (f *Fleet) Settle(ctx context.Context) error {
	f.running.Wait()
	f.mu.Lock()
	loose := f.loose
	f.loose = nil
	f.mu.Unlock()
	for i, id := range loose {
		err := ctx.Err()
		if err == nil {
			_, err = f.cancel(ctx, id)
		}
		if err != nil {
			f.mu.Lock()
			f.loose = slices.Concat(f.loose, loose[i:])
			f.mu.Unlock()
			return fmt.Errorf("%d batches may still run, and write below %s: %w", len(loose)-i, f.dest, err)
		}
	}
	return nil
}
