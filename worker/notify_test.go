package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
)

// fleet is a broker on which workers of a bench run.
type fleet struct {
	*bench
	conn    *broker.Conn
	batches *broker.Bucket
	sealer  *protocol.Sealer
	log     *lockedLog
}

type lockedLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	srv, err := broker.StartServer(broker.ServerConfig{Dir: t.TempDir(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	conn, err := broker.Connect(broker.Config{Server: srv, Name: "notices", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	setUp(t, conn)
	f := &fleet{bench: newBench(t), conn: conn, log: &lockedLog{}}
	if f.batches, err = conn.Bucket(t.Context(), broker.BatchBucket); err != nil {
		t.Fatal(err)
	}
	if f.sealer, err = protocol.NewSealer(make([]byte, protocol.SealKeySize)); err != nil {
		t.Fatal(err)
	}
	return f
}

// work runs a worker until the end of the test.
func (f *fleet) work() *Worker {
	f.Helper()
	w, err := New(f.Context(), Config{ID: "w1", Slots: 4, SpoolDir: f.TempDir(), Logger: slog.New(slog.NewJSONHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug}))},
		f.conn, f.copier.drivers, f.sealer)
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	f.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			f.Error(err)
		}
	})
	return w
}

const noticeKey = "the secret of the webhook"

// ended stores a batch that has ended and wants its end told to a URL.
func (f *fleet) ended(url string) protocol.Acceptance {
	f.Helper()
	record := protocol.Acceptance{
		Version: protocol.AcceptanceVersion, Batch: protocol.NewBatchID(), Org: "ORG", Lane: protocol.Bulk, Pool: protocol.DefaultPool,
		Total: 3, State: protocol.AcceptComplete, Created: time.Now().UTC(), Label: "nightly",
	}
	target, _ := json.Marshal(protocol.WebhookTarget{URL: url, Secret: noticeKey})
	record.Options.Webhook = &protocol.Webhook{Sealed: f.sealer.SealText("ORG", record.Batch, string(target)), Shown: protocol.RedactURL(url)}
	now := time.Now().UTC()
	summary := protocol.Summary{
		Version: protocol.SummaryVersion, Batch: record.Batch, Org: "ORG", Lane: protocol.Bulk, Total: 3, State: protocol.BatchCompletedWithErrors,
		Tally: protocol.Tally{Succeeded: 2, Failed: 1, Bytes: 77}, Started: now, Ended: now,
		Groups: []protocol.ErrorGroup{{Class: protocol.NotFound, Code: "source_http_404", Host: "example.test", Count: 1, Message: "gone"}},
	}
	f.put(protocol.AcceptKey("ORG", record.Batch), record)
	f.put(protocol.SummaryKey("ORG", record.Batch), summary)
	return record
}

func (f *fleet) put(key string, v any) {
	f.Helper()
	data, err := protocol.Encode(v)
	if err != nil {
		f.Fatal(err)
	}
	if _, err := f.batches.Put(f.Context(), key, data); err != nil {
		f.Fatal(err)
	}
}

// publish asks the workers to tell of a batch's end.
func (f *fleet) publish(record *protocol.Acceptance) {
	f.Helper()
	shard := protocol.ShardOf("ORG")
	message, err := protocol.Encode(protocol.Work{
		Version: protocol.WorkVersion, Org: "ORG", Batch: record.Batch, Index: protocol.WebhookIndex, Total: record.Total, Kind: protocol.KindWebhook,
		Lane: protocol.Interactive, Pool: record.Pool, Shard: shard,
	})
	if err != nil {
		f.Fatal(err)
	}
	subject := protocol.WorkSubject(protocol.Interactive, record.Pool, shard, "ORG", record.Batch)
	if _, err := f.conn.PublishChunk(f.Context(), protocol.GuardSubject(protocol.Interactive, "ORG", record.Batch, 0, 0), subject, [][]byte{message}); err != nil {
		f.Fatal(err)
	}
	_ = f.conn.Wake(broker.Shard{Lane: protocol.Interactive, Pool: record.Pool, Index: shard})
}

