package worker

import (
	"context"

	"github.com/copyfleet/copyfleet/protocol"
)

// forgive takes back the charge for a claim on an item in parts that ended without a word, if it had brought the item on: of what is moved for
// days workers die that it has not killed. What counts is what the records say, which the claim did not live to spoil: one that only did again
// what the one before it had done is charged, so that an item that kills whoever comes to a part of it ends.
func (w *Worker) forgive(ctx context.Context, j *job) error {
	died := &j.held.died
	if died.Fence == 0 || died.Charge() <= died.Crashes || j.work.Kind != protocol.KindCopy {
		return nil
	}
	plan, revision, err := w.parts.plan(ctx, j.held.Ref)
	if err != nil {
		return err
	}
	if revision == 0 || plan.Fence != died.Fence || plan.Count <= plan.Had || plan.Version > protocol.PartVersion {
		return nil // it had not come to the parts
	}
	stored, err := w.parts.stored(ctx, j.held.Ref, &plan)
	if err != nil || stored <= plan.Had {
		return err
	}
	return w.claims.forgive(ctx, j.held, died.Crashes)
}
