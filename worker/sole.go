package worker

import (
	"context"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// The outcome of a batch's only item is that of the batch. When nothing else waits to be reported, its worker commits it by itself: whoever waits
// for it is spared a report, its sync, and the aggregator (docs/adr/0011-sole-items.md).

// soleTime is how long an attempt may have taken. The batch of an older one may have been removed, and is not to be brought back.
const soleTime = time.Minute

// sole reports whether the receipt of an item is all there is to know of its batch, as far as this worker can tell. What may have been
// delivered before, or was tried before, has its history where the aggregator keeps it; so has what is told of failures.
func (j *job) sole(receipt *protocol.Receipt) bool {
	if j.work.Kind != protocol.KindCopy || j.work.Total != 1 || j.bulk() || j.repeated() || len(receipt.Attempts) != 1 {
		return false
	}
	if receipt.State != protocol.ItemSucceeded && receipt.State != protocol.ItemSkipped {
		return false
	}
	return recent(receipt)
}

// recent reports whether the batch of a receipt's only attempt cannot have been removed yet.
func recent(receipt *protocol.Receipt) bool { return time.Since(receipt.Attempts[0].Start) < soleTime }

// commitSole stores the outcome of a sole item that is alone in its bundle, and tells who waits. false: it is to be reported as any other. That is so
// if something is known of the batch already, or it is not known whether the write arrived: the aggregator finds out what holds.
func (w *Worker) commitSole(work context.Context, bundle []news) bool {
	if len(bundle) != 1 || bundle[0].sole == nil || !recent(&bundle[0].sole.Receipt) { // the news before it may have waited for the broker
		return false
	}
	ref := bundle[0].sole.Ref
	value, err := protocol.Encode(protocol.SoleSummary(bundle[0].sole))
	if err == nil {
		_, err = w.claims.batches.Update(work, broker.Change{Key: protocol.SummaryKey(ref.Org, ref.Batch), Value: value})
	}
	if err != nil {
		w.cfg.Logger.Debug("an outcome is left to the aggregator", "batch", ref.Batch, "error", err)
		return false
	}
	if err := w.conn.Ended(ref.Org, ref.Batch, value); err != nil {
		w.cfg.Logger.Debug("a waiter was not told and will look by itself", "batch", ref.Batch, "error", err)
	}
	return true
}
