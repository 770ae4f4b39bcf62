package uploads

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(miniotest.Main(m)) }

const (
	org     protocol.OrgID     = "ORG-a"
	sandbox protocol.SandboxID = "sb.1"
	small   int64              = 64 << 10 // bytes of a part in tests that send many
	patient                    = 4 * time.Minute
)

// batches is a queue whose batches end when the test says so.
type batches struct {
	mu       sync.Mutex
	order    []Publication
	ended    map[protocol.BatchID]protocol.Receipt
	canceled []protocol.BatchID
	down     error
	missed   func(protocol.BatchID) // what happens after a cancellation that came before its batch; nil: nothing
	cancel   func(protocol.BatchID) // what a cancellation does; nil: nothing
}

func newBatches() *batches { return &batches{ended: map[protocol.BatchID]protocol.Receipt{}} }

func (b *batches) has(id protocol.BatchID) bool {
	return slices.ContainsFunc(b.order, func(p Publication) bool { return p.Batch == id })
}

func (b *batches) Submit(_ context.Context, p Publication) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.down != nil {
		return b.down
	}
	if !b.has(p.Batch) {
		b.order = append(b.order, p)
	}
	return nil
}

func (b *batches) Outcome(_ context.Context, _ protocol.OrgID, id protocol.BatchID) (protocol.Receipt, bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.has(id) {
		return protocol.Receipt{}, false, ErrNoBatch
	}
	receipt, ended := b.ended[id]
	return receipt, ended, nil
}

func (b *batches) Cancel(_ context.Context, _ protocol.OrgID, id protocol.BatchID) error {
	b.mu.Lock()
	if !b.has(id) {
		missed := b.missed
		b.mu.Unlock()
		if missed != nil {
			missed(id)
		}
		return ErrNoBatch
	}
	b.canceled = append(b.canceled, id)
	cancel := b.cancel
	b.mu.Unlock()
	if cancel != nil {
		cancel(id)
	}
	return nil
}

func (b *batches) end(id protocol.BatchID, receipt protocol.Receipt) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended[id] = receipt
}

func (b *batches) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down = err
}

func (b *batches) submitted() []Publication {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.order)
}

// stage is the sessions on a real broker, with a fold that does what the aggregator does, a staging storage in memory, and a clock.
type stage struct {
	*testing.T

	conn   *broker.Conn
	bucket *broker.Bucket
	shelf  *shelf
	queue  *batches
	svc    *Service

	clock sync.Mutex
	ahead time.Duration

	folding sync.Mutex    // held: nothing is folded
	arrived chan struct{} // news came to be folded
}

