package httpstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/copyfleet/copyfleet/storage"
)

// OpenRange asks for a part of the URL in the state that mark names (Range and If-Range, RFC 9110, sections 13.1.5 and 14.2). It follows
// redirects as Open does. Beyond the errors of Open there are
//
//   - [storage.CodeSourceChanged]: the server has another state by now, or says so of the part that it sent,
//   - [storage.CodeSourceShort], class Interrupted: it has less in that state than it had announced,
//   - [storage.CodeNoRanges]: it sends everything although the state is the same, or the mark is not strong,
//   - source_range_wrong, class Corrupt: it sent another part than the one asked for, or several.
func (g *get) OpenRange(ctx context.Context, mark storage.Mark, offset, length int64) (*storage.Object, error) {
	what, to, header, err := g.prepare("open")
	if err != nil {
		return nil, err
	}
	if !mark.Strong() {
		return nil, what.fail(storage.Invalid, "no_ranges", "the source does not say which state it is in, so it can be read only as a whole")
	}
	rest := mark.Size - offset
	if length == storage.UnknownSize || length > rest {
		length = rest
	}
	if offset < 0 || length < 0 {
		return nil, what.fail(storage.Invalid, "invalid_range", "the part that was asked for does not lie within the source")
	}
	x := g.client.newExchange(ctx, what)
	x.state = stateOf(mark)
	if length == 0 {
		return x.nothing(to, header, mark)
	}
	resp, err := x.ask(to, header, mark, offset, length)
	if err != nil {
		x.cancel(nil)
		return nil, err
	}
	o := x.stretch(resp.Body, mark, length)
	o.Status, o.ContentType = resp.StatusCode, told(resp.Header, "Content-Type")
	return o, nil
}

