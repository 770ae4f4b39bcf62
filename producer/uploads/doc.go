// Package uploads has the resumable upload sessions of sandboxes: what a client with a poor connection sends in parts, in any order, over several
// connections and restarts, and what ends in its place whole or not at all.
//
// # What is guaranteed
//
// A session's state machine is here and nowhere else: the aggregator keeps the parts, workers publish. Each change of a session is decided
// on the record as it was read and stored under its revision; who loses a race reads and decides again. So any number of fronts may
// serve one session, and a call that was answered with an error may be repeated at any step.
//
// The share of the sandbox's quota changes in the same commit as the session. The sum of the shares never exceeds the quota, and a session that
// has ended has none. One whose time is over gives its share back when another needs it, or to the sweep.
//
// A part counts when its answer is 200, and then whatever dies: the staging storage has it, the news of it is in the report stream, and KV has it
// or a later word on the same part. A body that is shorter, longer or other than was announced, or that breaks off, leaves the part as it
// was: its last bytes are held back until the rest is known to hold (held.go), and the storage keeps nothing of a part that did not
// come whole. A body takes 32 KiB of memory, whatever its length. At most [MostConcurrent] parts of a session are under way in a
// process; two of one number go one after the other. Fronts do not wait for each other: the word with the later time counts, and a worker that
// finds other bytes than the word says reports the part lost. It is never published.
//
// Completing is one change of the session, from open to completing, which names the batch that publishes it. The worker publishes nothing
// unless the session names its batch still. While it is completing nothing of it changes but by the end of that batch.
//
// # States
//
//	creating    quota is reserved      to open by whoever makes the multipart upload; of a direct upload: to completing when its content is there
//	open        parts are taken        to completing by Complete, to aborted by Abort, to expired by the time
//	completing  a batch publishes it   by the receipt of the batch: completed; failed, if the same parts would fail again; else open again
//	completed, aborted, expired, failed: final. The sweep removes what is staged and the records of the parts, and after a day the session
//
// Callers see an open session as created, uploading or staged, by its parts, and as expired from the time on, whoever notices.
//
// Once a worker has put the parts together they cannot be replaced. If the session is open again after that, a part with the bytes that are there is
// answered as if it was stored, and any other is refused. A session whose multipart upload is gone, though nobody can have put it together, has
// failed: its store, or whoever runs that, has removed it.
//
// # An upload's way through the files
//
// create.go and quota.go make the session, part.go with held.go stages a part, fold.go tells of it and waits for KV, complete.go has it
// published, settle.go reads what came of that, abort.go and sweep.go end and clean. view.go is what callers see; all of it is derived from the
// record, the progress and the time. direct.go is the short way of content that comes in one request: each try stages at a key of its
// own, so that two that do not know of each other never mix. record.go has the one function through which records change.
//
// # Crash table
//
// What exists if the process dies right after a step, and what happens next. A step has the name of its failpoint (package failpoint).
//
//	step                  exists                                 then
//	session_reserved      the session, creating, and its share   the call repeated, or any call with the id, goes on. Else: it expires
//	session_begun         a multipart upload that no session     repeated: another one is made. That one is removed with the session, by
//	                      names                                  its key
//	session_part_stored   the part in the staging storage        the part is missing, or what it was; the client sends it again. If it does
//	                                                             not, and completes: the worker finds other bytes than KV says, and reports the
//	                                                             part lost
//	session_part_told     its news in the report stream          the aggregator folds it; the part is there when the client asks again
//	session_completing    a session that names a batch which     the call repeated submits it; else the sweep does, after a minute; or
//	                      nobody has accepted                    Abort withdraws the session, and a batch that comes later publishes nothing
//	session_submitted     the batch                              it runs, whoever asks for it
//	session_settled       the session as it follows from its     the next reader sees it
//	                      batch
//	session_ended         an ended session, its share free; all  the sweep of any front cleans
//	                      that was staged
//	session_unstaged      the records of its parts               the sweep cleans again: that there is nothing is no error
//
// # What is not
//
// The whole is not digested here: the worker that publishes compares whole_checksum_sha256. Clocks need not agree: calls are refused as expired by
// the clock of whoever is asked, but a session is ended for it, or forgotten, only if the broker's clock says so, too: one that jumps loses
// nothing. A word on a part is never older than the one that it replaces was known to be. A batch that ended, and whose records were removed
// by retention before any front looked at its session, is submitted again.
package uploads
