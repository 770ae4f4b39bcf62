// Package resume reads on where the body of a source broke off.
//
// It wraps any source. Where that is a [storage.Ranger], and says with a strong mark which state of it was opened, a body that breaks
// off is continued from the byte behind the last one that was read, in that same state. Who reads notices nothing but a
// pause: bytes come once and in order, so a digest goes on. Other sources are read as they are.
//
// Guaranteed:
//
//   - All bytes are of the state that was opened. A source that changed meanwhile ends the body.
//   - A source cannot hold its reader for ever by breaking off: not without a new byte (three failures in a row), nor by being silent
//     (twice within 1 MiB), nor by giving a little each time (1000 continuations).
//   - Every wait ends with the context, and with Close.
//   - Where the source cannot be continued although it is there, the error has the class of what broke the body off, so that another
//     attempt may read it anew; its code says why it could not go on. What is gone or forbidden by now is told as such.
//
// Not guaranteed: that what the source calls the same state is the same. A server that gives one ETag to two contents deceives.
package resume
