package producer

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/copyfleet/copyfleet/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memoryRecords is a KV bucket in a map. It keeps to the contract of [Records] that a JetStream bucket has:
// changes come through the watch, in order, after the write has returned or before.
type memoryRecords struct {
	mu       sync.Mutex
	values   map[string][]byte
	watchers map[chan Record]bool
	creates  int
	fail     error // what every write returns
}

func newMemoryRecords() *memoryRecords {
	return &memoryRecords{values: map[string][]byte{}, watchers: map[chan Record]bool{}}
}

func (m *memoryRecords) write(rec Record) error {
	if m.fail != nil {
		return m.fail
	}
	if rec.Deleted {
		delete(m.values, rec.Key)
	} else {
		m.values[rec.Key] = rec.Value
	}
	for ch := range m.watchers {
		ch <- rec
	}
	return nil
}

func (m *memoryRecords) Put(_ context.Context, key string, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.write(Record{Key: key, Value: value})
}

func (m *memoryRecords) Create(_ context.Context, key string, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.values[key]; ok {
		return ErrExists
	}
	m.creates++
	return m.write(Record{Key: key, Value: value})
}

func (m *memoryRecords) Delete(_ context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.write(Record{Key: key, Deleted: true})
}

func (m *memoryRecords) Watch(ctx context.Context) (<-chan Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ch := make(chan Record, 10_000) // more than any test writes: a write never blocks
	for _, key := range slices.Sorted(maps.Keys(m.values)) {
		ch <- Record{Key: key, Value: m.values[key]}
	}
	ch <- Record{Current: true}
	m.watchers[ch] = true
	context.AfterFunc(ctx, func() { m.stop(ch) })
	return ch, nil
}

func (m *memoryRecords) stop(ch chan Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.watchers[ch] {
		delete(m.watchers, ch)
		close(ch)
	}
}

// breakWatches ends every watch, as a lost connection does.
func (m *memoryRecords) breakWatches() {
	m.mu.Lock()
	broken := slices.Collect(maps.Keys(m.watchers))
	m.mu.Unlock()
	for _, ch := range broken {
		m.stop(ch)
	}
}

// signer notes what it was asked for.
type signer struct {
	asked []PresignRequest
	err   error
}

func (s *signer) Presign(_ context.Context, req PresignRequest) (Presigned, error) {
	s.asked = append(s.asked, req)
	if s.err != nil {
		return Presigned{}, s.err
	}
	out := Presigned{
		Method: req.Method, URL: "https://s3.test/" + req.Bucket + "/" + req.Key + "?X-Amz-Signature=s3cret",
		ExpiresAt: time.Now().Add(req.Expires),
	}
	if req.Method == http.MethodPost {
		out.Form = map[string]string{"policy": "p"}
	}
	return out, nil
}

type checks []Check

func (c *checks) Ready(context.Context) []Check { return *c }

// bundle is a front on a real socket with its neighbors, and a key of each role for two orgs.
type bundle struct {
	*testing.T
	url      string
	client   *http.Client
	server   *Server
	registry *Registry
	records  *memoryRecords
	signer   *signer
	health   *checks
	log      *lockedBuffer
	keys     map[string]string // by "org/role"
}

// lockedBuffer is a log that may be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newBundle(t *testing.T, cfg Config) *bundle {
	t.Helper()
	b := &bundle{T: t, records: newMemoryRecords(), signer: &signer{}, health: &checks{{Name: "queue", OK: true}}, log: &lockedBuffer{}, keys: map[string]string{}}
	cfg.Logger = slog.New(slog.NewJSONHandler(b.log, nil))
	ctx, cancel := context.WithCancel(t.Context())
	registry, err := NewRegistry(ctx, b.records, cfg.Logger)
	if err != nil {
		t.Fatal(err)
	}
	b.registry = registry
	t.Cleanup(func() { cancel(); registry.Wait() })
	// No test with this bundle gets as far as the queue: it would panic, which is a 500.
	b.server, err = New(cfg, Dependencies{Pipeline: &Pipeline{}, Registry: registry, Presigner: b.signer, Health: b.health})
	if err != nil {
		t.Fatal(err)
	}
	for _, org := range []protocol.OrgID{"one", "two"} {
		for _, role := range []Role{RoleRead, RoleCopy, RoleAdmin} {
			b.keys[string(org)+"/"+string(role)] = b.addKey(org, role)
		}
	}
	b.serve(b.server.Handler())
	return b
}

func (b *bundle) addKey(org protocol.OrgID, role Role) string {
	b.Helper()
	key := NewAPIKey()
	if _, err := b.registry.AddKey(b.Context(), key, org, role, ""); err != nil {
		b.Fatal(err)
	}
	return key
}

func (b *bundle) serve(h http.Handler) {
	srv := httptest.NewServer(h)
	b.url, b.client = srv.URL, srv.Client()
	b.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	b.Cleanup(srv.Close)
}

// answer is a response, read.
type answer struct {
	*testing.T
	status int
	header http.Header
	body   []byte
}

// call makes a call as who ("one/copy", "" for nobody), with more headers in pairs.
func (b *bundle) call(who, method, path, body string, header ...string) answer {
	b.Helper()
	var src io.Reader = http.NoBody
	if body != "" {
		src = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(b.Context(), method, b.url+path, src)
	if err != nil {
		b.Fatal(err)
	}
	if who != "" {
		req.Header.Set("Authorization", "Bearer "+b.keys[who])
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := b.client.Do(req)
	if err != nil {
		b.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		b.Fatalf("%s %s: read answer: %v", method, path, err)
	}
	return answer{b.T, resp.StatusCode, resp.Header, got}
}

// want fails unless the answer has that status and, for a problem, that code.
func (a answer) want(status int, code Code) answer {
	a.Helper()
	if a.status != status {
		a.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	if code == "" {
		return a
	}
	if got := a.problem(); got.Code != code || got.Status != status {
		a.Fatalf("problem %s %d, want %s %d", got.Code, got.Status, code, status)
	}
	return a
}

func (a answer) problem() Problem {
	a.Helper()
	if got := a.header.Get("Content-Type"); got != "application/problem+json" {
		a.Fatalf("content type %q: %s", got, a.body)
	}
	return decode[Problem](a)
}

func decode[T any](a answer) T {
	a.Helper()
	var v T
	if err := json.Unmarshal(a.body, &v); err != nil {
		a.Fatalf("decode %s: %v", a.body, err)
	}
	return v
}
