package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/sourcegraph/conc/pool"

	"github.com/copyfleet/copyfleet/aggregator"
	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/producer"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage/memory"
	"github.com/copyfleet/copyfleet/worker"
)

// BenchmarkPipeline is the whole cycle without any file: one call over a socket, durable acceptance, queue, worker,
// receipts, answer. Sources are in memory and destinations discard, so that what is left is what we cost. Run it
// with -cpuprofile.
func BenchmarkPipeline(b *testing.B) {
	items := scale(20_000)
	p := startPipeline(b, concurrency)
	body, err := p.body(items)
	if err != nil {
		b.Fatal(err)
	}
	warm, err := p.body(2 * concurrency)
	if err != nil {
		b.Fatal(err)
	}
	if err := p.call(b.Context(), warm, 2*concurrency); err != nil {
		b.Fatal(err)
	}
	var took samples
	for b.Loop() {
		p.places.stored.Store(0)
		begun := time.Now()
		if err := p.call(b.Context(), body, items); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(begun))
		if stored := p.places.stored.Load(); stored < int64(items) {
			b.Fatalf("%d of %d items were stored", stored, items)
		}
	}
	onlyOurs(b)
	b.ReportMetric(float64(items)/took.median().Seconds(), "items/s")
}

// pipeline is broker, front, worker and aggregator in this process.
type pipeline struct {
	url    string
	client *http.Client
	places *places
}

const (
	pipelineOrg = "ORG-bench"
	pipelineKey = "bench-key"
)

func startPipeline(b *testing.B, slots int) *pipeline {
	b.Helper()
	ctx, stop := context.WithCancel(context.Background())
	quiet := slog.New(slog.DiscardHandler)
	conn := startQueue(b).conn
	sealer, err := protocol.NewSealer(protocol.NewSealKey())
	if err != nil {
		b.Fatal(err)
	}
	fold, err := aggregator.New(ctx, aggregator.Config{Logger: quiet}, conn)
	if err != nil {
		b.Fatal(err)
	}
	data := &places{source: memory.NewSource(contents(1)[0])}
	work, err := worker.New(ctx, worker.Config{ID: "bench", Slots: slots, Logger: quiet}, conn,
		worker.Drivers{Sandboxes: sandboxes{data}, HTTP: web{data}}, sealer)
	if err != nil {
		b.Fatal(err)
	}
	front, registry := startFront(ctx, b, conn, sealer, quiet)
	roles := pool.New().WithErrors()
	roles.Go(func() error { return fold.Run(ctx) })
	roles.Go(func() error { return work.Run(ctx) })
	api := httptest.NewServer(front.Handler())
	b.Cleanup(func() {
		api.Close()
		stop()
		registry.Wait()
		if err := roles.Wait(); err != nil {
			b.Error(err)
		}
	})
	transport := &http.Transport{}
	b.Cleanup(transport.CloseIdleConnections)
	return &pipeline{url: api.URL, client: &http.Client{Transport: transport}, places: data}
}

func startFront(ctx context.Context, b *testing.B, conn *broker.Conn, sealer *protocol.Sealer, log *slog.Logger) (*producer.Server, *producer.Registry) {
	b.Helper()
	bucket, err := conn.Bucket(ctx, broker.RegistryBucket)
	if err != nil {
		b.Fatal(err)
	}
	registry, err := producer.NewRegistry(ctx, records{bucket}, log)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := registry.AddKey(ctx, pipelineKey, pipelineOrg, producer.RoleAdmin, "bench"); err != nil {
		b.Fatal(err)
	}
	calls, err := producer.NewPipeline(ctx, conn, sealer, nil, log)
	if err != nil {
		b.Fatal(err)
	}
	front, err := producer.New(producer.Config{Logger: log, AutoSandboxes: true},
		producer.Dependencies{Pipeline: calls, Registry: registry, Presigner: neither{}, Health: neither{}})
	if err != nil {
		b.Fatal(err)
	}
	return front, registry
}

func (p *pipeline) body(items int) ([]byte, error) {
	type file struct {
		ID   string   `json:"id"`
		Src  location `json:"src"`
		Dest location `json:"dest"`
	}
	files := make([]file, items)
	for i := range files {
		files[i] = file{fileName(i), location{"type": "httpGetLocation", "url": "http://127.0.0.1/" + fileName(i)}, toSandbox("d")(i)}
	}
	return json.Marshal(map[string]any{"files": files})
}

func (p *pipeline) call(ctx context.Context, body []byte, items int) error {
	ctx, cancel := context.WithTimeout(ctx, roundLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+"/api/orgs/"+pipelineOrg+"/sandboxes/"+sandboxID+"/file/copy", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Api-Key", pipelineKey)
	resp, err := p.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the copy call answered %s: %s", resp.Status, answer)
	}
	return allSucceeded(answer, items)
}
