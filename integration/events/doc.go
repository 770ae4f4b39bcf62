// Package events holds the tests of copies that notifications ask for: a real MinIO publishes itself to a real nats-server or to the webhook, other
// systems send CloudEvents, and rules make copies of them. Processes are killed meanwhile, notifications are lost, repeated and reordered on purpose. In the
// end the receipts of the rules' batches say that each version of an object was copied exactly once, and the destinations hold what the sources do.
package events
