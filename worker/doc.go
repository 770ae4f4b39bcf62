// Package worker takes items from the queue, copies their bytes, and reports what became of them.
//
// An item's way through the files: intake.go fetches it for a free slot, claim.go writes down that this worker
// holds it, settled.go looks whether it has its outcome already, attempt.go runs it in its slot, copy.go joins
// source and destination, decide.go turns what went wrong into a verdict, report.go stores the news,
// and only then is the delivery acknowledged. heartbeat.go keeps what is held; drain.go hands back.
//
// # Guarantees
//
//   - Execution is at least once; the one outcome is the aggregator's business.
//   - No item is fetched without a free slot, and no more than [Config.Slots] run at once. Memory is bounded
//     by slots and buffers, whatever the size of files and batches.
//   - An item's outcome is stored before its delivery is acknowledged.
//   - A worker that lost an item to another does not make its destination visible, as far as a check right before
//     the commit can tell (see lease.go). What remains is a pause of the process between that check and the
//     commit, which is a rename or the last byte of an upload; for a sandbox the next owner also removes
//     the hidden file first, so that the rename fails.
//   - A panic in an item is that item's failure. An item whose workers die is tried three times, the
//     last of them alone, and then fails; those that ran beside it are not charged for more than two.
//
// # Crash table
//
// What exists if the process dies right after a step, and what happens next. A step has the name of its failpoint
// (package failpoint), at which the tests in integration/crash kill a worker.
//
//	step                 exists                                 then
//	fetched              delivery pending in JetStream          AckWait ends, another worker gets it; nothing is charged
//	claim_stored         claim record names the item            the next owner finds the claim: one crash is charged, unless
//	                                                            the item waits to run alone
//	bytes_moving         hidden temp file, or unfinished PUT    the next owner removes the temp; a PUT cut short is none
//	temp_synced          hidden temp file, whole                as above
//	bytes_complete       as above; a PUT lacks its last byte    as above
//	lease_checked        as above                               as above
//	renamed              the whole file, perhaps not its name   the copy is repeated: same bytes, or the source's newer ones
//	destination_visible  the whole file or object               as above
//	retry_planned        schedule, and the old delivery         both come; the second report of an attempt is ignored
//	report_stored        bundle in the report stream            settled.go finds the receipt, or the copy is repeated and
//	                                                            its second report ignored
//	acknowledged         nothing, or the acknowledgement        as above if it was not sent, or the server dies within 100 ms;
//	                     was not sent                           the claim still names the item: the sweep removes it
//	claim_released       delivery pending, no claim             (handing back) AckWait ends; nothing is charged
//
// A copy that is repeated after its destination became visible makes it visible once more. Who reads it sees one whole
// file after the other; a PUT or POST target sees two requests.
package worker
