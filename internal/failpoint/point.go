package failpoint

// Point is a step after which a process may be killed: the step is done, the next one is not begun.
type Point string

// The steps of the API front (producer/doc.go), in their order.
const (
	RerunRecorded      Point = "rerun_recorded"       // what is to run again is taken from its batches, the new one is not begun
	AcceptRecorded     Point = "accept_recorded"      // the accept record is stored, no item is
	AtomicStaged       Point = "atomic_staged"        // an atomic batch is with NATS but for its last message; commits of several receipts pass here too
	ChunkPublished     Point = "chunk_published"      // a chunk is in the queue
	ManifestPageStored Point = "manifest_page_stored" // pages of a manifest are stored, not yet all; hit once a commit
	ManifestComplete   Point = "manifest_complete"    // all pages are stored, the record does not say so
	AcceptanceComplete Point = "acceptance_complete"  // the batch may run, its workers were not woken
	AnswerWritten      Point = "answer_written"       // the answer was handed to the connection, which may not have sent it
)

// The steps of an upload session (producer/uploads/doc.go), in their order.
const (
	SessionReserved   Point = "session_reserved"    // the session and its share of the quota are stored, nothing to write parts to is there
	SessionBegun      Point = "session_begun"       // that is there, the session does not say so
	SessionPartStored Point = "session_part_stored" // the staging storage has a part, nobody was told
	SessionPartTold   Point = "session_part_told"   // the news of it is in the report stream
	SessionCompleting Point = "session_completing"  // the session says which batch publishes it; the batch is perhaps not there
	SessionSubmitted  Point = "session_submitted"   // it is in the queue
	SessionEnded      Point = "session_ended"       // a session has ended and its share of the quota is back; nothing is removed
	SessionSettled    Point = "session_settled"     // a session is what follows from its batch, nobody was answered
	SessionUnstaged   Point = "session_unstaged"    // nothing of it is staged any more, the records of its parts are there
)

// The steps of an event (producer/triggers/doc.go), in their order.
const (
	TriggerRecorded  Point = "trigger_recorded"  // what is copied stands in the journal, no batch of it is submitted
	TriggerSubmitted Point = "trigger_submitted" // a batch of a record is accepted, others of it perhaps are not; the journal does not say so
	TriggerDropped   Point = "trigger_dropped"   // events that were dealt with are out of the stream
	TriggerSummed    Point = "trigger_summed"    // a record with all counts is in the journal, the records that it stands for are, too
)

// The steps of a worker (worker/doc.go), in their order.
const (
	Fetched            Point = "fetched"             // items were delivered, nobody wrote down to whom
	ClaimStored        Point = "claim_stored"        // the claim names the items, no work began
	SessionRead        Point = "session_read"        // the record of the upload session that an item publishes was read
	SessionPartsLost   Point = "session_parts_lost"  // it is in the report stream that parts of one are missing, that the item failed is not
	SessionAssembled   Point = "session_assembled"   // the parts of one are an object, of which no byte was read
	BytesMoving        Point = "bytes_moving"        // a piece of the source was read; hit once a piece
	TempSynced         Point = "temp_synced"         // the hidden file of a sandbox is whole and durable
	BytesComplete      Point = "bytes_complete"      // the destination has all but what makes it visible; the lease is not checked
	LeaseChecked       Point = "lease_checked"       // as above, and the item is still ours
	Renamed            Point = "renamed"             // the file of a sandbox is visible, its name not yet durable
	DestinationVisible Point = "destination_visible" // the copy is made
	UploadBegun        Point = "upload_begun"        // what parts are to be written to is there, the plan of the parts is not
	PartPlanned        Point = "part_planned"        // the plan is stored, no part is
	PartStored         Point = "part_stored"         // a part is stored, which was not reported
	PartReported       Point = "part_reported"       // it is in the report stream
	PartsSpread        Point = "parts_spread"        // parts are in the queue
	PartsComplete      Point = "parts_complete"      // all parts are stored and known to the owner, the digest is perhaps not
	Completing         Point = "completing"          // the plan says that the content is made visible, which it is not
	UploadCompleted    Point = "upload_completed"    // it is visible, the records of the parts are there
	PartsCleared       Point = "parts_cleared"       // they are removed, the item is not reported
	UploadAborted      Point = "upload_aborted"      // of an item that is given up what was stored is removed, the records are not
	NoticeSent         Point = "notice_sent"         // a receiver has taken the notice of a batch's end, nobody wrote it down
	RetryPlanned       Point = "retry_planned"       // the next attempt is scheduled, this one not reported
	WaitPlanned        Point = "wait_planned"        // items are put away together, which is neither reported nor their deliveries answered
	QueuedAgain        Point = "queued_again"        // items that were put away are in the queue again, the message that held them is not answered
	ReportStored       Point = "report_stored"       // the outcome is in the report stream
	Acknowledged       Point = "acknowledged"        // the delivery was answered, perhaps not yet sent
	ClaimReleased      Point = "claim_released"      // an item that is handed back left the claim, its delivery is not answered
)

