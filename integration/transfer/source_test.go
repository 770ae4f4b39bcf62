package transfer

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// content is bytes that follow from a seed and their place, so that they need no memory. Those of seed 0 are zeros.
type content struct {
	seed uint64
	size int64
}

const word = 8

// ReadAt implements io.ReaderAt.
func (c content) ReadAt(p []byte, off int64) (int, error) {
	n := int(max(min(int64(len(p)), c.size-off), 0))
	if c.seed == 0 {
		clear(p[:n])
	}
	for i := 0; c.seed != 0 && i < n; {
		at := off + int64(i)
		x := uint64(at/word) + c.seed*0x9e3779b97f4a7c15
		x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
		x = (x ^ x>>27) * 0x94d049bb133111eb
		var b [word]byte
		binary.LittleEndian.PutUint64(b[:], x^x>>31)
		i += copy(p[i:n], b[at%word:])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (c content) reader() io.Reader { return io.NewSectionReader(c, 0, c.size) }

var digests sync.Map // of contents, each computed once

func (c content) sha256() string {
	once, _ := digests.LoadOrStore(c, sync.OnceValue(func() string { return digest(c.reader()) }))
	f, _ := once.(func() string)
	return f()
}

func digest(r io.Reader) string {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return err.Error()
	}
	return hex.EncodeToString(h.Sum(nil))
}

// served is a file of a [source].
type served struct {
	content content
	etag    string
	rate    int64 // bytes a second on each connection; 0: as fast as it goes
	whole   bool  // it is given as a whole only
	cut     int   // requests of which only the first half is given first

	// What lies at that offset and behind it is given only once gate is closed.
	holdAt int64
	gate   <-chan struct{}

	given    *atomic.Int64 // bytes, on all connections
	asked    *atomic.Int64 // requests
	running  *atomic.Int64 // requests at the moment
	together *atomic.Int64 // most of them at once
}

// source is an HTTP server that counts what it gives. It is two hosts, so that what one of them holds back takes no place at the other.
type source struct {
	URL, second string

	closing chan struct{}
	mu      sync.Mutex
	files   map[string]served
}

func newSource(t testing.TB) *source {
	t.Helper()
	s := &source{closing: make(chan struct{}), files: map[string]served{}}
	server, second := httptest.NewServer(s), httptest.NewServer(s)
	s.URL, s.second = server.URL, second.URL
	t.Cleanup(func() {
		close(s.closing)
		for _, server := range []*httptest.Server{server, second} {
			server.CloseClientConnections()
			server.Close()
		}
	})
	return s
}

// give serves a file and returns it, with its counters. They go on if a path is given again.
func (s *source) give(path string, f served) served {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.etag == "" {
		f.etag = fmt.Sprintf(`"%d-%d"`, f.content.seed, f.content.size)
	}
	if old, known := s.files[path]; known {
		f.given, f.asked, f.running, f.together = old.given, old.asked, old.running, old.together
	} else {
		f.given, f.asked, f.running, f.together = &atomic.Int64{}, &atomic.Int64{}, &atomic.Int64{}, &atomic.Int64{}
	}
	s.files[path] = f
	return f
}

// ServeHTTP implements http.Handler.
func (s *source) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	f, found := s.files[r.URL.Path]
	if found && r.Method == http.MethodGet {
		f.asked.Add(1)
		if f.cut > 0 {
			less := f
			less.cut--
			s.files[r.URL.Path] = less
		}
	}
	s.mu.Unlock()
	if !found {
		http.NotFound(w, r)
		return
	}
	now := f.running.Add(1)
	defer f.running.Add(-1)
	for most := f.together.Load(); now > most && !f.together.CompareAndSwap(most, now); most = f.together.Load() {
	}
	w.Header().Set("ETag", f.etag)
	w.Header().Set("Content-Type", "application/octet-stream")
	out := &slow{ResponseWriter: w, f: f, ctx: r.Context(), closing: s.closing, begun: time.Now()}
	if f.whole {
		w.Header().Set("Content-Length", fmt.Sprint(f.content.size))
		if r.Method == http.MethodGet && f.cut > 0 {
			_, _ = io.CopyN(out, f.content.reader(), f.content.size/2)
			panic(http.ErrAbortHandler)
		}
		if r.Method == http.MethodGet {
			_, _ = io.Copy(out, f.content.reader()) // a reader that is gone does not want it
		}
		return
	}
	http.ServeContent(out, r, "", time.Time{}, io.NewSectionReader(f.content, 0, f.content.size))
}

