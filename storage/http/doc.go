// Package httpstore reads from and writes to HTTP endpoints: GET, PUT, and POST of a form (RFC 9110,
// RFC 9112, RFC 7578). It speaks HTTP/1.1, which moves bulk with less processor time than HTTP/2 (BenchmarkProtocols in
// integration/bench), over its own transport, which uses no proxy, follows no redirect
// by itself, decompresses nothing and asks an address guard about each address before it is connected to.
//
// Beside moving bytes it can look without moving any (stat.go): a source is asked with HEAD or for its first byte, a receiver of
// uploads is not asked at all. And it posts notices (notify.go): small, once, within ten seconds, without redirects.
//
// Names are looked up once for all who want them, and what was found is used for five seconds (names.go); a host with several addresses
// is tried at one after the other, 250 ms apart (race.go).
//
// Guaranteed:
//
//   - A body is handed on as it was sent. One that ends before its Content-Length or its last chunk is an
//     error, never a short success.
//   - An upload states its exact length, and its last bytes leave only after Content.Ready agreed. A
//     receiver that counts can therefore tell every aborted upload from a whole one.
//   - An upload succeeded if and only if a status 200 to 299 arrived after all of it had been sent.
//   - A part of a source is one of the state that was asked for: a server that sends another part, or that of another
//     state, or does not say which it sends, is refused (ranges.go).
//   - What a server sends beyond its answer is not taken for the answer to the next request, unless it comes when that has been sent and
//     is valid HTTP. Malformed, it costs a GET no more than another connection (conn.go).
//   - Headers of the caller go to the origin they were given for and nowhere else; no Referer is sent.
//   - Every wait has a limit, and the error names it. A limit on idleness is one on progress: a slow peer
//     passes, a silent one does not.
//   - No error shows the query or the userinfo of a URL, a header's value, a form's value or a byte of what
//     the peer sent. The first KiB of the answer to a notice that was refused is returned apart from the error.
//
// Not guaranteed:
//
//   - That a receiver shows nothing of an aborted upload: that is up to it. Neither that a receiver which
//     answered 202 (Accepted) has stored anything yet; its word is taken for it.
//   - That a source without Content-Length over a connection that closes at the end (HTTP/1.0) was whole:
//     nothing tells, without TLS. Object.Size is then [storage.UnknownSize]. With TLS the server must have ended it (close_notify).
//   - That an upload whose answer was lost did not happen. It is reported as a failure.
//
// Errors have the codes source_… (GET), dest_… (PUT, POST) and webhook_… (notices), except where the side does not matter:
// forbidden_address, http_unexpected_status, http_redirect.
package httpstore
