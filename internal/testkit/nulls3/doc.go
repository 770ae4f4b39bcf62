// Package nulls3 is an S3 that keeps nothing, for who measures a client: it answers with as little work as there can be.
//
// It speaks just enough of HTTP/1.1 and of S3 for clients that are well-behaved: connections that are kept, bodies with a Content-Length, keys in the
// path. It looks at no signature. A server of net/http costs about a third of all that a small request takes, in client and server; this one reads a
// request into a buffer of its connection, looks for its length, and writes an answer that was made beforehand.
//
// What is written is gone. What is read has the size of [Options.Object], and consists of zeros; listings are empty.
package nulls3
