package protocol

import (
	"hash/fnv"
	"strconv"
)

// DefaultPool is the pool of every item that names none: all workers.
const DefaultPool = "default"

// Shards is the number of consumers that a pool's tenants are hashed onto in each lane. It is part of the
// subjects on disk: changing it strands queued items.
const Shards = 8

// ShardOf returns the shard of a tenant.
func ShardOf(org OrgID) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(org))
	return int(h.Sum32() % Shards)
}

// WorkSubject is where the items of a batch are published:
// cf.work.<lane>.<pool>.<shard>.<org>.<batch>. There is no item id in it: subjects cost memory.
func WorkSubject(lane Lane, pool string, shard int, org OrgID, batch BatchID) string {
	return workPrefix(lane, pool, shard) + Token(string(org)) + "." + Token(string(batch))
}

// WorkFilter matches the work of one shard of one pool.
func WorkFilter(lane Lane, pool string, shard int) string {
	return workPrefix(lane, pool, shard) + ">"
}

func workPrefix(lane Lane, pool string, shard int) string {
	return "cf.work." + string(lane) + "." + Token(pool) + "." + strconv.Itoa(shard) + "."
}

// GuardSubject is the subject of the message that opens a chunk. No consumer reads it; that it may exist once
// only makes publishing the chunk idempotent.
func GuardSubject(lane Lane, org OrgID, batch BatchID, generation, chunk int) string {
	return "cf.guard." + string(lane) + "." + Token(string(org)) + "." + Token(string(batch)) + "." + strconv.Itoa(generation) + "." + strconv.Itoa(chunk)
}

// LaneSubjects are the subjects that the stream of a lane stores.
func LaneSubjects(lane Lane) []string {
	return []string{"cf.work." + string(lane) + ".>", "cf.guard." + string(lane) + ".>"}
}

// Subjects outside the lanes.
const (
	ReportSubject = "cf.report"     // bundles of reports, workers to aggregator
	RetryAt       = "cf.retry.at."  // schedules: one subject each
	RetryDue      = "cf.retry.due." // where due retries appear: <pool>.<shard>
	WakeSubject   = "cf.wake."      // core NATS: there is new work in <lane>
	ChangeSubject = "cf.change."    // core NATS: <org>.<batch> changed in KV
	FeederSubject = "cf.feeder."    // core NATS: the aggregator <id> lives
	ProgressWords = "cf.progress."  // core NATS: bytes of running items of <org>.<batch>
	PartSubject   = "cf.part."      // core NATS: parts of <org>.<batch>.<index> are in KV
	UploadSubject = "cf.upload."    // core NATS: parts of the session <org>.<sandbox>.<upload> are in KV
	PlanSubject   = "cf.plan."      // core NATS, answered by one worker of <pool>
	BenchRoll     = "cf.bench.roll" // core NATS, answered by every load generator
	BenchAsk      = "cf.bench.ask." // core NATS, answered by the load generator <id>
)

// RetrySubject is where an item of a pool's shard appears when its delay is over.
func RetrySubject(pool string, shard int) string {
	return RetryDue + Token(pool) + "." + strconv.Itoa(shard)
}

// ScheduleSubject is the subject of the message that holds a retry until it is due. It is unique for an
// item and an attempt, so that planning the same retry twice plans it once.
func ScheduleSubject(ref Ref, attempt int) string {
	return RetryAt + Token(string(ref.Org)) + "." + Token(string(ref.Batch)) + "." + strconv.Itoa(ref.Index) + "." + strconv.Itoa(attempt)
}

// WaitSubject is the subject of the message that holds works of a batch that wait together, until they are due. id is another one each time.
func WaitSubject(org OrgID, batch BatchID, id string) string {
	return RetryAt + batchKey(org, batch) + ".wait." + Token(id)
}

// ChangedSubject is where the aggregator tells, over core NATS, that a batch changed in KV.
func ChangedSubject(org OrgID, batch BatchID) string {
	return ChangeSubject + Token(string(org)) + "." + Token(string(batch))
}

// AcceptKey is the KV key of a batch's accept record.
func AcceptKey(org OrgID, batch BatchID) string { return batchKey(org, batch) + ".accept" }

// SummaryKey is the KV key of a batch's summary.
func SummaryKey(org OrgID, batch BatchID) string { return batchKey(org, batch) + ".summary" }

// PageKey is the KV key of a page of receipts.
func PageKey(org OrgID, batch BatchID, page int) string {
	return batchKey(org, batch) + ".page." + strconv.Itoa(page)
}

// ManifestKey is the key of a page of a manifest, in the manifest bucket.
func ManifestKey(org OrgID, batch BatchID, generation, page int) string {
	return batchKey(org, batch) + "." + strconv.Itoa(generation) + "." + strconv.Itoa(page)
}

// ControlKey is the key of a batch's [Control], and of its [Feed], each in a bucket of its own.
func ControlKey(org OrgID, batch BatchID) string { return batchKey(org, batch) }

// BatchFilter matches all keys of a batch, in every bucket that has more than one a batch.
func BatchFilter(org OrgID, batch BatchID) string { return batchKey(org, batch) + ".>" }

// RerunKey is the KV key of the record of what was run again of a batch.
func RerunKey(org OrgID, batch BatchID) string { return batchKey(org, batch) + ".rerun" }

// ProgressSubject is where workers tell, over core NATS, how far running items of a batch are.
func ProgressSubject(org OrgID, batch BatchID) string { return ProgressWords + batchKey(org, batch) }

// PartPlanKey is the key of an item's [PartPlan], in the bucket of parts.
func PartPlanKey(org OrgID, batch BatchID, index int) string {
	return batchKey(org, batch) + "." + strconv.Itoa(index) + PartPlanEnd
}

// PartPlanEnd ends the key of a [PartPlan].
const PartPlanEnd = ".plan"

// PartPlanFilter matches the plans of a batch, in the bucket of parts.
func PartPlanFilter(org OrgID, batch BatchID) string {
	return batchKey(org, batch) + ".*" + PartPlanEnd
}

// PartPageKey is the key of an item's [PartPage], in the bucket of parts. Pages are numbered from 0.
func PartPageKey(org OrgID, batch BatchID, index, page int) string {
	return batchKey(org, batch) + "." + strconv.Itoa(index) + "." + strconv.Itoa(page)
}

// PartFilter matches all keys of an item in the bucket of parts.
func PartFilter(org OrgID, batch BatchID, index int) string {
	return batchKey(org, batch) + "." + strconv.Itoa(index) + ".>"
}

// PartsOf is where the aggregator tells, over core NATS, that parts of an item are in KV.
func PartsOf(org OrgID, batch BatchID, index int) string {
	return PartSubject + batchKey(org, batch) + "." + strconv.Itoa(index)
}

// PartsMoving is where workers tell an item's owner, over core NATS, how far they are with parts of it.
func PartsMoving(org OrgID, batch BatchID, index int) string {
	return PartsOf(org, batch, index) + ".moving"
}

// PlanOf is where the workers of a pool are asked what they would do.
func PlanOf(pool string) string { return PlanSubject + Token(pool) }

// ScheduleFilter matches the planned retries of a batch.
func ScheduleFilter(org OrgID, batch BatchID) string { return RetryAt + batchKey(org, batch) + ".>" }

func batchKey(org OrgID, batch BatchID) string {
	return Token(string(org)) + "." + Token(string(batch))
}
