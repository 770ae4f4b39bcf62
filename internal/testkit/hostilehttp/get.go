package hostilehttp

import (
	"fmt"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/storage"
)

// connections are what can go wrong before there is an answer.
func connections() []Behavior {
	closed, reset := dropped, dropped
	closed.Code, reset.Code = "source_closed", "source_reset"
	early := dropped
	early.Code += "|source_connect_reset" // if it is seen as early as that
	return []Behavior{
		{Name: "accept-close", Want: dropped, script: func(*Peer) {}},
		{Name: "accept-reset", Want: early, script: func(p *Peer) { p.Reset() }},
		waits(Behavior{Name: "accept-silent", Want: noAnswer, script: func(p *Peer) { p.Hang() }}),
		{Name: "request-reset-midway", Want: reset, script: func(p *Peer) { _, _ = p.R.ReadByte(); p.Reset() }},
		acts("request-close", closed, func(*Peer) {}),
		acts("request-reset", reset, func(p *Peer) { p.Reset() }),
		waits(acts("request-silent", noAnswer, func(p *Peer) { p.Hang() })),
		get("headers-close", closed, ok+"A: b\r\n"),
		acts("headers-reset", dropped, func(p *Peer) { p.Say(ok + "A:"); p.Reset() }),
		waits(acts("headers-silent", noAnswer, func(p *Peer) { p.Say(ok + "Content-"); p.Hang() })),
		waits(acts("headers-drip", noAnswer, func(p *Peer) { p.Say(ok); p.Drip("X-A: 1\r\n", 5*time.Millisecond) })),
		acts("headers-flood", badAnswer, func(p *Peer) { p.Say(ok); p.Flood("A: b\r\n") }),
		acts("headers-flood-large", badAnswer, func(p *Peer) { p.Say(ok); p.Flood("A: " + strings.Repeat("b", 1000) + "\r\n") }),
		acts("headers-one-huge", badAnswer, func(p *Peer) { p.Say(ok + "A: "); p.Flood(strings.Repeat("b", 1000)) }),
		get("headers-no-colon", badAnswer, ok+"this is no header\r\n\r\n"),
		get("headers-null-in-name", badAnswer, ok+"A\x00B: c\r\nContent-Length: 0\r\n\r\n"),
		get("headers-null-in-value", badAnswer, ok+"ETag: \"a\x00b\"\r\nContent-Length: 10\r\n\r\n"+Content),
		get("status-line-bad", badAnswer, "HTTP/1.1 OK\r\n\r\n"),
		get("status-line-two-digits", badAnswer, "HTTP/1.1 20 OK\r\n\r\n"),
		get("status-line-null", badAnswer, "HTTP\x00/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
		get("version-0.9", badAnswer, "<html>from the last century</html>\r\n"),
		get("version-9.9", badAnswer, "HTTP/x.9 200 OK\r\n\r\n"),
		get("not-http", badAnswer, "220 smtp.example ESMTP\r\n\r\n"),
		{Name: "echo", Want: badAnswer, script: func(p *Peer) { p.Say("%s\r\n", p.Request().RequestURI) }},
		acts("1xx-flood", badAnswer, func(p *Peer) { p.Flood("HTTP/1.1 102 Processing\r\n\r\n") }),
		acts("103-flood", badAnswer, func(p *Peer) { p.Flood("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n") }),
		fine("1xx-few", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"+
			ok+"Content-Length: 10\r\n\r\n"+Content, Content),
	}
}

// lengths are bodies that are not what their headers say.
func lengths() []Behavior {
	const ten = ok + "Content-Length: 10\r\n\r\n"
	idle := Want{Class: storage.Timeout, Code: "source_idle_timeout", Message: "Network timeout: no bytes arrived within"}
	slow := Want{Class: storage.Timeout, Code: "source_too_slow", Message: "Network timeout: fewer than "}
	const drip = 20 * time.Millisecond // far less than what must move, far more often than a peer must be heard of
	return []Behavior{
		get("body-short", shortBody, ten+"12345"),
		get("body-missing", shortBody, ten),
		acts("body-reset", Want{Class: storage.Interrupted, Code: "source_reset", Message: "the connection was reset after"},
			func(p *Peer) { p.Say(ten + "12345"); p.Reset() }),
		waits(acts("body-silent", idle, func(p *Peer) { p.Say(ten); p.Hang() })),
		waits(acts("body-stalls", idle, func(p *Peer) { p.Say(ten + "12345"); p.Hang() })),
		waits(acts("body-drips", slow, func(p *Peer) {
			p.Say(ok + "Content-Length: 100000000\r\n\r\n")
			p.Drip(".", drip)
		})),
		waits(acts("body-drips-chunks", slow, func(p *Peer) {
			p.Say(ok + "Transfer-Encoding: chunked\r\n\r\n")
			p.Drip("1\r\n.\r\n", drip)
		})),
		{Name: "body-drips-on", Want: slow, Waits: true, script: func(p *Peer) { // also what it is asked for by range
			const size = 100000000
			from, status := 0, ok
			if _, err := fmt.Sscanf(p.Request().Header.Get("Range"), "bytes=%d-", &from); err == nil {
				status = fmt.Sprintf("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes %d-%d/%d\r\n", from, size-1, size)
			}
			p.Say("%sETag: \"drips\"\r\nAccept-Ranges: bytes\r\nContent-Length: %d\r\n\r\n", status, size-from)
			p.Drip(".", drip)
		}},
		fine("body-null-bytes", ten+"\x00\x00\x00\x00\x00\r\n\r\n\x00", "\x00\x00\x00\x00\x00\r\n\r\n\x00"),
		fine("body-gzip-unasked", ok+"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\n\x1f\x8b\x08\x00\x00", "\x1f\x8b\x08\x00\x00"),
		unsized("body-until-close", "HTTP/1.0 200 OK\r\n\r\n"+Content, Content),
		// The message ends where its length says. What a caller knows of the size or the digest tells the rest.
		fine("length-too-small", ok+"Content-Length: 4\r\n\r\n"+Content, Content[:4]),
		get("length-too-large", shortBody, ok+"Content-Length: 9223372036854775807\r\n\r\n"+Content),
		get("length-overflow", badAnswer, ok+"Content-Length: 9223372036854775808\r\n\r\n"+Content),
		get("length-negative", badAnswer, ok+"Content-Length: -1\r\n\r\n"+Content),
		get("length-signed", badAnswer, ok+"Content-Length: +10\r\n\r\n"+Content),
		get("length-hex", badAnswer, ok+"Content-Length: 0xa\r\n\r\n"+Content),
		get("length-twice", badAnswer, ok+"Content-Length: 10\r\nContent-Length: 4\r\n\r\n"+Content),
		get("length-list", badAnswer, ok+"Content-Length: 10, 4\r\n\r\n"+Content),
		unsized("length-and-chunked", ok+"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\na\r\n"+Content+"\r\n0\r\n\r\n", Content),
		get("encoding-unknown", badAnswer, ok+"Transfer-Encoding: gzip\r\n\r\n"+Content),
		get("encoding-twice", badAnswer, ok+"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
	}
}

// chunks are chunked bodies that are none.
func chunks() []Behavior {
	const chunked = ok + "Transfer-Encoding: chunked\r\n\r\n"
	endless := acts("body-endless", Want{}, func(p *Peer) { p.Say(chunked); p.Flood("400\r\n" + strings.Repeat("x", 0x400) + "\r\n") })
	endless.Alone = true // a disk is what ends it, unless the caller says how much there is
	return []Behavior{
		endless,
		get("chunk-cut", shortBody, chunked+"ff\r\n12345"),
		get("chunk-cut-between", shortBody, chunked+"5\r\n12345\r\n"),
		get("chunk-cut-in-size", shortBody, chunked+"5\r\n12345\r\n1"),
		get("chunk-no-last-line", broken, chunked+"5\r\n12345\r\n0\r\n"),
		get("chunk-size-nonsense", broken, chunked+"zz\r\n12345\r\n0\r\n\r\n"),
		get("chunk-size-negative", broken, chunked+"-5\r\n12345\r\n0\r\n\r\n"),
		get("chunk-size-overflow", broken, chunked+"ffffffffffffffffff\r\n12345\r\n0\r\n\r\n"),
		get("chunk-size-empty", broken, chunked+"\r\n12345\r\n0\r\n\r\n"),
		get("chunk-longer-than-its-size", broken, chunked+"4\r\n12345\r\n0\r\n\r\n"),
		acts("chunk-extension-flood", broken, func(p *Peer) { p.Say(chunked); p.Flood("1;" + strings.Repeat("e", 4000) + "\r\nx\r\n") }),
		unsized("trailers", chunked+"a\r\n"+Content+"\r\n0\r\nContent-Length: 4\r\nX-Digest: none\r\n\r\n", Content),
		acts("trailer-flood", broken, func(p *Peer) { p.Say(chunked + "a\r\n" + Content + "\r\n0\r\n"); p.Flood("A: b\r\n") }),
	}
}
