package httpstore

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/egress"
)

// noticeClient dials loopback and nothing else that is not public.
func noticeClient(t *testing.T, limit time.Duration) *Client {
	t.Helper()
	c := NewClient(Options{Guard: egress.New([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}), UserAgent: "copyfleet/test"})
	c.noticeLimit = limit
	t.Cleanup(c.Close)
	return c
}

func listen(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}

func TestNotifySends(t *testing.T) {
	t.Parallel()
	seen := make(chan *http.Request, 1)
	body := make(chan string, 1)
	url := listen(t, func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		seen <- r
		body <- string(data)
		w.WriteHeader(http.StatusAccepted)
	})
	answer, err := noticeClient(t, time.Minute).Notify(t.Context(), url+"/hook?k=v", map[string]string{"X-Test": "1"}, []byte("the news"))
	if err != nil || answer.Status != http.StatusAccepted {
		t.Fatalf("answer %+v, error %v", answer, err)
	}
	r := <-seen
	if r.Method != http.MethodPost || r.URL.String() != "/hook?k=v" || r.Header.Get("X-Test") != "1" || r.UserAgent() != "copyfleet/test" || <-body != "the news" {
		t.Errorf("it got %s %s %v", r.Method, r.URL, r.Header)
	}
}

// TestNotifyHostileReceivers: whatever a receiver does, a notice ends, and soon.
func TestNotifyHostileReceivers(t *testing.T) {
	t.Parallel()
	var followed atomic.Bool
	elsewhere := listen(t, func(http.ResponseWriter, *http.Request) { followed.Store(true) })
	forever := func(w http.ResponseWriter, r *http.Request) {
		block := []byte(strings.Repeat("x", 4096))
		for r.Context().Err() == nil {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	}
	for _, row := range []struct {
		name    string
		url     string // "": that of handler
		handler http.HandlerFunc
		class   storage.Class
		code    string // "": it is a success
		status  int
	}{
		{"hangs", "", func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body); <-r.Context().Done() }, storage.Timeout, "webhook_timeout", 0},
		{"streams for ever after a success", "", forever, 0, "", 200},
		{"streams for ever after a failure", "", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500); forever(w, r) }, storage.Unavailable, "webhook_http_500", 500},
		{"hangs after a failure", "", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(503)
			w.(http.Flusher).Flush()
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		}, storage.Unavailable, "webhook_http_503", 503},
		{"redirects to the cloud's metadata", "", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://169.254.169.254/latest/meta-data/", http.StatusTemporaryRedirect)
		}, storage.Invalid, "webhook_redirect", 307},
		{"redirects elsewhere", "", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere, http.StatusFound) }, storage.Invalid, "webhook_redirect", 302},
		{"is the cloud's metadata", "http://169.254.169.254/latest", nil, storage.ForbiddenAddress, "forbidden_address", 0},
		{"is private", "http://10.0.0.1/", nil, storage.ForbiddenAddress, "forbidden_address", 0},
		{"is no web address", "ftp://example.test/", nil, storage.Invalid, "webhook_invalid_url", 0},
		{"drops the connection", "", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, storage.Unavailable, "webhook_closed", 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			url := row.url
			if url == "" {
				url = listen(t, row.handler)
			}
			limit := time.Minute // for those that answer
			if row.code == "webhook_timeout" {
				limit = 2 * time.Second
			}
			answer, err := noticeClient(t, limit).Notify(t.Context(), url+"?token=s3cret", nil, []byte("{}"))
			if answer.Status != row.status || len(answer.Excerpt) > 1024 {
				t.Errorf("status %d with %d bytes, want %d", answer.Status, len(answer.Excerpt), row.status)
			}
			if row.code == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			e, ok := errors.AsType[*storage.Error](err)
			if !ok || e.Class != row.class || e.Code != row.code {
				t.Fatalf("error %v (%+v), want %s", err, e, row.code)
			}
			if strings.Contains(err.Error(), "s3cret") {
				t.Errorf("the error tells the token: %v", err)
			}
		})
	}
	t.Cleanup(func() {
		if followed.Load() {
			t.Error("a redirect was followed")
		}
	})
}
