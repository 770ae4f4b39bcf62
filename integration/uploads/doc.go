// Package uploads holds the tests of resumable uploads under faults: processes that are killed at each step and in the middle of parts, a store and
// a broker that restart. A client that only asks what is missing, and repeats what got no answer, ends with exactly its bytes in place or with
// nothing changed, and nothing of the session stays behind.
package uploads
