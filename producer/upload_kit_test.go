package producer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/producer/uploads"
	"github.com/copyfleet/copyfleet/protocol"
)

// memoryStaging is a staging storage in memory. Like the real one it keeps a part only if all of it came.
type memoryStaging struct {
	mu    sync.Mutex
	begun int
	parts map[string]map[int]int64 // sizes, by key and name
	whole map[string][]byte
	fails error
}

func (*memoryStaging) Bucket() string { return "staging" }

func (f *memoryStaging) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fails = err
}

func (f *memoryStaging) Begin(_ context.Context, key string, _, _ int64) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.begun++
	name := fmt.Sprintf("m%d", f.begun)
	f.parts[key+" "+name] = map[int]int64{}
	return name, f.fails
}

func (f *memoryStaging) PutPart(_ context.Context, key, multipart string, number int, size int64, body io.Reader) (uploads.StagedPart, error) {
	h := sha256.New()
	if n, err := io.Copy(h, io.LimitReader(body, size)); err != nil || n != size {
		return uploads.StagedPart{}, fmt.Errorf("%d of %d bytes: %w", n, size, errors.Join(err, io.ErrUnexpectedEOF))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fails != nil {
		return uploads.StagedPart{}, f.fails
	}
	if f.parts[key+" "+multipart] == nil {
		return uploads.StagedPart{}, uploads.ErrStagedGone
	}
	f.parts[key+" "+multipart][number] = size
	return uploads.StagedPart{ETag: hex.EncodeToString(h.Sum(nil)[:16])}, nil
}

func (f *memoryStaging) PutWhole(_ context.Context, key string, _ int64, body io.Reader) (int64, error) {
	data, err := io.ReadAll(body)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := errors.Join(err, f.fails); err != nil {
		return 0, err
	}
	f.whole[key] = data
	return int64(len(data)), nil
}

func (f *memoryStaging) Clean(_ context.Context, key, multipart string, _ bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.parts, key+" "+multipart)
	delete(f.whole, key)
	return nil
}

// dock is a front that takes uploads. The test plays the aggregator, and the worker where it says so.
type dock struct {
	*stage

	shelf  *memoryStaging
	bucket *broker.Bucket
}

func newDock(t *testing.T, cfg Config, limits uploads.Config) *dock {
	t.Helper()
	s := newStage(t)
	d := &dock{stage: s, shelf: &memoryStaging{parts: map[string]map[int]int64{}, whole: map[string][]byte{}}}
	var err error
	if d.bucket, err = s.conn.Bucket(t.Context(), broker.UploadBucket); err != nil {
		t.Fatal(err)
	}
	limits.Logger = slog.New(slog.DiscardHandler)
	service, err := uploads.New(t.Context(), limits, s.conn, d.shelf, s.pipeline.UploadQueue())
	if err != nil {
		t.Fatal(err)
	}
	cfg.Logger = slog.New(slog.NewJSONHandler(s.log, nil))
	s.server, err = New(cfg, Dependencies{Pipeline: s.pipeline, Registry: s.registry, Presigner: s.signer, Health: s.health, Uploads: service})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(s.server.Handler())
	s.url, s.client = srv.URL, srv.Client()
	server := s.server
	t.Cleanup(func() { server.StopWaiting(); srv.Close() })
	d.fold()
	d.call("one/copy", "PUT", "/v1/sandboxes/box", "").want(201, "")
	return d
}

// fold keeps the news of parts as the aggregator does, until the end of the test.
func (d *dock) fold() {
	d.Helper()
	reader, err := d.conn.Reports(d.Context())
	if err != nil {
		d.Fatal(err)
	}
	ctx, stop := context.WithCancel(d.Context())
	var folding sync.WaitGroup
	folding.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case b := <-reader.Bundles():
				d.foldBundle(ctx, b)
			}
		}
	})
	d.Cleanup(func() { stop(); folding.Wait(); reader.Close() })
}

func (d *dock) foldBundle(ctx context.Context, b broker.Bundle) {
	var bundle protocol.ReportBundle
	err := json.Unmarshal(b.Data, &bundle)
	for i := 0; err == nil && i < len(bundle.Uploads); i++ {
		err = d.foldReport(ctx, &bundle.Uploads[i])
	}
	if err = errors.Join(err, b.Done()); err != nil && ctx.Err() == nil {
		d.Errorf("fold: %v", err)
	}
}