// ask requests a part and returns its answer.
func (x *exchange) ask(to target, header http.Header, mark storage.Mark, offset, length int64) (*http.Response, error) {
	x.part = fmt.Sprintf("bytes=%d-%d", offset, offset+length-1)
	resp, err := x.follow(to, header)
	if err != nil {
		return nil, err
	}
	if err := x.checkRange(resp, mark, offset, length); err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

// nothing is a part without bytes. No Range can ask for that, but the state can be looked at: by the last byte or, where there should be
// none, by any.
func (x *exchange) nothing(to target, header http.Header, mark storage.Mark) (*storage.Object, error) {
	defer x.cancel(nil)
	resp, err := x.ask(to, header, mark, max(0, mark.Size-1), 1)
	if err == nil {
		discard(resp)
	} else if e, ok := errors.AsType[*storage.Error](err); !ok || e.Code != storage.CodeNoRanges {
		return nil, err
	}
	return &storage.Object{Body: http.NoBody, ETag: mark.ETag, Modified: mark.Modified, Ranges: err == nil}, nil
}

// stateOf is the If-Range for a strong mark.
func stateOf(mark storage.Mark) string {
	if mark.ETag != "" {
		return mark.ETag
	}
	return mark.Modified.UTC().Format(http.TimeFormat)
}

// checkRange returns why an answer does not give the part that was asked for.
func (x *exchange) checkRange(resp *http.Response, mark storage.Mark, offset, length int64) error {
	other := differs(resp, mark)
	switch resp.StatusCode {
	case http.StatusPartialContent:
		if other {
			return x.changed()
		}
		if mark.ETag != "" && told(resp.Header, "Etag") == "" && resp.Header.Get("Last-Modified") == "" {
			// Who tells the ETag of the whole must tell that of a part (RFC 9110, section 15.3.7). One that does not may know nothing
			// of If-Range either, and this may be a part of any state.
			return x.wrongRange("a part without saying of what state")
		}
		return x.checkPart(resp, mark, offset, length)
	case http.StatusRequestedRangeNotSatisfiable:
		if !other && !beyond(resp, mark) {
			return x.notThere(mark)
		}
	case http.StatusOK:
		switch {
		case other:
		case resp.ContentLength < 0 || resp.ContentLength == mark.Size:
			return x.fail(storage.Invalid, "no_ranges", "the server sent everything where a part was asked for")
		case resp.ContentLength < mark.Size && tells(resp, mark):
			return x.short(mark)
		}
	}
	return x.changed()
}

// notThere returns the error for a source in the same state that has no such part. In another state it would have sent all of it (If-Range), or
// told its names.
func (x *exchange) notThere(mark storage.Mark) error {
	if mark.Size == 0 {
		return x.fail(storage.Invalid, "no_ranges", "there is nothing of which a part could be asked for")
	}
	return x.short(mark)
}

// beyond reports whether the answer that a part does not exist (416) tells a size in which it would ("bytes */12", RFC 9110, section 14.4): then it
// is that of another state.
func beyond(resp *http.Response, mark storage.Mark) bool {
	values := resp.Header["Content-Range"]
	if len(values) != 1 {
		return false
	}
	_, told, _ := strings.Cut(values[0], "*/")
	size, err := strconv.ParseInt(strings.TrimSpace(told), 10, 64)
	return err == nil && size > mark.Size
}

// checkPart does so for an answer that is a part of the right state.
func (x *exchange) checkPart(resp *http.Response, mark storage.Mark, offset, length int64) error {
	if media, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err == nil && media == "multipart/byteranges" {
		return x.wrongRange("several parts")
	}
	first, last, size, ok := contentRange(resp.Header["Content-Range"])
	switch {
	case !ok:
		return x.wrongRange("a part without saying which")
	case size < mark.Size && tells(resp, mark):
		return x.short(mark)
	case size != mark.Size:
		return x.changed()
	case first != offset || last != offset+length-1:
		return x.wrongRange("another part")
	case resp.ContentLength >= 0 && resp.ContentLength != length:
		return x.wrongRange("a part that is not as long as it says")
	}
	return nil
}

// changed returns the error for a source in another state.
func (x *exchange) changed() error {
	return x.fail(storage.Corrupt, "changed", "the source is not any more what it was when the copy began")
}

// short returns the error for a source that has less than the size that it told, in the same state: a cut file behind a
// server that tells the length which the file should have. Class Interrupted is that of a body which ends too soon.
func (x *exchange) short(mark storage.Mark) error {
	return x.fail(storage.Interrupted, "short", fmt.Sprintf("the source has fewer bytes than the %d that it announced", mark.Size))
}

// wrongRange returns the error for a server that cannot be trusted with ranges.
func (x *exchange) wrongRange(sent string) error {
	return x.fail(storage.Corrupt, "range_wrong", "the server sent "+sent+" where one was asked for")
}

// differs reports whether an answer tells another state than mark. What it does not tell, or what mark does not, says nothing.
func differs(resp *http.Response, mark storage.Mark) bool {
	if tag := told(resp.Header, "Etag"); tag != "" && mark.ETag != "" && tag != mark.ETag {
		return true
	}
	modified, err := http.ParseTime(told(resp.Header, "Last-Modified"))
	return err == nil && !mark.Modified.IsZero() && !modified.Equal(mark.Modified)
}

// tells reports whether an answer that does not tell another state than mark tells the same one.
func tells(resp *http.Response, mark storage.Mark) bool {
	return mark.ETag != "" && told(resp.Header, "Etag") != "" || !mark.Modified.IsZero() && told(resp.Header, "Last-Modified") != ""
}

// contentRange takes the one Content-Range of a part apart: "bytes 0-4/10". A size that the server does not tell ("*") is not accepted:
// it could be that of another state.
func contentRange(values []string) (first, last, size int64, ok bool) {
	if len(values) != 1 {
		return 0, 0, 0, false
	}
	unit, rest, _ := strings.Cut(strings.TrimSpace(values[0]), " ")
	span, whole, _ := strings.Cut(rest, "/")
	from, to, _ := strings.Cut(span, "-")
	if !strings.EqualFold(unit, "bytes") {
		return 0, 0, 0, false
	}
	var numbers [3]int64
	for i, text := range []string{from, to, whole} {
		if text == "" || strings.Trim(text, "0123456789") != "" {
			return 0, 0, 0, false
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return 0, 0, 0, false
		}
		numbers[i] = n
	}
	return numbers[0], numbers[1], numbers[2], true
}

// stretch is what a part stands for. Its body owns the exchange.
func (x *exchange) stretch(raw io.ReadCloser, mark storage.Mark, length int64) *storage.Object {
	what := x.call
	what.op = "read"
	return &storage.Object{
		Body: newBody(x, what, raw, length), Size: length, ETag: mark.ETag, Modified: mark.Modified, Ranges: true,
	}
}
