package httpstore

import (
	"errors"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/egress"
)

// requests notes what a server was asked.
type requests struct {
	mu   sync.Mutex
	list []string
}

func (q *requests) note(r *http.Request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.list = append(q.list, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+r.Header.Get("Range")))
}

func TestStatAsksWithoutReading(t *testing.T) {
	t.Parallel()
	content := func(w http.ResponseWriter, size int) {
		w.Header().Set("Content-Length", strconv.Itoa(size))
		if _, err := w.Write(make([]byte, size)); err != nil {
			return
		}
	}
	for _, row := range []struct {
		name   string
		path   string
		handle http.HandlerFunc
		want   storage.Stat
		asked  []string
		code   string
	}{
		{"a HEAD is answered", "/f", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Accept-Ranges", "bytes")
			w.Header().Set("ETag", `"e"`)
			w.Header().Set("Content-Type", "text/x")
			w.Header().Set("Content-Length", "77")
		}, storage.Stat{Size: 77, ETag: `"e"`, ContentType: "text/x", Status: 200, Ranges: true}, []string{"HEAD /f"}, ""},
		{"the length is not told", "/f", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/x")
			w.(http.Flusher).Flush()
		}, storage.Stat{Size: storage.UnknownSize, ContentType: "text/x", Status: 200}, []string{"HEAD /f"}, ""},
		{"a HEAD is refused, parts are given", "/f", func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodHead {
				w.WriteHeader(http.StatusMethodNotAllowed)
				return
			}
			w.Header().Set("Content-Type", "text/x")
			w.Header().Set("Content-Range", "bytes 0-0/123")
			w.Header().Set("Content-Length", "1")
			w.WriteHeader(http.StatusPartialContent)
			w.Write([]byte("x"))
		}, storage.Stat{Size: 123, ContentType: "text/x", Status: 206, Ranges: true}, []string{"HEAD /f", "GET /f bytes=0-0"}, ""},
		{"a HEAD is refused, parts are not given", "/f", func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodHead {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			w.Header().Set("Content-Type", "text/x")
			content(w, 10<<20)
		}, storage.Stat{Size: 10 << 20, ContentType: "text/x", Status: 200}, []string{"HEAD /f", "GET /f bytes=0-0"}, ""},
		{"a signed URL is not asked for a HEAD", "/f?X-Amz-Signature=s3cret", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes */0")
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		}, storage.Stat{Size: 0, Status: 416, Ranges: true}, []string{"GET /f bytes=0-0"}, ""},
		{"nothing, not told how much", "/f?Signature=s3cret", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		}, storage.Stat{Size: 0, Status: 416, Ranges: true}, []string{"GET /f bytes=0-0"}, ""},
		{"no part of something", "/f?Signature=s3cret", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes */5")
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		}, storage.Stat{}, []string{"GET /f bytes=0-0"}, "source_http_416"},
		{"it is not there", "/f", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, storage.Stat{}, []string{"HEAD /f", "GET /f bytes=0-0"}, "source_http_404"},
		{"it is not for us", "/f?sig=s3cret", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }, storage.Stat{}, []string{"HEAD /f", "GET /f bytes=0-0"}, "source_http_401"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			var asked requests
			url := listen(t, func(w http.ResponseWriter, r *http.Request) { asked.note(r); row.handle(w, r) })
			c := NewClient(Options{})
			t.Cleanup(c.Close)
			got, err := c.Get(url+row.path, nil).(*get).Stat(t.Context())
			if row.code != "" {
				e, ok := errors.AsType[*storage.Error](err)
				if !ok || e.Code != row.code || strings.Contains(err.Error(), "s3cret") {
					t.Fatalf("error %v, want %s", err, row.code)
				}
			} else if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(row.want, got); diff != "" && row.code == "" {
				t.Errorf("stat (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(row.asked, asked.list); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
		})
	}
}

// TestStatKeepsItsPartOverARedirect: the headers of the caller end at another origin; that only a byte is wanted does not.
func TestStatKeepsItsPartOverARedirect(t *testing.T) {
	t.Parallel()
	var asked requests
	target := listen(t, func(w http.ResponseWriter, r *http.Request) {
		asked.note(r)
		if r.Header.Get("Authorization") != "" {
			t.Error("the credential went to another origin")
		}
		w.Header().Set("Content-Range", "bytes 0-0/9")
		w.WriteHeader(http.StatusPartialContent)
		w.Write([]byte("x"))
	})
	url := listen(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, target+"/there", http.StatusFound) })
	c := NewClient(Options{})
	t.Cleanup(c.Close)
	got, err := c.Get(url+"/?Signature=x", map[string]string{"Authorization": "s3cret"}).(*get).Stat(t.Context())
	if err != nil || got.Size != 9 {
		t.Errorf("stat %+v, error %v", got, err)
	}
	if diff := cmp.Diff([]string{"GET /there bytes=0-0"}, asked.list); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// TestLookSendsNothing: a destination that takes uploads is judged by its address only.
func TestLookSendsNothing(t *testing.T) {
	t.Parallel()
	url := listen(t, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("it was asked: %s %s", r.Method, r.URL) })
	names := resolver(t, map[string][]string{
		"inside.test": {"10.0.0.7"}, "both.test": {"10.0.0.7", "93.184.216.34"}, "none.test": {},
	})
	c := NewClient(Options{Guard: egress.New([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}), Resolver: names})
	t.Cleanup(c.Close)
	for _, row := range []struct{ url, code string }{
		{url + "/up", ""},
		{"http://169.254.169.254/x", "forbidden_address"},
		{"http://inside.test/x", "forbidden_address"},
		{"http://both.test/x", ""},
		{"http://none.test/x", "dest_dns_not_found"},
		{"ftp://both.test/x", "dest_invalid_url"},
	} {
		look, err := c.Put(row.url, nil).(*upload).Look(t.Context())
		e, _ := errors.AsType[*storage.Error](err)
		switch {
		case row.code == "" && (err != nil || look.Checked):
			t.Errorf("%s: %+v, %v", row.url, look, err)
		case row.code != "" && (e == nil || e.Code != row.code):
			t.Errorf("%s: %v, want %s", row.url, err, row.code)
		}
	}
}