func (d *dock) foldReport(ctx context.Context, r *protocol.UploadReport) error {
	pageKey := protocol.UploadPageKey(r.Org, r.Sandbox, r.Upload, protocol.PageOf(r.Part.Number))
	progressKey := protocol.UploadProgressKey(r.Org, r.Sandbox, r.Upload)
	page, progress := protocol.UploadPage{Version: protocol.UploadVersion, Multipart: r.Multipart}, protocol.UploadProgress{Version: protocol.UploadVersion}
	paged, err := readInto(ctx, d.bucket, pageKey, &page)
	if err != nil {
		return err
	}
	progressed, err := readInto(ctx, d.bucket, progressKey, &progress)
	if err != nil {
		return err
	}
	page.Parts = slices.DeleteFunc(page.Parts, func(p protocol.UploadPart) bool { return p.Number == r.Part.Number })
	page.Parts = append(page.Parts, r.Part)
	progress.Set(r.Part.Number, !r.Part.Lost)
	progress.Updated = r.Part.Stored
	var changes [2]broker.Change
	if changes[0].Value, err = protocol.Encode(page); err == nil {
		changes[1].Value, err = protocol.Encode(progress)
	}
	if err != nil {
		return err
	}
	changes[0].Key, changes[0].Revision = pageKey, paged
	changes[1].Key, changes[1].Revision = progressKey, progressed
	if _, err := d.bucket.Commit(ctx, changes[:]); err != nil {
		return err
	}
	return d.conn.UploadChanged(r.Org, r.Sandbox, r.Upload)
}

// work plays the worker: each batch that publishes an upload ends with a receipt, until the end of the test.
func (d *dock) work(end func(a *protocol.Acceptance) protocol.Receipt) (stop func()) {
	d.Helper()
	ctx, cancel := context.WithCancel(d.Context())
	var working sync.WaitGroup
	working.Go(func() {
		done := map[protocol.BatchID]bool{}
		for ctx.Err() == nil {
			entries, _ := d.batches.List(ctx, ">")
			for _, e := range entries {
				var a protocol.Acceptance
				if json.Unmarshal(e.Value, &a) != nil || a.Upload == "" || done[a.Batch] {
					continue
				}
				done[a.Batch] = true
				d.tell(&a, []protocol.Receipt{end(&a)})
			}
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	return func() { cancel(); working.Wait() }
}

// published is the receipt of an upload of so many bytes.
func published(data string) protocol.Receipt {
	sum := sha256.Sum256([]byte(data))
	return protocol.Receipt{State: protocol.ItemSucceeded, Bytes: int64(len(data)), SHA256: hex.EncodeToString(sum[:]), Verified: true}
}

func failedWith(class protocol.Class, code, message string) protocol.Receipt {
	return protocol.Receipt{State: protocol.ItemFailed, Failure: &protocol.Failure{Class: class, Code: code, Message: message}}
}

// create makes a session of a file under a key, with other members.
func (d *dock) create(key string, length int, members string) sessionView {
	d.Helper()
	body := fmt.Sprintf(`{"kind":"file","source_kind":"restartable_file","target_path":"/f","content_length":%d,"checksum_algorithm":"sha256"%s}`, length, members)
	a := d.call("one/copy", "POST", "/v1/sandboxes/box/uploads", body, "Idempotency-Key", key).want(201, "")
	return decode[sessionAnswer](a).Session
}

func (v *sessionView) path(rest string) string {
	return "/v1/sandboxes/box/uploads/" + string(v.ID) + rest
}

// chunk is so many bytes.
func chunk(n int) string { return strings.Repeat("x", n) }

// described holds what the API says against its description.
func described(t *testing.T) func(method, route string, a answer) answer {
	d := newDescription(t, apiDescription)
	return func(method, route string, a answer) answer {
		t.Helper()
		d.check(t, method, route, a)
		return a
	}
}

const (
	routeUploads  = "/v1/sandboxes/{id}/uploads"
	routeUpload   = routeUploads + "/{upload_id}"
	routePart     = routeUpload + "/parts/{n}"
	routeComplete = routeUpload + "/complete"
	routeURL      = "/v1/sandboxes/{id}/upload-url"
	routeDirect   = "/v1/direct-uploads/{token}"
)

// members are the names of what an answer has.
func membersOf(t *testing.T, raw []byte) []string {
	t.Helper()
	var v map[string]json.RawMessage
	if err := json.NewDecoder(bytes.NewReader(raw)).Decode(&v); err != nil {
		t.Fatal(err)
	}
	names := make([]string, 0, len(v))
	for name := range v {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
