package observe

// Names of metrics, as Prometheus shows them but for the suffix _total of counters and _seconds and _bytes of units, which the exporter adds.
// They are part of the contract with dashboards and alerts: never change one, add another.
const (
	nameRequests = "copyfleet.http.request.duration" // API calls, by route and status class
	nameAccepted = "copyfleet.accepted.items"        // items whose acceptance was answered, by lane
	nameBatches  = "copyfleet.accepted.batches"      // batches, by lane
	nameWatchers = "copyfleet.watchers"              // open event streams
	nameQueued   = "copyfleet.queue.items"           // items in the queue, by lane and whether they wait or are held
	nameQueueAge = "copyfleet.queue.age"             // age of the first item that waits, by lane
	nameHosts    = "copyfleet.hosts"                 // sides of hosts that a worker knows, working and resting
	nameHeld     = "copyfleet.host.waiting"          // items of a worker that wait for a place at a host
	namePlaces   = "copyfleet.host.places"           // most items at once at a host in use: the least, the median and the most of all hosts
	nameSlots    = "copyfleet.slots"                 // slots of a worker, busy and free
	nameAttempts = "copyfleet.attempts"              // attempts, by outcome and class
	nameBytes    = "copyfleet.copied"                // bytes at destinations
	nameStages   = "copyfleet.stage.duration"        // time of an item in each stage
	nameStorage  = "copyfleet.storage.duration"      // uses of sources and destinations, by driver, method and class of the failure
	nameFed      = "copyfleet.fed.items"             // items put into the queue from manifests
	nameUnfed    = "copyfleet.unfed.items"           // items in manifests that are yet to be put into the queue
	nameFolded   = "copyfleet.folded.reports"        // reports that became receipts
	nameCommits  = "copyfleet.commit.duration"       // commits of receipts, by result
	nameLag      = "copyfleet.aggregator.lag"        // bundles of reports that are not folded yet
	nameWebhooks = "copyfleet.webhooks"              // notices of ends, by outcome
	nameSessions = "copyfleet.upload.sessions"       // upload sessions that came into a state
	nameParts    = "copyfleet.upload.parts.duration" // time to take a part of an upload session, by outcome
	nameStaged   = "copyfleet.upload.staged"         // bytes of parts that were accepted
	nameEvents   = "copyfleet.events.decided"        // events, once for each rule that matched, by what became of them
	nameBroken   = "copyfleet.events.malformed"      // notifications that were dropped because they cannot be read
	nameDelay    = "copyfleet.events.delay"          // time from the storing of an event to the decision
	nameEventAge = "copyfleet.events.age"            // age of the oldest event that was read and is not decided on
	scope        = "github.com/copyfleet/copyfleet"  // of meters and tracers
)

// Attribute keys. Each has a small fixed set of values; ids, hosts and orgs are in receipts and traces, never here.
const (
	keyRoute   = "route"
	keyMethod  = "method"
	keyStatus  = "status" // "2xx", "4xx", "5xx"
	keyLane    = "lane"
	keyState   = "state"
	keyOutcome = "outcome"
	keyClass   = "class"
	keyStage   = "stage"
	keyResult  = "result"
	keyDriver  = "driver"
	keyOp      = "op"
	keySource  = "source" // "s3", "cloudevents", "sweep"
)

// Stage is a part of an item's way through a worker.
type Stage string

// The stages: from its publication to its delivery, storing the claim, moving the bytes, and storing the report.
const (
	StageQueue  Stage = "queue"
	StageClaim  Stage = "claim"
	StageCopy   Stage = "copy"
	StageReport Stage = "report"
)

// UploadOutcome is what became of a part that a client sent.
type UploadOutcome string

// The outcomes: it counts, it was refused, its body broke off, or we could not take it.
const (
	UploadAccepted UploadOutcome = "accepted"
	UploadRefused  UploadOutcome = "refused"
	UploadBroken   UploadOutcome = "broken"
	UploadFailed   UploadOutcome = "failed"
)

// Attributes of spans.
const (
	spanOrg     = "copyfleet.org"
	spanBatch   = "copyfleet.batch"
	spanIndex   = "copyfleet.index"
	spanAttempt = "copyfleet.attempt"
	spanClass   = "copyfleet.failure.class"
	spanCode    = "copyfleet.failure.code"
	spanBytes   = "copyfleet.bytes"
	spanItems   = "copyfleet.items"
)
