// Package events reads notifications of other systems: those that S3 and MinIO send of their buckets, and CloudEvents 1.0. What is read is an [Event], on
// which rules decide.
//
// It guarantees:
//   - A notification is read whole or not at all. One record that cannot be read makes the whole of it malformed, with the place and the reason
//     ([MalformedError]): over HTTP its sender is told, and nothing of it was taken.
//   - JSON is read strictly (RFC 7493): no member twice, UTF-8, nothing behind the value. Two readers of one text cannot understand it differently.
//   - What it takes is bounded by the text: [MaxBody] bytes, [MaxEvents] events, 64 levels, 100,000 values.
//   - Keys of S3 are decoded exactly once, and numbers are kept as they were written.
//   - No message repeats a value of what was sent: values may be secrets.
//
// It does not look at what an event means: an unknown type, a bucket that nobody has and a key with odd characters are events as others are.
package events