func newStage(t *testing.T, cfg Config) *stage {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	server, err := broker.StartServer(broker.ServerConfig{Dir: t.TempDir(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	conn, err := broker.Connect(broker.Config{Server: server, Name: t.Name(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	if err := conn.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := &stage{T: t, conn: conn, shelf: newShelf(), queue: newBatches(), arrived: make(chan struct{}, 1)}
	if s.bucket, err = conn.Bucket(t.Context(), broker.UploadBucket); err != nil {
		t.Fatal(err)
	}
	s.svc = s.open(cfg)
	s.fold()
	return s
}

// open makes another front on the same broker and storage.
func (s *stage) open(cfg Config) *Service {
	s.Helper()
	cfg.Logger = slog.New(slog.DiscardHandler)
	svc, err := New(s.Context(), cfg, s.conn, s.shelf, s.queue)
	if err != nil {
		s.Fatal(err)
	}
	svc.smallest, svc.now = small, s.now
	svc.theirs = func(context.Context) (time.Time, error) { return s.now(), nil }
	return svc
}

func (s *stage) now() time.Time {
	s.clock.Lock()
	defer s.clock.Unlock()
	return time.Now().Add(s.ahead).UTC().Round(0)
}

func (s *stage) pass(d time.Duration) {
	s.clock.Lock()
	defer s.clock.Unlock()
	s.ahead += d
}

// fold keeps the news of parts, until the end of the test.
func (s *stage) fold() {
	s.Helper()
	reader, err := s.conn.Reports(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	ctx, stop := context.WithCancel(s.Context())
	var folding sync.WaitGroup
	folding.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case b := <-reader.Bundles():
				if err := s.foldBundle(ctx, b); err != nil && ctx.Err() == nil {
					s.Errorf("fold: %v", err)
				}
			}
		}
	})
	s.Cleanup(func() { stop(); folding.Wait(); reader.Close() })
}

func (s *stage) foldBundle(ctx context.Context, b broker.Bundle) error {
	select {
	case s.arrived <- struct{}{}:
	default:
	}
	s.folding.Lock()
	defer s.folding.Unlock()
	var bundle protocol.ReportBundle
	if err := json.Unmarshal(b.Data, &bundle); err != nil {
		return err //nolint:wrapcheck // a test
	}
	for i := range bundle.Uploads {
		if err := s.foldReport(ctx, &bundle.Uploads[i]); err != nil {
			return err
		}
	}
	return b.Done() //nolint:wrapcheck // a test
}

func (s *stage) foldReport(ctx context.Context, r *protocol.UploadReport) error {
	var u protocol.Upload
	if _, err := s.load(ctx, protocol.UploadSessionKey(r.Org, r.Sandbox, r.Upload), &u); err != nil {
		return err
	}
	if u.Multipart != r.Multipart || u.State.Final() {
		return nil
	}
	page := protocol.UploadPage{Version: protocol.UploadVersion, Multipart: r.Multipart}
	pageKey := protocol.UploadPageKey(r.Org, r.Sandbox, r.Upload, r.Part.Number/protocol.PageSize)
	pageRevision, err := s.load(ctx, pageKey, &page)
	if err != nil {
		return err
	}
	var progress protocol.UploadProgress
	progressKey := protocol.UploadProgressKey(r.Org, r.Sandbox, r.Upload)
	progressRevision, err := s.load(ctx, progressKey, &progress)
	if err != nil {
		return err
	}
	at, found := slices.BinarySearchFunc(page.Parts, r.Part.Number, func(p protocol.UploadPart, n int) int { return p.Number - n })
	switch {
	case !found:
		page.Parts = slices.Insert(page.Parts, at, r.Part)
	case r.Part.Stored.Before(page.Parts[at].Stored):
		return nil
	default:
		page.Parts[at] = r.Part
	}
	progress.Set(r.Part.Number, !r.Part.Lost)
	progress.Updated = r.Part.Stored
	pageChange, err := changeOf(pageKey, page, pageRevision)
	if err != nil {
		return err
	}
	progressChange, err := changeOf(progressKey, progress, progressRevision)
	if err != nil {
		return err
	}
	if _, err := s.bucket.Commit(ctx, []broker.Change{pageChange, progressChange}); err != nil {
		return err //nolint:wrapcheck // a test
	}
	return s.conn.UploadChanged(r.Org, r.Sandbox, r.Upload) //nolint:wrapcheck // a test
}

func (s *stage) load(ctx context.Context, key string, into any) (uint64, error) {
	entry, err := s.bucket.Get(ctx, key)
	if errors.Is(err, broker.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err //nolint:wrapcheck // a test
	}
	return entry.Revision, json.Unmarshal(entry.Value, into)
}

// lose tells that the store does not have a part, as a worker does, and waits until that is known.
func (s *stage) lose(session *Session, number int) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), patient)
	defer cancel()
	err := s.conn.PublishUpload(ctx, "worker", protocol.UploadReport{
		Org: session.Org, Sandbox: session.Sandbox, Upload: session.ID, Multipart: session.Multipart,
		Part: protocol.UploadPart{Number: number, Lost: true, Stored: s.now()},
	})
	if err != nil {
		s.Fatal(err)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		got, err := s.svc.Show(ctx, name(session))
		if err != nil {
			s.Fatal(err)
		}
		if slices.ContainsFunc(got.Missing, func(r Range) bool { return r.First <= number && number <= r.Last }) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.Fatalf("part %d is never missing", number)
		}
	}
}

// reserved is what the quota says.
func (s *stage) reserved(box protocol.SandboxID) (sessions int, sum int64) {
	s.Helper()
	q, _, err := s.svc.readQuota(s.Context(), org, box)
	if err != nil {
		s.Fatal(err)
	}
	return len(q.Reserved), q.Sum()
}

func (s *stage) create(r Request) *Session {
	s.Helper()
	session, err := s.svc.Create(s.Context(), r)
	if err != nil {
		s.Fatal(err)
	}
	return session
}

func (s *stage) put(session *Session, number int, data []byte) *Session {
	s.Helper()
	got, err := s.svc.PutPart(s.Context(), name(session), partOf(number, data))
	if err != nil {
		s.Fatal(err)
	}
	return got
}

func (s *stage) show(session *Session) *Session {
	s.Helper()
	got, err := s.svc.Show(s.Context(), name(session))
	if err != nil {
		s.Fatal(err)
	}
	return got
}

func (s *stage) complete(session *Session) *Session {
	s.Helper()
	got, err := s.svc.Complete(s.Context(), name(session), "", "")
	if err != nil {
		s.Fatal(err)
	}
	return got
}

// sweep makes passes until there is nothing to do.
func (s *stage) sweep() {
	s.Helper()
	for range 3 {
		if _, err := s.svc.sweep(s.Context()); err != nil {
			s.Fatal(err)
		}
	}
}

func request(key string, length int64) Request {
	return Request{
		Org: org, Sandbox: sandbox, Pool: protocol.DefaultPool, Key: key, Kind: protocol.UploadFile, Source: protocol.UploadRestartable,
		TargetPath: "/workspace/file", Length: length, Conflict: protocol.UploadReplace,
	}
}

func name(s *Session) Name { return Name{Org: s.Org, Sandbox: s.Sandbox, ID: s.ID} }

func partOf(number int, data []byte) Part {
	return Part{Number: number, Length: int64(len(data)), SHA256: sha(data), Body: bytes.NewReader(data)}
}

func sha(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// content is so many bytes, another one for another seed.
func content(seed byte, size int64) []byte {
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i*7) + seed
	}
	return data
}

// wantRefused fails unless err is a refusal with that code.
func wantRefused(t *testing.T, err error, code string) *Refusal {
	t.Helper()
	refusal, ok := errors.AsType[*Refusal](err)
	if !ok || refusal.Code != code {
		t.Fatalf("the answer is %v, want the refusal %s", err, code)
	}
	return refusal
}