// reports delivers what workers report, one by one.
func (f *fleet) reports() <-chan protocol.Report {
	f.Helper()
	reader, err := f.conn.Reports(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	out, stop, ended := make(chan protocol.Report, 100), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case b := <-reader.Bundles():
				var bundle protocol.ReportBundle
				if json.Unmarshal(b.Data, &bundle) == nil {
					for _, r := range bundle.Reports {
						out <- r
					}
				}
				_ = b.Done()
			case <-stop:
				return
			}
		}
	}()
	f.Cleanup(func() { close(stop); <-ended; reader.Close() })
	return out
}

func (f *fleet) next(reports <-chan protocol.Report) protocol.Receipt {
	f.Helper()
	select {
	case r := <-reports:
		return r.Receipt
	case <-time.After(5 * time.Minute):
		f.Fatalf("no report within five minutes; the log:\n%s", f.log)
	}
	return protocol.Receipt{}
}

// TestNoticeIsSignedAndRetried follows a notice through a receiver that fails at first.
func TestNoticeIsSignedAndRetried(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	type call struct {
		header http.Header
		body   []byte
	}
	calls := make(chan call, 10)
	n := 0
	url := f.serve(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		calls <- call{r.Header, body}
		if n++; n == 1 { // one call at a time
			w.WriteHeader(500)
			fmt.Fprintf(w, "at line one\r\n\x1b[31mbroken %s", strings.Repeat("y", 4096))
		}
	})
	record := f.ended(url + "/hook")
	reports := f.reports()
	f.work()
	f.publish(&record)

	first := f.next(reports)
	if first.Index != protocol.WebhookIndex || first.State != protocol.ItemRetrying || first.Status != 500 || len(first.Attempts) != 1 {
		t.Fatalf("the first report is %+v", first)
	}
	if got := first.Failure.Message; !strings.HasPrefix(got, "Webhook not delivered: 500 Internal Server Error: at line one [31mbroken yyy") || len(got) > 200 {
		t.Errorf("message %q", got)
	}
	last := f.next(reports)
	if last.State != protocol.ItemSucceeded || last.Status != 200 || len(last.Attempts) != 2 || last.Attempts[0].Failure.Status != 500 {
		t.Fatalf("the last report is %+v", last)
	}
	if wait := last.Attempts[1].Start.Sub(last.Attempts[0].End); wait < noticeBackoff/2-time.Second {
		t.Errorf("the second attempt came after %s", wait)
	}
	a, b := <-calls, <-calls
	if !bytes.Equal(a.body, b.body) {
		t.Errorf("the attempts differ:\n%s\n%s", a.body, b.body)
	}
	if a.header.Get("Copyfleet-Delivery") == "" || a.header.Get("Copyfleet-Delivery") != b.header.Get("Copyfleet-Delivery") {
		t.Errorf("deliveries %q, %q", a.header.Get("Copyfleet-Delivery"), b.header.Get("Copyfleet-Delivery"))
	}
	for i, c := range []call{a, b} {
		if got := c.header.Get("Copyfleet-Attempt"); got != strconv.Itoa(i+1) {
			t.Errorf("attempt %s, want %d", got, i+1)
		}
		at, _, ok := strings.Cut(strings.TrimPrefix(c.header.Get("Copyfleet-Signature"), "t="), ",v1=")
		seconds, err := strconv.ParseInt(at, 10, 64)
		if !ok || err != nil || protocol.SignNotice(noticeKey, time.Unix(seconds, 0), c.body) != c.header.Get("Copyfleet-Signature") {
			t.Errorf("signature %q", c.header.Get("Copyfleet-Signature"))
		}
	}
	var got notice
	if err := json.Unmarshal(a.body, &got); err != nil || got.Type != "batch.ended" || got.Batch.ID != record.Batch || got.Batch.Label != "nightly" ||
		got.Batch.Counts.Succeeded != 2 || got.Batch.Counts.Failed != 1 || got.Batch.Bytes != 77 || len(got.Batch.ErrorGroups) != 1 {
		t.Errorf("body %s (%v)", a.body, err)
	}
	if strings.Contains(f.log.String(), noticeKey) {
		t.Error("the log tells the secret")
	}
}

