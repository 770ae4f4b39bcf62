// Package observe measures what the roles do: metrics in the form of Prometheus, traces over OTLP.
//
// # What it guarantees
//
// Every name is a constant of names.go. The number of series is bounded: no id, host, path or org is ever the value of a label.
// A nil [Metrics] is valid and measures nothing, so that a role needs no case for it.
//
// Recording allocates once at most for label sets that were seen before.
//
// # Traces
//
// Spans are made and leave the process only if the standard variables ask for it (OTEL_EXPORTER_OTLP_ENDPOINT or
// OTEL_EXPORTER_OTLP_TRACES_ENDPOINT; http/protobuf). Then each API call has a span, and each attempt at an item one below that
// of the call that asked for it, in whichever process it runs: the W3C traceparent travels with the accept record and the work. The trace
// id stands in every receipt, also without a collector.
package observe
