package hostilehttp

import (
	"fmt"
	"net/http"

	"github.com/copyfleet/copyfleet/storage"
)

// validators are the headers of [Mark].
func validators() string {
	return "ETag: " + Mark.ETag + "\r\nLast-Modified: " + Mark.Modified.Format(http.TimeFormat) + "\r\n"
}

// ranges are sources that break off and do not go on as they should.
func ranges() []Behavior {
	// In an item the reason why it broke off is what counts: another attempt may get the whole.
	rest := func(name string, want Want, answer func(p *Peer)) Behavior {
		item := want
		if want.Class == storage.Corrupt || want.Class == storage.Invalid || want.Code == storage.CodeSourceShort {
			item.Class = storage.Interrupted
			item.Message = fmt.Sprintf("the body ended after %d of %d bytes, and it could not be continued there: ", Broken, len(Content))
		}
		return Behavior{Name: "range-" + name, Side: Ranges, Want: want, Body: Content, Item: &item, script: func(p *Peer) {
			if p.Request().Header.Get("Range") != "" {
				answer(p)
				return
			}
			p.Say("%s%sAccept-Ranges: bytes\r\nContent-Length: %d\r\n\r\n%s", ok, validators(), len(Content), Content[:Broken])
		}}
	}
	says := func(name string, want Want, text string) Behavior {
		return rest(name, want, func(p *Peer) { p.Say("%s", text) })
	}
	changed := Want{Class: storage.Corrupt, Code: storage.CodeSourceChanged, Message: "the source is not any more what it was"}
	ended := Want{Class: storage.Interrupted, Code: storage.CodeSourceShort, Message: "the source has fewer bytes than the 10"}
	whole := Want{Class: storage.Invalid, Code: storage.CodeNoRanges, Message: "the server sent everything"}
	wrong := func(sent string) Want {
		return Want{Class: storage.Corrupt, Code: "source_range_wrong", Message: "the server sent " + sent + " where one was asked for"}
	}
	part := func(headers, body string) string { // a 206 with what the caller says, and the state of Mark
		return "HTTP/1.1 206 Partial Content\r\n" + validators() + headers + "\r\n" + body
	}
	const right = "Content-Range: bytes 4-9/10\r\n"
	const six = "Content-Length: 6\r\n"
	forbidden := Want{Class: storage.ForbiddenAddress, Code: "forbidden_address", Message: "the address 10.0.0.1 is not public"}
	short := shortBody
	short.Message = "the body ended after 2 of 6 bytes"
	long := Want{Class: storage.Corrupt, Code: "source_range_wrong", Message: "the server sent more than the 6 bytes"}
	longer := says("chunked-long", long, part(right+"Transfer-Encoding: chunked\r\n", "8\r\n456789ab\r\n0\r\n\r\n"))
	longer.Item = &Want{} // all that was asked for came; what is beyond it is not taken
	again := says("short", short, part(right+six, "45"))
	again.Item = &Want{} // it is asked for again, at the place that it came to
	again.script = resumable
	gone := Want{Class: storage.NotFound, Code: "source_http_404", Message: "the server answered 404", Status: 404}
	odd := Want{Class: storage.Invalid, Code: "http_unexpected_status", Message: "the server answered 304", Status: 304}
	odder := says("304", odd, "HTTP/1.1 304 Not Modified\r\n\r\n")
	odder.Item = &Want{Class: storage.Interrupted, Code: odd.Code, Status: 304}
	limit := Want{Class: storage.Invalid, Code: "source_redirect_limit", Message: "the server redirected more than 5 times"}
	return []Behavior{
		says("200", whole, ok+validators()+"Content-Length: 10\r\n\r\n"+Content),
		says("200-changed", changed, ok+"ETag: \"v2\"\r\nContent-Length: 10\r\n\r\n"+Content),
		says("200-touched", changed, ok+"ETag: \"v1\"\r\nLast-Modified: Fri, 02 Jan 2026 12:00:00 GMT\r\nContent-Length: 10\r\n\r\n"+Content),
		says("200-shorter", changed, ok+"Content-Length: 9\r\n\r\n"+Content[:9]),
		rest("200-endless", whole, func(p *Peer) { p.Say(ok + "\r\n"); p.Flood(Content) }),
		says("412", changed, Answer("412 Precondition Failed")),
		says("416", ended, Answer("416 Range Not Satisfiable", "Content-Range: bytes */4")),
		says("416-silent", ended, Answer("416 Range Not Satisfiable")),
		says("416-same", ended, "HTTP/1.1 416 X\r\n"+validators()+"Content-Range: bytes */4\r\nContent-Length: 0\r\n\r\n"),
		says("416-changed", changed, Answer("416 Range Not Satisfiable", `ETag: "v2"`, "Content-Range: bytes */4")),
		says("416-longer", changed, Answer("416 Range Not Satisfiable", "Content-Range: bytes */12")),
		says("200-same-shorter", ended, ok+validators()+"Content-Length: 9\r\n\r\n"+Content[:9]),
		says("same-shorter", ended, part("Content-Range: bytes 4-8/9\r\nContent-Length: 5\r\n", "45678")),
		odder,
		says("404", gone, Answer("404 Not Found")),
		says("changed-etag", changed, "HTTP/1.1 206 X\r\nETag: \"v2\"\r\n"+right+six+"\r\n456789"),
		says("weak-etag", changed, "HTTP/1.1 206 X\r\nETag: W/\"v1\"\r\n"+right+six+"\r\n456789"),
		says("changed-time", changed, "HTTP/1.1 206 X\r\nLast-Modified: Fri, 02 Jan 2026 12:00:00 GMT\r\n"+right+six+"\r\n456789"),
		says("changed-size", changed, part("Content-Range: bytes 4-9/11\r\n"+six, "456789")),
		says("silent-about-state", wrong("a part without saying of what state"), "HTTP/1.1 206 X\r\n"+right+six+"\r\n456789"),
		says("silent-about-range", wrong("a part without saying which"), part(six, "456789")),
		says("two-ranges", wrong("a part without saying which"), part(right+right+six, "456789")),
		says("unknown-size", wrong("a part without saying which"), part("Content-Range: bytes 4-9/*\r\n"+six, "456789")),
		says("unit", wrong("a part without saying which"), part("Content-Range: items 4-9/10\r\n"+six, "456789")),
		says("nonsense", wrong("a part without saying which"), part("Content-Range: bytes -4-+9/10\r\n"+six, "456789")),
		says("overflow", wrong("a part without saying which"), part("Content-Range: bytes 4-99999999999999999999/10\r\n"+six, "456789")),
		says("wrong-start", wrong("another part"), part("Content-Range: bytes 3-8/10\r\n"+six, "345678")),
		says("from-zero", wrong("another part"), part("Content-Range: bytes 0-5/10\r\n"+six, "012345")),
		says("wrong-end", wrong("another part"), part("Content-Range: bytes 4-8/10\r\nContent-Length: 5\r\n", "45678")),
		says("multipart", wrong("several parts"), part("Content-Type: multipart/byteranges; boundary=x\r\nContent-Length: 5\r\n", "--x--")),
		says("lying-length", wrong("a part that is not as long as it says"), part(right+"Content-Length: 5\r\n", "45678")),
		longer, again,
		rest("redirect-private", forbidden, func(p *Peer) { p.Say("%s", Answer("302 Found", "Location: http://10.0.0.1/")) }),
		rest("redirect-loop", limit, func(p *Peer) { p.Say("%s", Answer("302 Found", "Location: /")) }),
		rest("reset", dropped, func(p *Peer) { p.Reset() }),
		rest("403", Want{Class: storage.Denied, Code: "source_http_403", Message: "the server answered 403", Status: 403},
			func(p *Peer) { p.Say("%s", Answer("403 Forbidden")) }),
	}
}

// resumable gives two bytes of each part that it is asked for.
func resumable(p *Peer) {
	var first int
	if _, err := fmt.Sscanf(p.Request().Header.Get("Range"), "bytes=%d-", &first); err != nil {
		p.Say("%s%sContent-Length: 10\r\n\r\n%s", ok, validators(), Content[:Broken])
		return
	}
	p.Say("HTTP/1.1 206 X\r\n%sContent-Range: bytes %d-9/10\r\nContent-Length: %d\r\n\r\n%s",
		validators(), first, len(Content)-first, Content[first:min(first+2, len(Content))])
}
