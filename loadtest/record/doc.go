// Package record keeps what a load test measures: every operation in a compressed file, and their sums and histograms in memory that does not grow with
// their number.
//
// # What counts
//
// A run has an interval: from the end of its warm-up until it begins no more operations (its stop). Latencies, bytes and errors are those of operations that
// were due in the interval, to their very end, so that slow ones are not left out because they were slow. Throughput is what was done in the interval: of an
// operation that reaches beyond it, the share of its time within. What was due outside is counted apart.
//
// A latency begins when the operation was due, not when a place was free to begin it: in an open loop a store that stalls is charged for those that wait.
//
// # The file
//
// Zstandard over lines of JSON, in sections: one for each load generator, and so one until files are put together by [Append]. The first line of a section is
// a [Header], the others are an operation each; one says when the run stopped, and the last one how it ended. A section without a last line is of a run that
// broke off: it is read as far as it goes, and said to be partial. Times are nanoseconds since the start of the generator: clocks of several machines need not
// agree.
package record
