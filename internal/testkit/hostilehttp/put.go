package hostilehttp

import (
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/storage"
)

// targets are receivers of uploads.
func targets() []Behavior {
	put := func(name string, size int64, want Want, script func(p *Peer)) Behavior {
		return Behavior{Name: "put-" + name, Side: Target, Size: size, Want: want, script: script}
	}
	takes := func(name string, want Want, text string) Behavior { // the whole body, then text
		return put(name, Upload, want, func(p *Peer) {
			for p.Whole().URL != nil && p.Say("%s", text) {
			}
		})
	}
	fail := func(class storage.Class, name, message string) Want {
		return Want{Class: class, Code: "dest_" + name, Message: message}
	}
	status := func(class storage.Class, code, message string, n int) Want {
		return Want{Class: class, Code: code, Message: "the server answered " + message, Status: n}
	}
	redirect := func(n int, message string) Want { return status(storage.Invalid, "http_redirect", message, n) }
	const go100 = "HTTP/1.1 100 Continue\r\n\r\n"
	bad := fail(storage.Unavailable, "bad_answer", "the answer is not valid HTTP/1.1, or its headers")
	reset := fail(storage.Unavailable, "reset", "the connection was reset before the answer")
	gone := fail(storage.Unavailable, "reset|dest_closed|dest_connect_reset", "the connection was") // the system decides which is seen
	early := fail(storage.Interrupted, "early_answer", "the receiver reported success before it had everything")
	deaf := fail(storage.Timeout, "idle_timeout|dest_too_slow", "Network timeout: ") // the systems may have settled some bytes yet
	mute := fail(storage.Timeout, "header_timeout", "Network timeout: no answer within")
	early200, early201 := early, early
	early200.Status, early201.Status = 200, 201
	large := status(storage.TooLarge, "dest_http_413", "413", 413)
	busy, down := status(storage.Throttled, "dest_http_429", "429", 429), status(storage.Unavailable, "dest_http_503", "503", 503)
	busy.RetryAfter, down.RetryAfter = time.Second, time.Second
	return []Behavior{
		put("accept-close", Upload, gone, func(*Peer) {}),
		put("head-reset", Upload, reset, func(p *Peer) { p.Request(); p.Reset() }),
		put("midway-reset", Bulk, reset, func(p *Peer) { p.Request(); p.Say(go100); p.Take(1 << 20); p.Reset() }),
		put("midway-close", Bulk, gone, func(p *Peer) { p.Request(); p.Say(go100); p.Take(1 << 20) }),
		put("end-close", Upload, fail(storage.Unavailable, "closed", "the connection was closed before the answer"), func(p *Peer) { p.Whole() }),
		put("end-reset", Upload, reset, func(p *Peer) { p.Whole(); p.Reset() }),
		waits(put("never-reads", Bulk, deaf, func(p *Peer) { p.Hang() })),
		waits(put("stops-reading", Bulk, deaf, func(p *Peer) { p.Request(); p.Say(go100); p.Take(1 << 20); p.Hang() })),
		waits(put("no-answer", Upload, mute, func(p *Peer) { p.Whole(); p.Hang() })),
		put("403-instead-of-100", Bulk, status(storage.Denied, "dest_http_403", "403 Forbidden", 403),
			func(p *Peer) { p.Request(); p.Say("%s", Answer("403 X")); p.Linger() }),
		put("413-midway", Bulk, large, func(p *Peer) { p.Request(); p.Say(go100); p.Take(1 << 20); p.Say("%s", Answer("413 X")); p.Hang() }),
		put("413-then-reset", Bulk, large, func(p *Peer) {
			p.Request()
			p.Say(go100)
			p.Take(64 << 10)
			p.Say("%s", Answer("413 X", "Connection: close"))
		}),
		put("413-endless", Bulk, large, func(p *Peer) {
			p.Request()
			p.Say(go100 + "HTTP/1.1 413 X\r\n\r\n")
			p.Flood(strings.Repeat("x", 1000))
		}),
		put("200-before-body", Bulk, early200, func(p *Peer) { p.Request(); p.Say("%s", Answer("200 OK")); p.Hang() }),
		put("201-midway", Bulk, early201, func(p *Peer) { p.Request(); p.Say(go100); p.Take(1 << 20); p.Say("%s", Answer("201 Created")) }),
		put("1xx-flood", Upload, bad, func(p *Peer) { p.Request(); p.Flood("HTTP/1.1 102 Processing\r\nA: b\r\n\r\n") }),
		put("headers-flood", Upload, bad, func(p *Peer) { p.Whole(); p.Say(ok); p.Flood("A: b\r\n") }),
		takes("not-http", bad, "550 no such user\r\n"),
		takes("101", status(storage.Invalid, "http_unexpected_status", "101", 101), "HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"),
		takes("301", redirect(301, "301 Moved Permanently"), Answer("301 X", "Location: /elsewhere")),
		takes("302", redirect(302, "302 Found"), Answer("302 X", "Location: /elsewhere")),
		takes("303", redirect(303, "303 See Other"), Answer("303 X", "Location: /elsewhere")),
		takes("307", redirect(307, "307 Temporary Redirect"), Answer("307 X", "Location: http://10.0.0.1/")),
		takes("304", redirect(304, "304 Not Modified"), "HTTP/1.1 304 X\r\n\r\n"),
		takes("409", status(storage.Conflict, "dest_http_409", "409 Conflict", 409), Answer("409 X")),
		takes("412", status(storage.Invalid, "dest_http_412", "412 Precondition Failed", 412), Answer("412 X")),
		takes("429", busy, Answer("429 X", "Retry-After: 1")),
		takes("503", down, Answer("503 X", "Retry-After: 1")),
		takes("507", status(storage.NoSpace, "dest_http_507", "507 Insufficient Storage", 507), Answer("507 X")),
		takes("204", Want{}, "HTTP/1.1 204 No Content\r\n\r\n"),
		put("201-endless", Upload, Want{}, func(p *Peer) { p.Whole(); p.Say("HTTP/1.1 201 Created\r\n\r\n"); p.Flood(strings.Repeat("x", 1000)) }),
	}
}
