// Package aggregator folds the workers' reports into receipts, and receipts into the state of batches. It also feeds batches from their
// manifests into the queue, and carries out what is wanted of them.
//
// fold.go, groups.go and pace.go are the pure part: a page of receipts and a report give a page, pages give the counts of a batch.
// ledger.go keeps the batches that are being folded, decode.go reads bundles, store.go commits, aggregator.go is the loop around them.
//
// part.go folds what became of parts into pages of them, also purely; partledger.go keeps the pages, partsweep.go finds what is left of items
// that were moved in parts.
//
// upload.go folds, as purely, what became of parts that clients upload; uploadledger.go keeps the pages and the progress of their sessions, folding.go
// is what it shares with partledger.go. The sessions themselves are those of package producer/uploads.
//
// feed.go is the loop of the feeder, row.go what it knows of a batch, look.go what it does when it looks at one, peers.go who of
// several aggregators does it. window.go says how much a shard may be fed, turn.go whose turn it is, feeding.go feeds, redo.go feeds
// again what has no outcome, control.go stops and pauses, holders.go knows what workers hold, reconcile.go notices what was
// lost, webhook.go has the end of a batch told.
//
// trim.go removes from the queue what nobody needs any more, sweep.go finds what crashes left, retain.go removes batches whose
// time is over, marker.go the markers that deletions leave.
//
// # Guarantees
//
//   - An item has exactly one recorded outcome. The first final report wins; a repeated or later one changes nothing. The worker of a
//     batch of one item may have committed it before, under the same revisions (docs/adr/0011-sole-items.md).
//   - The receipts of a page and the summary of its batch are committed together, under their expected
//     revisions, before the bundle they came in is acknowledged. Counts and error groups are derived from receipts.
//   - What is known of an item's parts is committed before the bundle it came in is acknowledged, whatever the order of bundles and however
//     often they come. It is kept only while the item has a plan, which names the same upload: a report that comes later leaves nothing.
//     No part is an outcome.
//   - What is known of the parts of an upload session is committed together with which of them are there, before the bundle it came in is
//     acknowledged, also whatever the order and however often. It is kept only while the session has not ended and has the same multipart
//     upload. A part that comes alone is committed at once: a client waits for it.
//   - Any number of aggregators may run: a commit that loses a race is folded again from what the winner stored.
//   - A batch whose last item ended is committed at once; a running one at least every [Config.Interval], or every
//     ten of them while commits take long.
//   - Nothing of a fed batch is in the queue before its acceptance is complete. Then each item comes into the queue once: a
//     chunk lies behind a guard that exists once and says where the chunk ends, and how far the batch is stands in its
//     feed record, which is written under its revision. Only where a feeder died, or was asleep for long, may items come again; they
//     carry [protocol.Work.Recheck], so that workers look for their receipts and for claims on them.
//   - A shard has about half a second of work waiting, so that a stop has little to recall and tenants take turns.
//   - A stopped batch ends in one write, once no living worker holds an item of it and every report that was stored by
//     then is folded. What workers claim later finds the control, which was stored before. Who holds a part of an item holds the item. What
//     the batch's items in parts left, whoever held them, workers are asked to remove.
//   - A batch that was paused loses nothing: at its resume all that was fed and has no outcome is fed again. What living workers go on
//     with, when the claims of dead ones have grown old twice over, stays with them.
//   - The items of a batch that are lost in the queue are noticed after [Config.RecoverAfter] and fed again.
//   - A batch that ended longer ago than [Config.Retention] leaves nothing. One that has not ended stays, whatever its age.
//
// # What it does not guarantee
//
// The rate of a batch bounds what is fed, not what starts: workers that come back after a pause find up to a window of items. Which
// error groups a batch with more than [protocol.MaxGroups] causes keeps depends on which came first.
//
// # Crash table
//
// What exists if the process dies right after a step, and what happens next. A step has the name of its failpoint
// (package failpoint), at which the tests in integration/crash kill an aggregator. "Another" is any aggregator: one that lives takes
// the batches of a dead one over after three seconds.
//
//	step              exists                          then
//	bundle_delivered  bundle pending in JetStream     delivered again after its AckWait, folded then
//	bundle_folded     as above                        as above
//	atomic_staged     writes that no commit followed  NATS drops them; as above, or the chunk is fed by another
//	committed         pages and summary in KV         delivered again; every report finds its receipt, nothing changes
//	waiters_told      as above                        as above; a waiter that heard nothing looks again by itself
//	parts_committed   pages of parts in KV            as above; the owner looks again by itself. A page whose plan was removed meanwhile
//	                                                  is swept
//	parts_told        as above                        as above
//	upload_parts_     pages and progress of upload    as above; the front looks again by itself. What the commit made for a session
//	committed         sessions in KV                  that had ended goes when the record of the session goes
//	upload_parts_told as above                        as above
//	bundles_done      acknowledgement in memory, or   as above if it was not sent, or the server dies within 100 ms
//	                  not sent
//	trimmed           receipts only                   nothing: only what was acknowledged and folded is trimmed
//	chunk_fed         items in the queue, the feed    another finds the guard and goes on where the chunk ends; if the guard was
//	                  record is behind                trimmed by then it feeds them again, to be rechecked
//	feed_saved        items and feed record           another goes on behind it
//	recalled          a control, and a queue without  another recalls again, which changes nothing, and goes on with the stop; a
//	                  the batch                       paused batch waits for its resume
//	rest_canceled     a summary that is final         waiters look by themselves; another deletes the feed record
//	control_ordered   the control of an option        another sees it as if a caller had written it
//	redo_begun        a feed record with a pass       another goes on with the pass; what it feeds twice is rechecked
//	notice_asked      a message for a worker          another finds its guard; five minutes without a report, and it asks again
//	sweep_asked       a message for a worker          its guard keeps another from asking while it waits; one that was lost is
//	                                                  sent again when what it is about is twice as old
//	batch_emptied     acceptance and summary          the summary says that the batch has ended: the next pass removes it
//	batch_removed     no trace of the batch           the same
//
// A broker that is killed may bring an earlier revision of a record back that was removed right before. Plans of items that have ended
// come back so; the sweep finds them like those that a worker left.
package aggregator