// The steps of the aggregator (aggregator/doc.go), in their order.
const (
	BundleDelivered Point = "bundle_delivered" // a bundle of reports was delivered
	BundleFolded    Point = "bundle_folded"    // it is folded in memory
	Committed       Point = "committed"        // receipts and summaries are in KV
	WaitersTold     Point = "waiters_told"     // waiting calls were told
	PartsCommitted  Point = "parts_committed"  // what is known of parts is in KV
	PartsTold       Point = "parts_told"       // who waits for them was told

	UploadPartsCommitted Point = "upload_parts_committed" // what is known of the parts of upload sessions is in KV
	UploadPartsTold      Point = "upload_parts_told"      // who waits for it was told

	BundlesDone Point = "bundles_done" // the bundles were acknowledged, perhaps not yet sent
	Trimmed     Point = "trimmed"      // the queue was trimmed
)

// The steps of the feeder (aggregator/doc.go).
const (
	ChunkFed       Point = "chunk_fed"       // items are in the queue, the feed record does not say so
	FeedSaved      Point = "feed_saved"      // the feed record says how far the batch is
	Recalled       Point = "recalled"        // what waited of a stopped or paused batch is out of the queue
	RestCanceled   Point = "rest_canceled"   // a stopped batch has ended, nobody was told
	ControlOrdered Point = "control_ordered" // an option stopped or paused its batch
	RedoBegun      Point = "redo_begun"      // a pass over what was fed before is written down
	NoticeAsked    Point = "notice_asked"    // a worker was asked to tell of a batch's end
	SweepAsked     Point = "sweep_asked"     // a worker was asked to remove what is left of an item's parts
	BatchEmptied   Point = "batch_emptied"   // of a batch whose time is over only its acceptance and summary are left
	BatchRemoved   Point = "batch_removed"   // nothing is left
)

// Points lists all points, in the order of a copy.
var Points = []Point{
	RerunRecorded, AcceptRecorded, AtomicStaged, ChunkPublished, ManifestPageStored, ManifestComplete, AcceptanceComplete, AnswerWritten,
	SessionReserved, SessionBegun, SessionPartStored, SessionPartTold, SessionCompleting, SessionSubmitted, SessionEnded, SessionSettled, SessionUnstaged,
	TriggerRecorded, TriggerSubmitted, TriggerDropped, TriggerSummed,
	Fetched, ClaimStored, SessionRead, SessionPartsLost, SessionAssembled, BytesMoving, TempSynced, BytesComplete, LeaseChecked, Renamed, DestinationVisible,
	UploadBegun, PartPlanned, PartStored, PartReported, PartsSpread, PartsComplete, Completing, UploadCompleted, PartsCleared, UploadAborted,
	NoticeSent, RetryPlanned, WaitPlanned, QueuedAgain, ReportStored, Acknowledged, ClaimReleased,
	BundleDelivered, BundleFolded, Committed, WaitersTold, PartsCommitted, PartsTold, UploadPartsCommitted, UploadPartsTold, BundlesDone, Trimmed,
	ChunkFed, FeedSaved, Recalled, RestCanceled, ControlOrdered, RedoBegun, NoticeAsked, SweepAsked, BatchEmptied, BatchRemoved,
}
