// Package broker is the only importer of nats.go and nats-server. It holds the topology (streams, consumers,
// buckets), and the few verbs the roles need: publish a chunk of work as one atomic batch, receive work for
// free slots, plan a retry, store reports, commit state with expected revisions, wake and tell.
//
// # What it guarantees
//
//   - What Publish, PublishChunk, PlanRetry, PublishReports, Commit and the bucket writes acknowledged was stored by the server
//     first. On the embedded server it was also fsynced ([Server] sets SyncAlways). An external server must
//     run with "sync_interval: always" for the same; a client cannot see whether it does.
//   - A chunk is stored whole or not at all, and once: its guard message carries an expected-sequence
//     check, so that publishing it again yields [ErrCommitted].
//   - A commit applies all its writes or none, each under its expected revision.
//
// # What it does not
//
// JetStream acknowledgements are not fenced: a late one from a stale worker acts on the new owner's delivery, and on a
// Limits stream an acknowledgement is in memory for up to 100 ms and lost with the server. Delivery is
// therefore at least once, and package worker keeps its own claims and fence.
package broker
