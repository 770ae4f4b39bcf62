package attempts

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/egress"
	httpstore "github.com/copyfleet/copyfleet/storage/http"
	"github.com/copyfleet/copyfleet/storage/memory"
	"github.com/copyfleet/copyfleet/worker"
)

// telling is places that can also deliver notices.
type telling struct {
	*places
	client *httpstore.Client
}

func (p telling) Notify(ctx context.Context, url string, headers map[string]string, body []byte) (storage.Answer, error) {
	return p.client.Notify(ctx, url, headers, body)
}

// TestTheEndIsTold follows a batch from its acceptance to the notice of its end: the aggregator asks, a worker tells, and the receipt of
// that stands in the summary.
func TestTheEndIsTold(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	var mu sync.Mutex
	var told []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if told = append(told, string(body)); len(told) == 1 {
			w.WriteHeader(http.StatusBadGateway)
		}
	}))
	t.Cleanup(srv.Close)
	client := httpstore.NewClient(httpstore.Options{Guard: egress.New([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})})
	t.Cleanup(client.Close)
	w, err := worker.New(t.Context(), worker.Config{ID: "teller"}, b.conn,
		worker.Drivers{Sandboxes: b.places, HTTP: telling{b.places, client}, Objects: objects{b.places}}, b.sealer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.background(w.Run))
	b.places.sources["0"] = memory.NewSource([]byte("content"))

	record := b.acceptTold(srv.URL + "/hook")
	var summary protocol.Summary
	b.eventually(func() bool {
		summary, _ = b.summary(record.Batch)
		return summary.Webhook != nil && summary.Webhook.State.Final()
	})
	got := summary.Webhook
	if got.State != protocol.ItemSucceeded || len(got.Attempts) != 2 || got.Status != 200 || got.Attempts[0].Failure.Status != http.StatusBadGateway {
		t.Fatalf("the receipt is %+v", got)
	}
	if summary.State != protocol.BatchSucceeded || summary.Tally.Succeeded != 1 {
		t.Errorf("the notice changed the batch: %+v", summary)
	}
	mu.Lock()
	defer mu.Unlock()
	var notice struct {
		Type  string `json:"type"`
		Batch struct {
			ID    protocol.BatchID    `json:"id"`
			State protocol.BatchState `json:"state"`
			Bytes int64               `json:"bytes"`
		} `json:"batch"`
	}
	if err := json.Unmarshal([]byte(told[1]), &notice); err != nil || notice.Type != "batch.ended" || notice.Batch.ID != record.Batch ||
		notice.Batch.State != protocol.BatchSucceeded || notice.Batch.Bytes != 7 {
		t.Errorf("told %s (%v)", told[1], err)
	}
	if len(told) != 2 || told[0] != told[1] {
		t.Errorf("it was told %d times", len(told))
	}
}

// acceptTold accepts a batch of one item whose end is to be told, as the front does.
func (b *bundle) acceptTold(url string) protocol.Acceptance {
	b.Helper()
	record := protocol.Acceptance{
		Version: protocol.AcceptanceVersion, Batch: protocol.NewBatchID(), Org: org, Lane: protocol.Interactive, Pool: protocol.DefaultPool,
		Total: 1, Chunks: 1, State: protocol.AcceptPending, Created: time.Now().UTC(),
	}
	target, _ := json.Marshal(protocol.WebhookTarget{URL: url, Secret: "s"})
	record.Options.Webhook = &protocol.Webhook{Sealed: b.sealer.SealText(org, record.Batch, string(target)), Shown: url}
	work := protocol.Work{
		Version: protocol.WorkVersion, Org: org, Batch: record.Batch, Total: 1, Chunks: 1,
		Lane: record.Lane, Pool: record.Pool, Shard: protocol.ShardOf(org),
	}
	var err error
	if work.Sealed, err = b.sealer.SealItem(work.Ref(), &protocol.ManifestItem{Src: src("0"), Dest: dst("/0")}); err != nil {
		b.Fatal(err)
	}
	if record.Manifest, err = b.sealer.SealPage(org, record.Batch, 0, []protocol.ManifestItem{{Src: src("0"), Dest: dst("/0")}}); err != nil {
		b.Fatal(err)
	}
	feeds, err := b.conn.Bucket(b.Context(), broker.FeedBucket)
	if err != nil {
		b.Fatal(err)
	}
	now := time.Now().UTC()
	b.store(feeds, protocol.ControlKey(org, record.Batch), protocol.Feed{
		Version: protocol.FeedVersion, Org: org, Batch: record.Batch, Next: 1, At: now, Created: now,
	})
	b.store(b.batches, protocol.AcceptKey(org, record.Batch), record)
	message, err := protocol.Encode(work)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := b.conn.PublishChunk(b.Context(), record.Guard(0), record.Subject(), [][]byte{message}); err != nil {
		b.Fatal(err)
	}
	_ = b.conn.Wake(broker.Shard{Lane: record.Lane, Pool: record.Pool, Index: work.Shard})
	return record
}

func (b *bundle) store(bucket *broker.Bucket, key string, v any) {
	b.Helper()
	value, err := protocol.Encode(v)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := bucket.Put(b.Context(), key, value); err != nil {
		b.Fatal(err)
	}
}