// TestNoticesThatEnd lists what is not tried again.
func TestNoticesThatEnd(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	echo := f.serve(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusGone)
		fmt.Fprintf(w, "Cannot POST %s", r.URL)
	})
	reports := f.reports()
	f.work()
	for _, row := range []struct {
		url, code string
		status    int
	}{
		{echo + "/hook?token=s3cr3t-t0ken", "webhook_http_410", 410},
		{"http://169.254.169.254/latest?token=s3cr3t-t0ken", "forbidden_address", 0},
	} {
		record := f.ended(row.url)
		f.publish(&record)
		got := f.next(reports)
		if got.State != protocol.ItemFailed || got.Failure.Code != row.code || got.Status != row.status || got.Failure.Host == "" {
			t.Errorf("%s: %+v, %+v", row.code, got, got.Failure)
		}
		if text, _ := json.Marshal(got); bytes.Contains(text, []byte("s3cr3t")) {
			t.Errorf("the receipt tells the token: %s", text)
		}
	}
	if strings.Contains(f.log.String(), "s3cr3t") {
		t.Errorf("the log tells the token:\n%s", f.log)
	}
}

// TestNoticesThatNobodyWaitsFor: a batch that was removed, and a notice that has its outcome, are dropped without a report,
// which would bring records of the batch back.
func TestNoticesThatNobodyWaitsFor(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	url := f.serve(func(_ http.ResponseWriter, r *http.Request) { f.Errorf("%s was told", r.URL) })
	removed, settled := f.ended(url+"/removed"), f.ended(url+"/settled")
	if err := f.batches.Delete(t.Context(), protocol.SummaryKey("ORG", removed.Batch)); err != nil {
		t.Fatal(err)
	}
	f.put(protocol.SummaryKey("ORG", settled.Batch), protocol.Summary{
		Version: protocol.SummaryVersion, Batch: settled.Batch, Org: "ORG", Total: 3, State: protocol.BatchSucceeded,
		Webhook: &protocol.Receipt{Index: protocol.WebhookIndex, State: protocol.ItemSucceeded},
	})
	repeated := f.ended(url + "/repeated")
	f.put(protocol.SummaryKey("ORG", repeated.Batch), protocol.Summary{
		Version: protocol.SummaryVersion, Batch: repeated.Batch, Org: "ORG", Total: 3, State: protocol.BatchSucceeded,
		Webhook: &protocol.Receipt{Index: protocol.WebhookIndex, State: protocol.ItemRetrying, Attempts: []protocol.Attempt{{Number: 1}}},
	})
	told := make(chan struct{}, 1)
	last := f.ended(f.serve(func(http.ResponseWriter, *http.Request) { told <- struct{}{} }))
	reports := f.reports()
	f.work()
	f.publish(&removed)
	f.publish(&settled)
	f.publish(&repeated)
	f.publish(&last)
	if got := f.next(reports); got.State != protocol.ItemSucceeded {
		t.Errorf("report %+v", got)
	}
	<-told
}

func TestNoticePolicy(t *testing.T) {
	t.Parallel()
	status := func(n int) *protocol.Failure { return &protocol.Failure{Class: protocol.Invalid, Status: n} }
	for _, row := range []struct {
		failure *protocol.Failure
		attempt int
		want    verdict
	}{
		{status(400), 1, retry},
		{status(401), 11, retry},
		{status(404), 1, retry},
		{status(410), 1, giveUp},
		{status(307), 1, retry},
		{status(500), 11, retry},
		{status(500), 12, giveUp},
		{&protocol.Failure{Class: protocol.Timeout}, 11, retry},
		{&protocol.Failure{Class: protocol.Unavailable}, 1, retry},
		{&protocol.Failure{Class: protocol.ForbiddenAddress}, 1, giveUp},
		{&protocol.Failure{Class: protocol.Invalid, Code: "webhook_invalid_url"}, 1, giveUp},
	} {
		if got := decideNotice(row.failure, row.attempt); got != row.want {
			t.Errorf("%+v, attempt %d: %v, want %v", row.failure, row.attempt, got, row.want)
		}
	}
	least := []time.Duration{2500 * time.Millisecond, 7500 * time.Millisecond, 22500 * time.Millisecond}
	for i, want := range least {
		for range 100 {
			if got := noticeWait(i+1, 0); got < want || got > 2*want {
				t.Errorf("after attempt %d: %s, want %s to %s", i+1, got, want, 2*want)
			}
		}
	}
	if got := noticeWait(12, 0); got < 30*time.Minute || got > time.Hour {
		t.Errorf("after attempt 12: %s", got)
	}
	if got := noticeWait(1, 10*time.Hour); got != time.Hour {
		t.Errorf("asked to wait 10 h: %s", got)
	}
}