// slow writes no faster than its file allows, and counts.
type slow struct {
	http.ResponseWriter

	f       served
	ctx     context.Context //nolint:containedctx // of the request that this answers
	closing <-chan struct{}
	begun   time.Time
	written int64 // since then
	at      int64 // in the file
}

// WriteHeader implements http.ResponseWriter.
func (s *slow) WriteHeader(status int) {
	if status == http.StatusPartialContent {
		_, _ = fmt.Sscanf(s.Header().Get("Content-Range"), "bytes %d-", &s.at)
	}
	s.ResponseWriter.WriteHeader(status)
}

// Write implements io.Writer.
func (s *slow) Write(p []byte) (int, error) {
	if s.f.gate != nil && s.at+int64(len(p)) > s.f.holdAt {
		_ = http.NewResponseController(s.ResponseWriter).Flush()
		select {
		case <-s.f.gate:
			s.begun, s.written, s.f.gate = time.Now(), 0, nil
		case <-s.ctx.Done():
			return 0, s.ctx.Err()
		case <-s.closing:
			return 0, net.ErrClosed
		}
	}
	n, err := s.ResponseWriter.Write(p)
	s.f.given.Add(int64(n))
	s.written += int64(n)
	s.at += int64(n)
	if err != nil || s.f.rate == 0 {
		return n, err
	}
	timer := time.NewTimer(time.Until(s.begun.Add(time.Duration(float64(s.written) / float64(s.f.rate) * float64(time.Second)))))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.ctx.Done():
		return n, s.ctx.Err()
	case <-s.closing:
		return n, net.ErrClosed
	}
	return n, nil
}

// sink is an HTTP server that takes uploads and keeps their digests only.
type sink struct {
	URL string

	mu    sync.Mutex
	busy  map[string]int  // uploads that are answered 503 first, by path
	blind map[string]bool // paths whose uploads are only counted
	taken map[string][]arrival
}

// arrival is an upload that came whole.
type arrival struct {
	size   int64
	sha256 string
}

func newSink(t testing.TB) *sink {
	t.Helper()
	s := &sink{busy: map[string]int{}, blind: map[string]bool{}, taken: map[string][]arrival{}}
	server := httptest.NewServer(s)
	s.URL = server.URL
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return s
}

// refuse has the next n uploads to a path read and then refused.
func (s *sink) refuse(path string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy[path] = n
}

// discard has uploads to a path counted only.
func (s *sink) discard(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blind[path] = true
}

func (s *sink) at(path string) []arrival {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken[path]
}

// ServeHTTP implements http.Handler.
func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := sha256.New()
	s.mu.Lock()
	blind := s.blind[r.URL.Path]
	s.mu.Unlock()
	into := io.Writer(h)
	if blind {
		into = io.Discard
	}
	n, err := s.read(into, r)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadRequest)
	case s.busy[r.URL.Path] > 0:
		s.busy[r.URL.Path]--
		http.Error(w, "busy", http.StatusServiceUnavailable)
	default:
		s.taken[r.URL.Path] = append(s.taken[r.URL.Path], arrival{n, hex.EncodeToString(h.Sum(nil))})
	}
}

func (s *sink) read(w io.Writer, r *http.Request) (int64, error) {
	if r.Method == http.MethodPut {
		return io.Copy(w, r.Body)
	}
	form, err := r.MultipartReader()
	if err != nil {
		return 0, err
	}
	for {
		part, err := form.NextPart()
		if err != nil {
			return 0, err
		}
		if part.FormName() == "file" {
			return io.Copy(w, part)
		}
	}
}
