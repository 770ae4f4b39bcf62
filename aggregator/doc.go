// Package aggregator folds the workers' reports into receipts, and receipts into the state of batches.
//
// fold.go is the pure part: a page of receipts and a report give a page. ledger.go keeps the batches that are
// being folded, store.go commits them, aggregator.go is the loop around them. trim.go removes from the
// queue what nobody needs any more, sweep.go finds what crashes left.
//
// # Guarantees
//
//   - An item has exactly one recorded outcome. The first final report wins; a repeated or later one changes nothing.
//   - The receipts of a page and the summary of its batch are committed together, under their expected
//     revisions, before the bundle they came in is acknowledged. Counts are derived from receipts.
//   - Any number of aggregators may run: a commit that loses a race is folded again from what the winner stored.
//   - A batch whose last item ended is committed at once; a running one at least every [Config.Interval].
//
// # Crash table
//
// What exists if the process dies right after a step, and what happens next. A step has the name of its failpoint
// (package failpoint), at which the tests in integration/crash kill an aggregator.
//
//	step              exists                          then
//	bundle_delivered  bundle pending in JetStream     delivered again after its AckWait, folded then
//	bundle_folded     as above                        as above
//	atomic_staged     writes that no commit followed  NATS drops them; as above
//	committed         pages and summary in KV         delivered again; every report finds its receipt, nothing changes
//	waiters_told      as above                        as above; a waiter that heard nothing looks again by itself
//	bundles_done      acknowledgement in memory, or   as above if it was not sent, or the server dies within 100 ms
//	                  not sent
//	trimmed           receipts only                   nothing: only what was acknowledged and folded is trimmed
package aggregator
