// Package producer is the API front: it authenticates a call, validates all of it, and only then lets
// anything happen.
//
// # What is guaranteed
//
// A request is refused whole or accepted whole. An invalid one is answered with every problem found (the
// first [MaxProblems] of them, and the true total), each with a JSON pointer (RFC 6901), and has changed
// nothing: not even a sandbox came into being.
//
// What passed validation can be carried out as far as its form goes: paths are absolute and clean, URLs are
// http or https with a host that is a name or a canonical address, headers are those of RFC 9110 that leave
// the framing to us, buckets are granted to the caller's org.
//
// Every answer that is an error is application/problem+json (RFC 9457) with one of the codes in the table
// of problem.go, whoever made it: an unknown path, a wrong method and a panic too. Answers 429 and 503 carry
// Retry-After.
//
// A key of one org never sees another's resources. Keys are kept as SHA-256 only; a key is never taken from a
// query, and no query, body, credential or key enters a log line or an error.
//
// Bodies are bounded, one by one ([Config.MaxBody]) and together ([Config.MaxBuffered]); manifests, which are not held, by their items
// and the length of a line. One org leaves a quarter of that memory, and of the
// places for event streams, to others. The items that wait are bounded, too ([Config.MaxQueued]): what would exceed it is answered 429, whole.
//
// Upload sessions are those of package uploads; upload_*.go here are their routes, and upload_queue.go publishes one as a batch of one item.
//
// Notifications of other systems are read by package events, which tells the first problem of one only, and kept by package triggers; event_intake.go here are
// their routes. What they take in memory while they are read is bounded for all of them together, and an org leaves a quarter of it to others.
//
// What rules ask for comes through trigger_queue.go: each item is checked as one of POST /v1/batches is, for the org as it is at that moment, and each batch is
// named by its place in the journal of package triggers, so that it is the same one however often it is submitted. It tells its rule; one in which its failed
// items are run again does not, for its caller asked for it, but its items keep the trail of the rules that led to them.
//
// # How a batch is accepted
//
// A batch of one page, without options that need feeding, is published with the call: an accept record that holds its
// sealed manifest, then its items in one atomic chunk behind a guard message that lets it in once (accept.go, publish.go).
//
// Any other is stored as a manifest (manifest.go): a pending record, a feed record, pages of 256 items in the manifest bucket under a
// generation of the try, then the word that it is complete, from which on aggregators feed its items into the queue. Nothing of it runs
// before. Its items are read one by one, from whatever format (submit*.go), and memory is bounded by a few pages and 8 bytes or so an id.
// docs/adr/0005-manifest-and-feed.md has the reasons.
//
// The call is answered after the last step, so that an answer means: all of it is durable. An idempotency key and its org make the
// batch's id, so that a repeated call finds the record. Of several tries with one key the first to complete the record wins; the
// others answer for it if theirs was the same request. A try that fails, for a bad line or because its client hung up, takes back
// what it stored.
//
// # Crash table
//
// What exists if the process dies right after a step, and what happens next. A step has the name of its failpoint
// (package failpoint), at which the tests in integration/crash kill a front. The caller has no answer before the last.
//
//	step                  exists                              then
//	accept_recorded       accept record, pending, no item     the call repeated: goes on from here, or takes over with the next
//	                                                          generation. Else: the sweep abandons it
//	atomic_staged         as above; NATS drops what of a      as above
//	                      chunk, or of pages, was not
//	                      committed
//	chunk_published       all items of a small batch          the batch runs; repeated: its guard refuses the chunk, and that is success
//	manifest_page_stored  some pages, that nobody reads;      repeated: takes over, stores its own pages, removes these. Else: the
//	                      a feed record that waits            sweep abandons the record and removes pages and feed record
//	manifest_complete     all pages; the record is pending    as above
//	acceptance_complete   the whole batch; nobody was told    workers, or the feeder, find it within a second; repeated: finds it accepted
//	answer_written        the whole batch, or its receipts    as above; repeated: the same answer from the same receipts
//
// A call without a key that is repeated is another batch: its caller cannot tell whether the first one runs, unless it
// got the header Copyfleet-Batch.
//
// # How items run again
//
// Receipts never change, so failed items run again in a new batch (rerun*.go, dead*.go; docs/adr/0007-reruns.md). What is to run is entered in
// the rerun record of each batch that it is from, all in one commit under the revisions that were read; then the new batch is
// accepted as any other, from the manifests; then the records say that it was. No two reruns that are accepted have an item in
// common. An entry counts if its batch was accepted. One that is neither accepted nor old keeps its items from others (15 s, and
// 0.1 ms for each item); an older one loses them: whoever wants them first writes into the accept record that the dead
// rerun never will be accepted.
//
//	step                 exists                              then
//	rerun_recorded       entries for a batch without record  repeated with its key: goes on with what was entered. Else: another
//	                                                         rerun takes the items, at once or when the entry is old; its batch can
//	                                                         never be accepted then, and its key is answered 409 rerun_taken
//	acceptance_complete  the new batch; its entries count    the next rerun marks them as done
//
// # How batches are shown, watched and acted upon
//
// A batch is what its accept record, its control and its summary say together, the strongest word first: an end that is in the
// summary, a stop, an acceptance that is under way, a pause, then what runs (batches.go). Counts are those of the receipts, and what
// workers claim to hold is running; they add up to the total at every moment.
//
// The list comes from an index in memory, about 150 bytes a batch, that [Pipeline.Follow] keeps (index.go). The front is ready while
// that still loads: only the list depends on it, waits for a moment and answers 503. Retention removes without telling; what is
// gone is found out when it is shown, and by a look at the oldest batches every ten minutes.
//
// Event streams tell whole states (events.go), so that a watcher that comes again needs the newest only. Their ids are revisions
// in KV: any front understands them, also after a restart. All watchers of a batch share one reader, which keeps one event; a
// watcher that does not read is cut off after 15 seconds. At most 10,000 are served at once, the next is answered 503.
//
// An action (actions.go) sees to it that there is a feed record, then stores the control under the revision that was read: the
// aggregator and the workers carry it out. A stop is final and wins over every other action, whichever comes first. A batch that is still
// being accepted may be canceled: the wish is kept, and not one of its items starts. A front that dies between the two steps
// leaves a feed record that the aggregator removes at the end of the batch; after the second the action is carried out, answered or not.
//
// # What is not
//
// Validation looks at the request alone. Whether a name resolves to an address that may be dialed, whether a
// path leaves its sandbox through a symbolic link and whether a bucket exists are questions for the
// worker at the moment of use.
//
// The tables of keys, sandboxes and grants are a copy, fed by one watch. A change made through this process
// is in force here when the call that made it is answered; on other fronts, as soon as their watch delivers it. A
// front whose watch broke keeps serving what it last knew and says so on /readyz.
//
// Time limits for reading a request and writing an answer belong to the http.Server around [Server.Handler], but for manifests: an
// upload may take as long as it likes while it brings 1 KiB in every 30 s.
package producer
