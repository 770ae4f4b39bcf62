package httpstore

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/testkit/hostilehttp"
	"github.com/copyfleet/copyfleet/storage"
)

// ranged serves data under marks that a request must match, and tells what it was asked for.
func ranged(t *testing.T, data []byte, etag string, modified time.Time) (url string, seen func() *http.Request) {
	t.Helper()
	asked := make(chan *http.Request, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Clone(r.Context())
		if etag != "" {
			w.Header().Set("ETag", etag)
		}
		http.ServeContent(w, r, "", modified, bytes.NewReader(data))
	}))
	t.Cleanup(server.Close)
	return server.URL, func() *http.Request { return <-asked }
}

func openRange(t *testing.T, s storage.Source, mark storage.Mark, offset, length int64) (string, *storage.Object, error) {
	t.Helper()
	ranger, ok := s.(storage.Ranger)
	if !ok {
		t.Fatalf("%T cannot be read from the middle", s)
	}
	object, err := ranger.OpenRange(t.Context(), mark, offset, length)
	if err != nil {
		return "", nil, err
	}
	defer object.Body.Close()
	data, err := io.ReadAll(object.Body)
	return string(data), object, err
}

func TestOpenRange(t *testing.T) {
	t.Parallel()
	const data = "0123456789"
	noon := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name, etag string
		modified   time.Time
		ifRange    string
	}{
		{"by ETag", `"v1"`, time.Time{}, `"v1"`},
		{"by both", `"v1"`, noon, `"v1"`},
		{"by time", "", noon, "Fri, 02 Jan 2026 12:00:00 GMT"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			url, seen := ranged(t, []byte(data), tt.etag, tt.modified)
			// What the caller says about ranges of his own is overruled.
			source := testClient(t, nil).Get(url+query, map[string]string{"If-Range": `"other"`, "X-Key": secret})
			_, whole, err := readAll(t, source)
			if err != nil || !whole.Ranges || !whole.Mark().Strong() {
				t.Fatalf("%+v, %v", whole, err)
			}
			seen()
			mark := whole.Mark()
			for offset := range int64(len(data) + 1) {
				for _, length := range []int64{storage.UnknownSize, 0, 1, int64(len(data)) - offset} {
					if length > int64(len(data))-offset {
						continue
					}
					end := offset + length
					if length == storage.UnknownSize {
						end = int64(len(data))
					}
					got, object, err := openRange(t, source, mark, offset, length)
					if err != nil || got != data[offset:end] || object.Size != end-offset || object.ETag != mark.ETag {
						t.Fatalf("%d+%d: %q, %+v, %v", offset, length, got, object, err)
					}
					if r := seen(); r.Header.Get("If-Range") != tt.ifRange || r.Header.Get("X-Key") != secret || len(r.Header["Range"]) != 1 {
						t.Errorf("%d+%d: the headers were %v", offset, length, r.Header)
					}
				}
			}
		})
	}
}

// A time of modification in the second of the answer may become that of another content, so nothing is continued by it.
func TestYoungSourceHasNoStrongMark(t *testing.T) {
	t.Parallel()
	const date, modified = "Date: Fri, 02 Jan 2026 12:00:01 GMT", "Last-Modified: Fri, 02 Jan 2026 12:00:01 GMT"
	now := "Last-Modified: " + time.Now().UTC().Add(time.Minute).Format(http.TimeFormat)
	for _, tt := range []struct {
		headers []string
		strong  bool
	}{
		{[]string{date, modified}, false},
		{[]string{date, "Last-Modified: Fri, 02 Jan 2026 12:00:02 GMT"}, false},
		{[]string{date, "Last-Modified: Fri, 02 Jan 2026 12:00:00 GMT"}, true},
		{[]string{date, modified, `ETag: "v1"`}, true},
		{[]string{now}, false},
		{[]string{modified}, true},
	} {
		url := hostile(t, func(p *hostilehttp.Peer) { p.Request(); p.Say("%s", hostilehttp.Answer("200 OK", tt.headers...)) })
		_, object, err := readAll(t, testClient(t, nil).Get(url, nil))
		if err != nil || object.Mark().Strong() != tt.strong {
			t.Errorf("%q: %+v, %v, want strong: %t", tt.headers, object.Mark(), err, tt.strong)
		}
	}
}

