// Package shutdown holds the tests that stop processes of a real fleet in order: what runs may finish, what cannot is handed
// back without a charge, callers get a true answer, and a rolling restart is free.
//
// A first SIGTERM or SIGINT begins this. A second one changes nothing: the end is bounded by --drain, and whoever
// cannot wait for it has SIGKILL, after which nothing is lost either (package crash).
//
// What a worker hands back is offered to another one at once. Where NATS stops with it, as in up, it comes again when its
// AckWait ends: JetStream does not keep on disk that an item was handed back.
package shutdown
