package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeUploads is the API of one upload session, with parts so small that a test has many. What it does wrong is said by its hooks.
type fakeUploads struct {
	*httptest.Server

	mu        sync.Mutex
	partSize  int64
	most      int
	request   map[string]any
	key       string
	keys      []string
	parts     map[int][]byte
	puts      map[int]int
	atOnce    int
	peak      int
	status    string
	published []byte
	completes int
	deleted   bool

	put      func(w http.ResponseWriter, r *http.Request, n, try int) bool // true: it has answered
	create   func(w http.ResponseWriter, try int) bool
	complete func(w http.ResponseWriter, try int) bool
}

const fakeID = "upl_00000000000000000000000000"

func newFakeUploads(t *testing.T) *fakeUploads {
	t.Helper()
	f := &fakeUploads{partSize: 1000, most: 8, parts: map[int][]byte{}, puts: map[int]int{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/sandboxes/SBX-1/uploads", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"sessions":[]}`) })
	mux.HandleFunc("POST /v1/sandboxes/SBX-1/uploads", f.serveCreate)
	mux.HandleFunc("GET /v1/sandboxes/SBX-1/uploads/"+fakeID, func(w http.ResponseWriter, _ *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.answer(w, http.StatusOK, f.session())
	})
	mux.HandleFunc("PUT /v1/sandboxes/SBX-1/uploads/"+fakeID+"/parts/{n}", f.servePart)
	mux.HandleFunc("POST /v1/sandboxes/SBX-1/uploads/"+fakeID+"/complete", f.serveComplete)
	mux.HandleFunc("DELETE /v1/sandboxes/SBX-1/uploads/"+fakeID, func(w http.ResponseWriter, _ *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.deleted, f.status = true, statusAborted
		f.answer(w, http.StatusOK, f.session())
	})
	f.Server = httptest.NewServer(mux)
	t.Cleanup(f.Close)
	return f
}

func (f *fakeUploads) answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func (f *fakeUploads) refuse(w http.ResponseWriter, status int, code string) {
	f.answer(w, status, map[string]any{"status": status, "code": code, "message": "It is so."})
}

func (f *fakeUploads) length() int64 { return int64(f.request["content_length"].(float64)) }

func (f *fakeUploads) count() int { return int((f.length() + f.partSize - 1) / f.partSize) }

func (f *fakeUploads) session() map[string]any {
	var accepted int64
	missing := []partRange{}
	for n := range f.count() {
		if part, ok := f.parts[n]; ok {
			accepted += int64(len(part))
		} else if last := len(missing) - 1; last >= 0 && missing[last].Last == n-1 {
			missing[last].Last = n
		} else if len(missing) < 2 { // as an API that does not list them all
			missing = append(missing, partRange{n, n})
		}
	}
	s := map[string]any{
		"upload_id": fakeID, "accepted_bytes": accepted, "part_size": f.partSize, "part_count": f.count(), "max_concurrency": f.most,
		"status": f.status, "missing_parts": missing, "expires_at": time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC),
	}
	maps.Copy(s, f.request)
	s["target_path"] = protocolPath(f.request["target_path"].(string))
	if f.status == statusCompleted {
		s["published_bytes"], s["published_file_count"] = len(f.published), 1
	}
	return s
}

func (f *fakeUploads) serveCreate(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := r.Header.Get("Idempotency-Key")
	f.keys = append(f.keys, key)
	if f.request == nil {
		f.request, f.status, f.key = map[string]any{}, "created", key
		_ = json.NewDecoder(r.Body).Decode(&f.request)
	}
	if f.create != nil && f.create(w, len(f.keys)) {
		return
	}
	f.answer(w, http.StatusCreated, map[string]any{"session": f.session()})
}

func (f *fakeUploads) servePart(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.PathValue("n"))
	f.mu.Lock()
	f.puts[n]++
	try, hook := f.puts[n], f.put
	f.atOnce++
	f.peak = max(f.peak, f.atOnce)
	f.mu.Unlock()
	defer func() { f.mu.Lock(); f.atOnce--; f.mu.Unlock() }()
	if hook != nil && hook(w, r, n, try) {
		return
	}
	body, _ := io.ReadAll(r.Body)
	sum := sha256.Sum256(body)
	f.mu.Lock()
	defer f.mu.Unlock()
	want := min(f.partSize, f.length()-int64(n)*f.partSize)
	switch {
	case err != nil || int64(len(body)) != want || r.Header.Get("Expect") != "100-continue":
		f.refuse(w, http.StatusBadRequest, "part_length_wrong")
	case r.Header.Get("X-Checksum-Sha256") != hex.EncodeToString(sum[:]):
		f.refuse(w, http.StatusUnprocessableEntity, "part_checksum_mismatch")
	default:
		f.parts[n], f.status = body, "uploading"
		f.answer(w, http.StatusOK, f.session())
	}
}

func (f *fakeUploads) serveComplete(w http.ResponseWriter, _ *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.completes++
	if f.complete != nil && f.complete(w, f.completes) {
		return
	}
	if len(f.parts) != f.count() {
		f.refuse(w, http.StatusConflict, "upload_parts_missing")
		return
	}
	f.publish()
	f.answer(w, http.StatusOK, map[string]any{"session": f.session(), "published_bytes": len(f.published), "published_file_count": 1})
}

func (f *fakeUploads) publish() {
	var whole bytes.Buffer
	for n := range f.count() {
		whole.Write(f.parts[n])
	}
	f.published, f.status = whole.Bytes(), statusCompleted
}

// sends runs the command against the fake.
func (f *fakeUploads) sends(t *testing.T, args ...string) (exit int, stdout, stderr string) {
	t.Helper()
	args = append([]string{"upload", "--url", f.URL, "--api-key", "k"}, args...)
	exit, stdout, stderr = command(t, args...)
	t.Logf("copyfleet %s\n%d\n%s%s", strings.Join(args, " "), exit, stdout, stderr)
	return exit, stdout, stderr
}

// set changes how the fake behaves, between two commands.
func (f *fakeUploads) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// tries is how often a part was sent.
func (f *fakeUploads) tries(n int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.puts[n]
}

// want holds what was published to what should be.
func (f *fakeUploads) want(t *testing.T, content []byte) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.status != statusCompleted || !bytes.Equal(f.published, content) {
		t.Errorf("the upload is %s, with %d bytes of %d", f.status, len(f.published), len(content))
	}
}

// content is n bytes of which no two parts are alike.
func content(n int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		_, _ = fmt.Fprintf(&b, "%d,", i)
	}
	return b.Bytes()[:n]
}