// Each request for a range goes the way of the redirects anew, and the caller's headers stay behind as they do in Open.
func TestOpenRangeFollowsRedirects(t *testing.T) {
	t.Parallel()
	url, seen := ranged(t, []byte("0123456789"), `"v1"`, time.Time{})
	first := httptest.NewServer(http.RedirectHandler(url, http.StatusFound))
	defer first.Close()
	got, _, err := openRange(t, testClient(t, nil).Get(first.URL+query, map[string]string{"X-Key": secret}), storage.Mark{ETag: `"v1"`, Size: 10}, 4, 3)
	if err != nil || got != "456" {
		t.Fatalf("%q, %v", got, err)
	}
	if r := seen(); r.Header.Get("X-Key") != "" || r.Header.Get("Range") != "bytes=4-6" || r.Header.Get("If-Range") != `"v1"` {
		t.Errorf("behind the redirect the headers were %v", r.Header)
	}
}

func TestOpenRangeIsRefusedHere(t *testing.T) {
	t.Parallel()
	source := testClient(t, nil).Get("http://127.0.0.1:1/"+query, nil)
	strong := storage.Mark{ETag: `"v1"`, Size: 10}
	for _, tt := range []struct {
		mark           storage.Mark
		offset, length int64
		code           string
	}{
		{storage.Mark{ETag: `W/"v1"`, Size: 10}, 1, 1, storage.CodeNoRanges},
		{storage.Mark{Size: 10}, 1, 1, storage.CodeNoRanges},
		{storage.Mark{ETag: `"v1"`, Size: storage.UnknownSize}, 1, 1, storage.CodeNoRanges},
		{strong, -1, 1, "source_invalid_range"}, {strong, 11, storage.UnknownSize, "source_invalid_range"},
		{strong, 1, -2, "source_invalid_range"}, {strong, 1 << 62, 1<<63 - 1, "source_invalid_range"},
	} {
		_, _, err := openRange(t, source, tt.mark, tt.offset, tt.length)
		failure{class: storage.Invalid, code: tt.code}.check(t, err)
	}
	_, _, err := openRange(t, testClient(t, nil).Get("file:///x", nil), strong, 1, 1)
	failure{class: storage.Invalid, code: "source_invalid_url"}.check(t, err)
}

// The codes that those who continue a copy act upon are made of a side and a name here.
func TestCodesOfRanges(t *testing.T) {
	t.Parallel()
	url, _ := ranged(t, []byte("0123456789"), `"v2"`, time.Time{})
	source := testClient(t, nil).Get(url+query, nil)
	_, _, err := openRange(t, source, storage.Mark{ETag: `"v1"`, Size: 10}, 4, 3)
	failure{storage.Corrupt, storage.CodeSourceChanged, "the source is not any more", 0}.check(t, err)
	_, _, err = openRange(t, source, storage.Mark{ETag: `"v2"`, Size: 9}, 4, 3)
	failure{storage.Corrupt, storage.CodeSourceChanged, "the source is not any more", 0}.check(t, err)
	_, _, err = openRange(t, source, storage.Mark{ETag: `"v2"`, Size: 11}, 4, 3)
	failure{storage.Interrupted, storage.CodeSourceShort, "the source has fewer bytes", 0}.check(t, err)
	url = hostile(t, func(p *hostilehttp.Peer) {
		p.Request()
		p.Say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789")
	})
	_, _, err = openRange(t, testClient(t, nil).Get(url+query, nil), storage.Mark{ETag: `"v1"`, Size: 10}, 4, 3)
	failure{storage.Invalid, storage.CodeNoRanges, "the server sent everything", 0}.check(t, err)
}
