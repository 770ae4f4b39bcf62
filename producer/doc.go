// Package producer is the API front: it authenticates a call, validates all of it, and only then lets
// anything happen.
//
// # What is guaranteed
//
// A request is refused whole or accepted whole. An invalid one is answered with every problem found (the
// first [MaxProblems] of them, and the true total), each with a JSON pointer (RFC 6901), and has changed
// nothing: not even a sandbox came into being.
//
// What passed validation can be carried out as far as its form goes: paths are absolute and clean, URLs are
// http or https with a host that is a name or a canonical address, headers are those of RFC 9110 that leave
// the framing to us, buckets are granted to the caller's org.
//
// Every answer that is an error is application/problem+json (RFC 9457) with one of the codes in the table
// of problem.go, whoever made it: an unknown path, a wrong method and a panic too. Answers 429 and 503 carry
// Retry-After.
//
// A key of one org never sees another's resources. Keys are kept as SHA-256 only; a key is never taken from a
// query, and no query, body, credential or key enters a log line or an error.
//
// Bodies are bounded, one by one ([Config.MaxBody]) and together ([Config.MaxBuffered]).
//
// # What is not
//
// Validation looks at the request alone. Whether a name resolves to an address that may be dialed, whether a
// path leaves its sandbox through a symbolic link and whether a bucket exists are questions for the
// worker at the moment of use.
//
// The tables of keys, sandboxes and grants are a copy, fed by one watch. A change made through this process
// is in force here when the call that made it is answered; on other fronts, as soon as their watch delivers it. A
// front whose watch broke keeps serving what it last knew and says so on /readyz.
//
// Time limits for reading a request and writing an answer belong to the http.Server around [Server.Handler].
package producer
