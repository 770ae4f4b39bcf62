package hostilehttp

import (
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/storage"
)

// statuses are answers that are no success, or none for a GET.
func statuses() []Behavior {
	status := func(class storage.Class, code, message string, n int) Want {
		return Want{Class: class, Code: code, Message: "the server answered " + message, Status: n}
	}
	odd := func(message string, n int) Want { return status(storage.Invalid, "http_unexpected_status", message, n) }
	after := func(w Want, d time.Duration) Want { w.RetryAfter = d; return w }
	busy := status(storage.Throttled, "source_http_429", "429 Too Many Requests", 429)
	down := status(storage.Unavailable, "source_http_503", "503 Service Unavailable", 503)
	missing := status(storage.NotFound, "source_http_404", "404 Not Found", 404)
	absurd := get("429-retry-absurd", after(busy, time.Hour), Answer("429 X", "Retry-After: 99999999999999999999"))
	absurd.Alone = true // an item would wait for minutes
	at := get("429-retry-date", after(busy, 90*time.Second),
		Answer("429 X", "Date: Fri, 02 Jan 2026 12:00:00 GMT", "Retry-After: Fri, 02 Jan 2026 12:01:30 GMT"))
	at.Alone = true
	return []Behavior{
		get("101", odd("101 Switching Protocols", 101), "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"),
		get("204", odd("204 No Content", 204), "HTTP/1.1 204 No Content\r\n\r\n"),
		get("205", odd("205 Reset Content", 205), Answer("205 Reset Content")),
		get("206-unasked", odd("206 Partial Content", 206), "HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\nContent-Range: bytes 0-4/10\r\n\r\n12345"),
		get("300", odd("300 Multiple Choices", 300), Answer("300 Multiple Choices", "Location: /x")),
		get("304", odd("304 Not Modified", 304), "HTTP/1.1 304 Not Modified\r\n\r\n"),
		get("401", status(storage.Denied, "source_http_401", "401 Unauthorized", 401), Answer("401 X", "WWW-Authenticate: Basic")),
		get("403", status(storage.Denied, "source_http_403", "403 Forbidden", 403), Answer("403 X")),
		get("404", missing, Answer("404 a phrase of its own")),
		acts("404-endless", missing, func(p *Peer) { p.Say("HTTP/1.1 404 X\r\n\r\n"); p.Flood(strings.Repeat("x", 1000)) }),
		get("410", status(storage.NotFound, "source_http_410", "410 Gone", 410), Answer("410 X")),
		get("416-unasked", status(storage.Invalid, "source_http_416", "416 Requested Range Not Satisfiable", 416), Answer("416 X")),
		get("429-retry-seconds", after(busy, time.Second), Answer("429 X", "Retry-After: 1")),
		at, absurd,
		get("429-retry-nonsense", busy, Answer("429 X", "Retry-After: soon")),
		get("429-retry-past", busy, Answer("429 X", "Date: Fri, 02 Jan 2026 12:00:00 GMT", "Retry-After: Fri, 02 Jan 2026 11:00:00 GMT")),
		get("500", status(storage.Unavailable, "source_http_500", "500 Internal Server Error", 500), Answer("500 X")),
		get("503", after(down, time.Second), Answer("503 X", "Retry-After: 1")),
		get("507", status(storage.NoSpace, "source_http_507", "507 Insufficient Storage", 507), Answer("507 X")),
		get("599", status(storage.Unavailable, "source_http_599", "599", 599), Answer("599 X")),
		get("999", odd("999", 999), Answer("999 X")),
	}
}

// redirects are ways that lead nowhere.
func redirects() []Behavior {
	to := func(name, location, problem string) Behavior {
		want := Want{Class: storage.Invalid, Code: "source_redirect", Message: "the server redirected to a URL that " + problem}
		return get("redirect-"+name, want, Answer("302 Found", "Location: "+location))
	}
	forbidden := func(name, location, address string) Behavior {
		want := Want{Class: storage.ForbiddenAddress, Code: "forbidden_address", Message: "the address " + address + " is not public"}
		return get("redirect-"+name, want, Answer("307 Temporary Redirect", "Location: "+location))
	}
	limit := Want{Class: storage.Invalid, Code: "source_redirect_limit", Message: "the server redirected more than 5 times"}
	nowhere := to("nowhere", "", "it did not name")
	nowhere.script = func(p *Peer) { p.Request(); p.Say("%s", Answer("301 Moved")) }
	tls := to("to-http", "http://127.0.0.1:1/", "would leave https for http")
	tls.TLS, tls.script = true, secured(certificates().good, tls.script)
	return []Behavior{
		get("redirect-loop", limit, Answer("302 Found", "Location: /redirect-loop")),
		{Name: "redirect-too-many", Want: limit, script: func(p *Peer) { p.Say("%s", Answer("308 X", "Location: "+p.Request().RequestURI+"x")) }},
		acts("redirect-endless-body", limit, func(p *Peer) { p.Say("HTTP/1.1 303 X\r\nLocation: /\r\n\r\n"); p.Flood(strings.Repeat("x", 1000)) }),
		nowhere, tls,
		to("twice", "/a\r\nLocation: /b", "it did not name, or not once"),
		to("file", "file:///etc/passwd", "is neither http nor https"),
		to("ftp", "ftp://127.0.0.1/", "is neither http nor https"),
		to("userinfo", "http://user:password@127.0.0.1/", "has userinfo"),
		to("zone", "http://[fe80::1%25lo]/", "has a zone"),
		to("decimal", "http://2130706433/", "has a numeric host"),
		to("hex", "http://0x7f.1/", "has a numeric host"),
		to("unparsable", "http://%zz/", "cannot be parsed"),
		to("too-long", "/"+strings.Repeat("a", 9000), "is longer than 8 KiB"),
		to("no-host", "http:///x", "names no host"),
		forbidden("metadata", "http://169.254.169.254/latest/", "169.254.169.254"),
		forbidden("metadata-mapped", "http://[::ffff:169.254.169.254]/latest/", "169.254.169.254"),
		forbidden("private", "http://10.0.0.1/", "10.0.0.1"),
		forbidden("loopback6", "http://[::1]:1/", "::1"),
		get("redirect-refused", Want{Class: storage.Unavailable, Code: "source_connect_refused", Message: "the connection was refused"},
			Answer("302 Found", "Location: http://127.0.0.1:1/")),
	}
}
