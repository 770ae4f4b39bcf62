// Package measuring shows that "copyfleet bench" measures what it says, from outside: the real binary against a real MinIO and the embedded S3, with wrong
// input, wrong keys, buckets of others, signals, stores and load generators that die.
package measuring
