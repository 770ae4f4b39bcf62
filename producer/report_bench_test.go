package producer

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// BenchmarkReport writes reports on 100,000 items that failed, over HTTP.
func BenchmarkReport(b *testing.B) {
	const items = 100_000
	quiet := slog.New(slog.DiscardHandler)
	server, err := broker.StartServer(broker.ServerConfig{Dir: b.TempDir(), Logger: quiet})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(server.Close)
	conn, err := broker.Connect(broker.Config{Server: server, Name: b.Name(), Logger: quiet})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(conn.Close)
	if err := conn.Setup(b.Context()); err != nil {
		b.Fatal(err)
	}
	sealer, err := protocol.NewSealer(protocol.NewSealKey())
	if err != nil {
		b.Fatal(err)
	}
	p, err := NewPipeline(b.Context(), conn, sealer, nil, quiet)
	if err != nil {
		b.Fatal(err)
	}
	now := storeFailed(b, p, items)
	for _, form := range []*reportForm{ndjsonReport, csvReport} {
		b.Run(form.name, func(b *testing.B) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				out := &reportWriter{w: w, form: form, now: now, query: &itemsQuery{}}
				if err := p.writeReport(r.Context(), now, out.query, false, out); err != nil {
					b.Error(err)
				}
			}))
			defer srv.Close()
			var written int64
			for b.Loop() {
				resp, err := srv.Client().Get(srv.URL)
				if err != nil {
					b.Fatal(err)
				}
				if written, err = io.Copy(io.Discard, resp.Body); err != nil {
					b.Fatal(err)
				}
				_ = resp.Body.Close()
			}
			b.ReportMetric(float64(items*b.N)/b.Elapsed().Seconds(), "rows/s")
			b.ReportMetric(float64(written)/items, "B/row")
		})
	}
}

// storeFailed stores a batch whose items have all failed, as the other roles do.
func storeFailed(b *testing.B, p *Pipeline, total int) *snapshot {
	b.Helper()
	now := &snapshot{told: true}
	now.record = protocol.Acceptance{
		Version: protocol.AcceptanceVersion, Batch: protocol.NewBatchID(), Org: "one", Lane: protocol.Bulk, Pool: protocol.DefaultPool,
		Total: total, Generation: 1, State: protocol.AcceptComplete, Created: time.Now().UTC(),
	}
	a := &now.record
	put := func(bucket *broker.Bucket, key string, v any) {
		value, err := protocol.Encode(v)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := bucket.Put(b.Context(), key, value); err != nil {
			b.Fatal(err)
		}
	}
	for page := range protocol.Pages(total) {
		first, last := page*protocol.PageSize, min(total, (page+1)*protocol.PageSize)
		indexes := upTo(last)[first:]
		items := make([]protocol.ManifestItem, 0, len(indexes))
		for _, i := range indexes {
			items = append(items, asksFor(i))
		}
		sealed, err := p.sealer.SealPage(a.Org, a.Batch, page, items)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := p.manifests.Put(b.Context(), protocol.ManifestKey(a.Org, a.Batch, 1, page), sealed); err != nil {
			b.Fatal(err)
		}
		receipts := receiptsOf(protocol.ItemFailed, indexes...)
		put(p.batches, protocol.PageKey(a.Org, a.Batch, page), protocol.Page{Version: protocol.SummaryVersion, First: first, Receipts: receipts})
		for i := range receipts {
			now.summary.Tally.Count(&receipts[i])
		}
	}
	now.summary.Total, now.summary.State, now.summary.Batch, now.summary.Org = total, protocol.BatchFailed, a.Batch, a.Org
	put(p.batches, protocol.SummaryKey(a.Org, a.Batch), now.summary)
	return now
}