func TestExcerpt(t *testing.T) {
	t.Parallel()
	target := protocol.WebhookTarget{URL: "https://h.test/p?key=abc%20def%2Fghi&n=1", Secret: "sign-me"}
	for _, row := range []struct{ in, want string }{
		{"plain", "plain"},
		{"a\x00b\r\nc\x1b[2Jd\u202ee", "a b c [2Jd e"},
		{"key is abc def/ghi", ""},
		{"key is abc%20def%2Fghi", ""},
		{"it was sign-me", ""},
		{"n=1 is short", "n=1 is short"},
		{strings.Repeat("x", 127) + "ä" + "y", strings.Repeat("x", 127)},
		{"\xff\xfe", ""},
		{strings.Repeat("z", 1000) + "sign-me", ""},
	} {
		if got := excerpt(target, []byte(row.in)); got != row.want {
			t.Errorf("%q: %q, want %q", row.in, got, row.want)
		}
	}
	long := strings.Repeat("0123456789", 200) // more than is read of an answer
	target.URL = "https://h.test/p?key=" + long
	if got := excerpt(target, []byte("refused: /p?key=" + long)[:1024]); got != "" {
		t.Errorf("a part of a credential is shown: %q", got)
	}
}

// patient is a driver whose notices hang for as long as a test wants. A real one gives up after ten seconds, in which a busy machine may copy nothing.
type patient struct {
	HTTPDriver

	release     chan struct{}
	began       chan struct{}
	under, most atomic.Int32
}

// Notify implements [notifier].
func (p *patient) Notify(ctx context.Context, url string, _ map[string]string, _ []byte) (storage.Answer, error) {
	n := p.under.Add(1)
	defer p.under.Add(-1)
	for old := p.most.Load(); n > old && !p.most.CompareAndSwap(old, n); old = p.most.Load() {
	}
	p.began <- struct{}{}
	select {
	case <-p.release:
		return storage.Answer{Status: http.StatusOK}, nil
	case <-ctx.Done():
		return storage.Answer{}, storage.Errorf(storage.Interrupted, "stopped", "notify", url, "it was stopped")
	}
}

// TestHangingReceiversTakeFewSlots: while notices hang, a copy of the same lane has its slot at once.
func TestHangingReceiversTakeFewSlots(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	receivers := &patient{HTTPDriver: f.copier.drivers.HTTP, release: make(chan struct{}), began: make(chan struct{}, 100)}
	f.copier.drivers.HTTP = receivers
	source := f.serve(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("content")) })
	const hanging = 5
	for range hanging {
		record := f.ended("https://receiver.test/")
		f.publish(&record)
	}
	reports := f.reports()
	f.work() // with four slots
	<-receivers.began
	shard, batch := protocol.ShardOf("ORG"), protocol.NewBatchID()
	work := protocol.Work{
		Version: protocol.WorkVersion, Org: "ORG", Batch: batch, Total: 2, Chunks: 1, Lane: protocol.Interactive, Pool: protocol.DefaultPool, Shard: shard,
	}
	var err error
	if work.Sealed, err = f.sealer.SealItem(work.Ref(), &protocol.ManifestItem{Src: httpGet(source), Dest: inSandbox("/f")}); err != nil {
		t.Fatal(err)
	}
	message, err := protocol.Encode(work)
	if err != nil {
		t.Fatal(err)
	}
	subject := protocol.WorkSubject(protocol.Interactive, protocol.DefaultPool, shard, "ORG", batch)
	if _, err := f.conn.PublishChunk(t.Context(), subject, subject, [][]byte{message}); err != nil {
		t.Fatal(err)
	}
	if got := f.next(reports); got.Index != 0 || got.State != protocol.ItemSucceeded {
		t.Errorf("the first report is %+v", got)
	}
	close(receivers.release)
	for range hanging {
		if got := f.next(reports); got.Index != protocol.WebhookIndex {
			t.Errorf("report %+v", got)
		}
	}
	if most := receivers.most.Load(); most != 1 {
		t.Errorf("%d notices at once, with four slots", most)
	}
}
