package mixtest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Peer is an HTTP server outside the fleet: it gives files and takes uploads.
type Peer struct {
	URL string

	closing chan struct{}
	fails   atomic.Bool

	mu    sync.Mutex
	files map[string]file
	asked map[string]int
	taken map[string][][]byte // whole uploads only, by path
}

type file struct {
	content []byte
	gate    <-chan struct{}
	whole   bool // nothing is answered before the gate is open
	busy    int  // requests that are answered 503 first
	delay   time.Duration
	pieces  int // into which it is cut; each comes that much later
}

// NewPeer starts a peer that ends with the test.
func NewPeer(t testing.TB) *Peer {
	t.Helper()
	p := &Peer{closing: make(chan struct{}), files: map[string]file{}, asked: map[string]int{}, taken: map[string][][]byte{}}
	server := httptest.NewServer(p)
	p.URL = server.URL
	t.Cleanup(func() {
		close(p.closing)
		server.CloseClientConnections()
		server.Close()
	})
	return p
}

// Give serves content under a path and returns its URL.
func (p *Peer) Give(path string, content []byte) string { return p.give(path, file{content: content}) }

// GiveHalf is Give, except that a request gets the second half only once gate is closed. Requests that began before
// another Give or GiveHalf of the path go on with what they began with.
func (p *Peer) GiveHalf(path string, content []byte, gate <-chan struct{}) string {
	return p.give(path, file{content: content, gate: gate})
}

// GiveAfter is Give, except that the first n requests are answered 503.
func (p *Peer) GiveAfter(path string, content []byte, n int) string {
	return p.give(path, file{content: content, busy: n})
}

// GiveSlowly is Give, except that each request is answered so much later.
func (p *Peer) GiveSlowly(path string, content []byte, delay time.Duration) string {
	return p.give(path, file{content: content, delay: delay})
}

// GiveLate is Give, except that a request has no answer until gate is closed.
func (p *Peer) GiveLate(path string, content []byte, gate <-chan struct{}) string {
	return p.give(path, file{content: content, gate: gate, whole: true})
}

// GiveInPieces is Give, except that the content comes in so many pieces, with a pause before each.
func (p *Peer) GiveInPieces(path string, content []byte, pieces int, pause time.Duration) string {
	return p.give(path, file{content: content, pieces: pieces, delay: pause})
}

func (p *Peer) give(path string, f file) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.files[path] = f
	return p.URL + path
}

// Fail has every request answered 503 from now on, or no longer.
func (p *Peer) Fail(yes bool) { p.fails.Store(yes) }

// Asked is how many times a path was requested.
func (p *Peer) Asked(path string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked[path]
}

// AskedBelow is how many requests the paths with a prefix had.
func (p *Peer) AskedBelow(prefix string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	sum := 0
	for path, n := range p.asked {
		if strings.HasPrefix(path, prefix) {
			sum += n
		}
	}
	return sum
}

// Taken returns the whole uploads to a path, oldest first.
func (p *Peer) Taken(path string) [][]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken[path]
}

// ServeHTTP implements http.Handler.
func (p *Peer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPut {
		p.take(w, r)
		return
	}
	p.mu.Lock()
	p.asked[r.URL.Path]++
	f, found := p.files[r.URL.Path]
	if f.busy > 0 {
		p.files[r.URL.Path] = file{content: f.content, gate: f.gate, busy: f.busy - 1}
	}
	p.mu.Unlock()
	if p.fails.Load() {
		http.Error(w, "out of order", http.StatusServiceUnavailable)
		return
	}
	if !found {
		http.NotFound(w, r)
		return
	}
	if f.delay > 0 && !p.wait(r, f.delay) {
		return
	}
	if f.busy > 0 {
		http.Error(w, "busy", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(f.content)))
	half := len(f.content) / 2
	if f.gate != nil {
		if f.whole {
			half = 0
		} else {
			_, _ = w.Write(f.content[:half]) // a reader that is gone shows in the second half
			_ = http.NewResponseController(w).Flush()
		}
		select {
		case <-f.gate:
		case <-r.Context().Done():
			return
		case <-p.closing:
			return
		}
		f.content = f.content[half:]
	}
	for ; f.pieces > 1 && p.wait(r, f.delay); f.pieces-- {
		n := len(f.content) / f.pieces
		_, _ = w.Write(f.content[:n])
		_ = http.NewResponseController(w).Flush()
		f.content = f.content[n:]
	}
	_, _ = w.Write(f.content) // a reader that is gone does not want it
}

// wait returns false if the request ended before its time.
func (p *Peer) wait(r *http.Request, delay time.Duration) bool {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
	case <-p.closing:
	}
	return false
}

// take keeps an upload if all that was announced came.
func (p *Peer) take(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || r.ContentLength != int64(len(body)) {
		http.Error(w, "not whole", http.StatusBadRequest)
		return
	}
	p.mu.Lock()
	p.taken[r.URL.Path] = append(p.taken[r.URL.Path], body)
	p.mu.Unlock()
	w.Header().Set("ETag", `"`+strconv.Itoa(len(body))+`"`)
}
