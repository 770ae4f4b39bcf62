// Package protocol is the vocabulary that the API front, the workers and the aggregator share:
// batches, items, locations, outcomes, receipts, and the form in which each travels through NATS.
//
// It guarantees that a value encoded by one build decodes in any later one (testdata holds a golden
// message of every version), that ids are encoded before they become part of a subject or a key, and that
// locations, which carry credentials, exist on the wire only sealed (see [Sealer]) and in logs and
// receipts only redacted (see [Location.Redacted]).
//
// It does no input and output and imports the standard library only. Validation of what a caller sent
// is the business of package producer.
//
// # States
//
// An item is queued, running or retrying until its one outcome is recorded; then it is succeeded,
// failed, canceled or skipped, for ever. Only the aggregator records outcomes. A batch is accepting until
// all its items are in the queue, then queued, then running from the first recorded attempt until each
// item has an outcome. Its last state is derived from its receipts by [Tally.State].
package protocol
