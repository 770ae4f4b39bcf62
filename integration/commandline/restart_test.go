package commandline

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
)

// A wait outlives the fleet: it is killed and started again on what it left, and the wait goes on to the end.
func TestWatchOutlivesKill(t *testing.T) {
	t.Parallel()
	f := mixtest.NewUp(t)
	first := f.Start(t, "up")
	gate := make(chan struct{})
	manifest := small(f, "kill", 20) + item(f, "slow", f.GiveHalf("/slow", []byte("slow but whole"), gate), "/slow.bin")
	wait := started(t, f, nil, "submit", file(t, "m.ndjson", manifest))
	wait.says(t, "running")
	first.Kill9(t)
	wait.says(t, "does not answer")
	close(gate)
	f.Start(t, "up")
	if code := wait.exit(t); code != allSucceeded || !strings.Contains(wait.stdout.String(), "21 succeeded") {
		t.Errorf("ended with %d\n%s%s", code, wait.stdout.String(), wait.stderr.String())
	}
	arrived(t, f, "kill", 20)
}

// breaker stands between a command and the fleet, and breaks the first uploads off.
type breaker struct {
	*httputil.ReverseProxy

	breaks atomic.Int32 // how many are still to be broken off
	after  bool         // the whole of it has arrived: only the answer is lost
	tries  atomic.Int32
}

func newBreaker(t *testing.T, f *mixtest.Fleet, breaks int32, after bool) (*breaker, string) {
	t.Helper()
	target, err := url.Parse(f.API.URL)
	if err != nil {
		t.Fatal(err)
	}
	b := &breaker{ReverseProxy: httputil.NewSingleHostReverseProxy(target), after: after}
	b.FlushInterval = -1
	transport := &http.Transport{DisableKeepAlives: true}
	b.Transport = transport
	b.breaks.Store(breaks)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: b}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close(); <-done; transport.CloseIdleConnections() })
	return b, "http://" + listener.Addr().String()
}

func (b *breaker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		b.ReverseProxy.ServeHTTP(w, r)
		return
	}
	b.tries.Add(1)
	if b.breaks.Add(-1) < 0 {
		b.ReverseProxy.ServeHTTP(w, r)
		return
	}
	if b.after {
		b.ReverseProxy.ServeHTTP(&deaf{}, r)
	} else {
		_, _ = io.CopyN(io.Discard, r.Body, 40<<10)
	}
	panic(http.ErrAbortHandler)
}

// deaf loses an answer.
type deaf struct{ header http.Header }

func (d *deaf) Header() http.Header {
	if d.header == nil {
		d.header = http.Header{}
	}
	return d.header
}
func (*deaf) Write(p []byte) (int, error) { return len(p), nil }
func (*deaf) WriteHeader(int)             {}

// An upload whose connection breaks, in the middle or just before the answer, is sent again and makes one batch.
func TestUploadBreaks(t *testing.T) {
	t.Parallel()
	f := up(t)
	for _, after := range []bool{false, true} {
		name := fmt.Sprintf("breaks-%v", after)
		manifest := small(f, name, 1000)
		b, proxy := newBreaker(t, f, 2, after)
		out := f.Command(t, nil, "submit", "--url", proxy, file(t, "m.ndjson", manifest), "--label", name)
		if out.Exit != allSucceeded || b.tries.Load() != 3 || !strings.Contains(out.Stderr, "trying again") {
			t.Fatalf("after %d tries it ended with %d\n%s%s", b.tries.Load(), out.Exit, out.Stdout, out.Stderr)
		}
		arrived(t, f, name, 1000)
		list := objects(t, expect(t, f, allSucceeded, "list", "--label", name, "--json").Stdout)
		if last := list[len(list)-1]; last["count"] != 1.0 {
			t.Errorf("there are %v batches", last["count"])
		}
	}
}
