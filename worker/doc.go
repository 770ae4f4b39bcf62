// Package worker takes items from the queue, copies their bytes, and reports what became of them.
//
// An item's way through the files: intake.go fetches it for a free slot, settled.go looks whether it has its outcome already and
// control.go whether its batch is to run, start.go has it claimed (claim.go writes down that this worker holds it) and starts it,
// manifest.go finds what it asks for, hosts.go has it wait for its hosts (park.go puts away what would wait for long), attempt.go runs it in
// its slot, staged.go and assemble.go have an object made of what an upload session staged, conflict.go and compare.go look at what is at
// the destination already, servercopy.go lets a store copy by itself, copy.go joins source and destination in all other cases,
// clearance.go and lease.go are asked before the commit, decide.go turns what went wrong into a verdict, finish.go makes a receipt of it,
// report.go stores the news (sole.go those of an item that is all of its batch), and only then is the delivery acknowledged. heartbeat.go
// keeps what is held; drain.go hands back. verify.go holds what is read to what the caller expects.
//
// Beside copying, a worker tells of the end of a batch (notify.go), which comes through the queue like an item; it tells how far items
// are that take long (progress.go); and it answers what would become of items (plan.go), over core NATS and beside its slots.
//
// Three goroutines pass items on, and each takes all that has gathered while it was busy, so that a write serves many: one
// fetches, one claims and starts, one stores reports and acknowledges. A slot is occupied from the fetch of an item until its
// destination is visible or it failed; then the item is still held, with its claim and its heartbeat, until its report is stored.
//
// # Guarantees
//
//   - Execution is at least once; the one outcome is the aggregator's business.
//   - No item is fetched without a free slot, and no more than [Config.Slots] run at once. Of those that have left their slots at
//     most twice as many, and at most 1024, wait for their reports to be stored; beyond that slots stay occupied. Memory is
//     bounded by slots, buffers and 32 MiB of manifest pages, whatever the size of files and batches.
//   - A flood of bulk work leaves a quarter of the slots to the interactive lane, whose items wait for nothing: bulk items are
//     fetched when a quarter of their slots is free, or a millisecond has passed.
//   - An item's outcome is stored before its delivery is acknowledged.
//   - Nothing is done at an item's destination, and nothing comes of the item, before its claim is stored. A fresh item of the interactive lane
//     asks for its source meanwhile (start.go), so that who waits for it does not wait for the claim's sync; what may have been delivered
//     before does not, so that an item that kills its worker at that moment is spared one crash, not all.
//   - The outcome of a batch's only item is committed by its worker itself, if it is a success and nothing else waits to be reported
//     (sole.go); all others by the aggregator, from reports.
//   - A worker that lost an item to another does not make its destination visible, as far as a check right before
//     the commit can tell (see lease.go). What remains is a pause of the process between that check and the
//     commit, which is a rename or the last byte of an upload; for a sandbox the next owner also removes
//     the hidden file first, so that the rename fails.
//   - A panic in an item is that item's failure. An item whose workers die is tried three times, the
//     last of them alone until what came of it is stored, and then fails; those that ran beside it are not charged for more than two. Nor
//     is one in parts of which more were stored than when the worker took it over (forgive.go).
//
// # Items in parts
//
// An item of [Config.PartThreshold] bytes or more, whose source says what state it is in and gives parts of itself, and whose destination
// can be written in parts, is moved in parts (parts.go). Who holds the item is its owner. It begins an upload at the destination and
// stores a plan (partplan.go), copies the parts in order over one connection (stretch.go), and tells of each that is stored without
// waiting for that to be kept. With a part goes the state of the digest up to its end (chain.go), so that whoever continues goes on digesting. An
// owner that finds a plan takes it over if the source is what it was; a retry and a pause keep it, and so does a death. What
// became of the parts the aggregator keeps.
//
// If the rest would take longer than [Config.SpreadAfter] at the rate seen, and what it takes to read again for the digest what others
// wrote, the owner publishes the missing parts as work of their own, a few at a time, and waits for them outside of its slot (spread.go);
// parts run in slots like items (part.go). So parts find slots even if every worker owns nothing but items that wait. At most half as many
// items as there are slots wait so; others go on by themselves. An owner that is told to stop hands its item back at once. Where the caller
// gave a digest, and the destination cannot be read before it is visible, nothing is spread: the digest must be known first.
//
// When all parts are stored the owner reads what it did not digest in passing, compares, writes into the plan that it completes it, asks as for
// any item whether it still holds it, and makes it visible (complete.go). Of several owners, after a pause of a process or the
// network, the plan's revision lets one go on; works of parts carry the epoch of their plan, and those of another one are dropped. Where a stale
// writer may be at the upload still, the destination is told ([storage.PartContent].Fresh). The records are removed when the item has come to its
// destination, or has failed for good, or its batch is stopped; then the upload is, too.
//
// # Upload sessions
//
// The only item of a batch that publishes an upload session has what the session staged as its source (staged.go). The session's record is read
// when the item runs: unless it is completing by this very batch, the item fails and nothing is touched. assemble.go compares the parts that the
// aggregator knows with those that the store lists. What the store has not as it was told is reported as lost, before the failure is: who
// learns of the failure finds these parts missing. Else the parts are made an object, which moves no byte and can be asked for again, and that is a
// source like any other. Each of its bytes is read once, unless something is repeated; the digest of the whole is known before anything is visible.
//
// An archive is unpacked by its destination (tree.go), in one go: nothing of it is visible before all of it was read and [storage.Content.Ready]
// agreed. Where the directory must be new, and an earlier attempt or batch of the session may have made it, it is compared with the archive
// (sametree.go).
//
// # Stopped and paused batches
//
// What is wanted of a batch (protocol.Control) is written by others. Workers watch it, drop what they fetch of a stopped or paused
// batch, and break off what runs: of a stopped one at once, with the outcome canceled; of a paused one after [Config.PauseGrace],
// without an outcome and uncharged, for it is fed again when the batch goes on. The hidden file of what is broken off is removed.
// The owner of a spread item stays until the parts that others had begun have ended, and writes that down (settle.go).
// A pause that is over before that leaves running what runs: the owner of a spread item publishes those parts again that the queue has lost (recall.go).
//
// A watch may be behind. So, after a claim is stored, the control of each batch in it is read once, beside the work, and
// nothing becomes visible before that answer is there. Who stops a batch stores the control and then reads the claims: if it does not
// find the claim on an item, the claim was stored after the control, and its worker finds that. A claim counts for as long as
// it is fresh: it is rewritten every third of AckWait while anything is held, and a worker that could not do so for the whole of
// AckWait writes it and reads the control again before it commits. The claim is also rewritten as soon as an item
// of a stopped or paused batch is not held any more.
//
// # Crash table
//
// What exists if the process dies right after a step, and what happens next. A step has the name of its failpoint
// (package failpoint), at which the tests in integration/crash kill a worker.
//
//	step                 exists                                 then
//	fetched              delivery pending in JetStream; perhaps AckWait ends, another worker gets it; nothing is charged
//	                     its source was asked for
//	claim_stored         claim record names the item            the next owner finds the claim: one crash is charged, unless
//	                                                            the item waits to run alone; a stop waits until the claim is old
//	session_read         as above                               (an upload session) as above
//	session_parts_lost   the report of the lost parts           the next owner finds them missing, or once more not as they
//	                                                            were told, which it reports again; it fails in the same way
//	session_assembled    the staged parts are an object         the next owner has it confirmed by the store that they are, and copies
//	bytes_moving         hidden temp file, or unfinished PUT    the next owner removes the temp; a PUT cut short is none
//	temp_synced          hidden temp file, whole                as above
//	bytes_complete       as above; a PUT lacks its last byte    as above
//	lease_checked        as above                               as above
//	renamed              the whole file, perhaps not its name   the copy is repeated: same bytes, or the source's newer ones
//	destination_visible  the whole file or object; the slot     as above, for each item that waits for its report
//	                     is free, other items run in it
//	notice_sent          the receiver has the notice            the next owner sends it again, under the same Copyfleet-Delivery
//	retry_planned        schedule, and the old delivery         both come; the second report of an attempt is ignored. One that
//	                                                            is due in a stopped or paused batch is dropped
//	wait_planned         items that wait for a host, together   both come, and are looked up: of one that ends by either of them
//	                     in a schedule, and the old deliveries  nothing else is stored. One crash is charged, as for any claim
//	queued_again         the items in the queue, and the        AckWait ends; the message comes again, and they are published
//	                     message in which they waited           once more if it is time, and looked up
//	report_stored        bundle in the report stream, or the    settled.go finds the receipt, or the copy is repeated and
//	                     summary of a batch of one              its second report ignored
//	upload_begun         an empty upload that no record names;  the next owner removes a hidden file by the name of the dead
//	                     of an object, a plan that tells when   claim, and an upload by its key and when it was begun
//	part_planned         upload and plan                        the next owner continues
//	part_stored          the part, not known to anybody         (in order) the next owner copies it again, to the same place;
//	                                                            (spread) AckWait ends, another worker does
//	part_reported        the part, known                        the next owner does not copy it again
//	parts_spread         works in the queue                     they are worked on, and reported; the next owner raises the epoch,
//	                                                            which drops those that have not begun, and publishes what is missing
//	parts_complete       all parts                              the next owner digests what it must, and completes
//	completing           as above                               as above
//	upload_completed     the whole file or object               the next owner completes again, which the destination tells to be done; if
//	                                                            not all parts were known, or it cannot tell, all is copied again
//	parts_cleared        as above, no plan                      the item is copied again
//	upload_aborted       (an item that failed for good) a plan  the next owner begins anew, and fails, or the aggregator's sweep
//	                     without an upload                      has a worker remove the records
//	acknowledged         nothing, or the acknowledgement        as above if it was not sent, or the server dies within 100 ms;
//	                     was not sent                           the claim still names the item: the sweep removes it
//	claim_released       delivery pending, no claim             (handing back) AckWait ends; nothing is charged
//
// Of an item of a stopped batch, the next owner only removes what the dead one left. Those that the queue has lost to the stop are fed
// once more for that (aggregator/leftover.go). If no worker comes for ten minutes after the death, the claim is swept, and a hidden file stays.
//
// A copy that is repeated after its destination became visible makes it visible once more. Who reads it sees one whole
// file after the other; a PUT or POST target sees two requests.
package worker
