package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/notification"
	"github.com/nats-io/nats.go"
	"github.com/sourcegraph/conc/pool"

	"github.com/copyfleet/copyfleet/protocol"
)

// rule is what a benchmark looks at in a rule.
type rule struct {
	Counts struct {
		Copies     int `json:"copies"`
		Duplicates int `json:"duplicates"`
		Superseded int `json:"superseded"`
		Refused    int `json:"refused"`
		Waiting    int `json:"waiting"`
	} `json:"counts"`
}

// apply stores a rule.
func (f *fleet) apply(b *testing.B, document string) {
	b.Helper()
	if err := f.volume().do(b.Context(), http.MethodPost, "/v1/rules", "application/yaml", strings.NewReader(document), http.StatusOK, &struct{}{}); err != nil {
		b.Fatal(err)
	}
}

// rule reads a rule.
func (f *fleet) rule(ctx context.Context, name string) (rule, error) {
	var r rule
	err := f.volume().do(ctx, http.MethodGet, "/v1/rules/"+name, "", nil, http.StatusOK, &r)
	return r, err
}

// receipts are those of all batches of a rule, by the items' ids: how often each is there.
func (f *fleet) receipts(ctx context.Context, rule string) (map[string]int, error) {
	found := map[string]int{}
	for cursor, more := "", true; more; more = cursor != "" {
		var page struct {
			Items []batchState `json:"items"`
			Next  string       `json:"next_cursor"`
		}
		if err := f.volume().do(ctx, http.MethodGet, "/v1/batches?limit=200&rule="+rule+"&cursor="+cursor, "", nil, http.StatusOK, &page); err != nil {
			return nil, err
		}
		cursor = page.Next
		for i := range page.Items {
			if batch := &page.Items[i]; batch.Counts.Succeeded != batch.Total {
				return nil, fmt.Errorf("the batch %+v has not succeeded", *batch)
			}
			var receipts struct {
				Items []protocol.Receipt `json:"items"`
			}
			if err := f.volume().do(ctx, http.MethodGet, "/v1/batches/"+page.Items[i].ID+"/items?limit=500", "", nil, http.StatusOK, &receipts); err != nil {
				return nil, err
			}
			for n := range receipts.Items {
				found[receipts.Items[n].ID]++
			}
		}
	}
	return found, nil
}

// once fails unless each of n items of a rule was copied exactly once.
func (f *fleet) once(ctx context.Context, rule string, n int) error {
	copies, err := f.receipts(ctx, rule)
	if err != nil {
		return err
	}
	for id, times := range copies {
		if times != 1 {
			return fmt.Errorf("%s was copied %d times", id, times)
		}
	}
	if len(copies) != n {
		return fmt.Errorf("%d copies were made, want %d", len(copies), n)
	}
	return nil
}

// BenchmarkEventDelay is the time from MinIO's answer to a PUT until the copy of the object is in place: MinIO publishes to NATS, a rule copies
// into a sandbox. Unloaded each object is put when the copy of the last one is there; else 200 objects are put a second, whatever becomes of
// them. Files are looked for every 0.2 ms, and every 2 ms under load.
func BenchmarkEventDelay(b *testing.B) {
	address := freeAddress(b)
	subject := protocol.EventSubject(protocol.EventS3, "ORG-dev")
	endpoint := startMinIO(b, "MINIO_NOTIFY_NATS_ENABLE_bench=on", "MINIO_NOTIFY_NATS_ADDRESS_bench="+address,
		"MINIO_NOTIFY_NATS_SUBJECT_bench="+subject, "MINIO_NOTIFY_NATS_JETSTREAM_bench=on")
	f := startFleet(b, nil, "--s3-endpoint", endpoint, "--nats-listen", address)
	if f.ready.Org != "ORG-dev" {
		b.Fatalf("the org is %s", f.ready.Org)
	}
	s3 := newS3(b, endpoint)
	tells(b, s3)
	f.apply(b, fmt.Sprintf(`name: delay
match: {source: s3, bucket: %s}
copy:
  id: "{{key}}"
  src: {type: objectLocation, bucket: "{{bucket}}", key: "{{key}}"}
  dest: {type: sandboxFileLocation, sandbox: %s, path: "/delay/{{key}}"}
`, bucketName, sandboxID))
	d := delays{s3: s3, dir: f.sandboxDir("delay"), content: contents(1)[0]}
	unloaded, loaded := scale(200), scale(4000)
	var alone, busy samples
	put := 0
	for i := range warmCalls {
		d.one(b, fmt.Sprint("warm", i), watchAlone)
	}
	for b.Loop() {
		for range unloaded {
			<-time.After(apart)
			put++
			alone = append(alone, d.one(b, fmt.Sprint("alone", put), watchAlone))
		}
		busy = append(busy, d.many(b, loaded, &put)...)
	}
	f.settle(b, "delay", put+warmCalls)
	onlyOurs(b)
	for name, s := range map[string]samples{"unloaded": alone, "200-a-second": busy} {
		b.ReportMetric(milliseconds(s.median()), name+"-p50-ms")
		b.ReportMetric(milliseconds(s.quantile(0.99)), name+"-p99-ms")
	}
}

// settle waits until each of n items of a rule has its receipt, and none has two.
func (f *fleet) settle(b *testing.B, rule string, n int) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), roundLimit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for err := f.once(ctx, rule, n); err != nil; err = f.once(ctx, rule, n) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			b.Fatal(err)
		}
	}
}

// tells has MinIO publish what happens in the bucket.
func tells(b *testing.B, s3 *minio.Client) {
	b.Helper()
	target := notification.NewConfig(notification.NewArn("minio", "sqs", "", "bench", "nats"))
	target.AddEvents(notification.ObjectCreatedAll)
	var all notification.Configuration
	all.AddQueue(target)
	if err := s3.SetBucketNotification(b.Context(), bucketName, all); err != nil {
		b.Fatal(err)
	}
}

const (
	watchAlone = 200 * time.Microsecond
	watchBusy  = 2 * time.Millisecond
	eventRate  = 200 // objects a second
	// apart is the time between an unloaded copy and the next object, longer than that between two rounds of decisions while events come quickly.
	apart = 250 * time.Millisecond
)

// delays puts objects and waits for their copies.
type delays struct {
	s3      *minio.Client
	dir     string
	content []byte
}

// one puts an object, and returns how long after the answer its copy was in place.
func (d delays) one(b *testing.B, key string, every time.Duration) time.Duration {
	b.Helper()
	took, err := d.measure(b.Context(), key, every)
	if err != nil {
		b.Fatal(err)
	}
	return took
}

func (d delays) measure(ctx context.Context, key string, every time.Duration) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, roundLimit)
	defer cancel()
	if _, err := d.s3.PutObject(ctx, bucketName, key, bytes.NewReader(d.content), int64(len(d.content)), minio.PutObjectOptions{}); err != nil {
		return 0, err
	}
	answered := time.Now()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if _, err := os.Stat(filepath.Join(d.dir, key)); err == nil {
			return time.Since(answered), nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, fmt.Errorf("there is no copy of %s: %w", key, context.Cause(ctx))
		}
	}
}

// many puts objects at a fixed rate, whatever becomes of them.
func (d delays) many(b *testing.B, n int, put *int) samples {
	b.Helper()
	var mu sync.Mutex
	var all samples
	running := pool.New().WithErrors()
	pace := time.NewTicker(time.Second / eventRate)
	defer pace.Stop()
	for range n {
		<-pace.C
		*put++
		key := fmt.Sprint("busy", *put)
		running.Go(func() error {
			took, err := d.measure(b.Context(), key, watchBusy)
			mu.Lock()
			all = append(all, took)
			mu.Unlock()
			return err
		})
	}
	if err := running.Wait(); err != nil {
		b.Fatal(err)
	}
	return all
}

// BenchmarkEventBurst is 10,000 notifications at once and 1,000 of them twice, in any order, half of them published to NATS and half sent to the
// webhook, ten in a body. It measures the time from the first one until the copy of each is in place and has its receipt. A copy that is
// missing, or made twice, fails the run.
func BenchmarkEventBurst(b *testing.B) {
	n := scale(10_000)
	src := newSource(b, n)
	f := startFleet(b, src, "--nats-listen", "127.0.0.1:0")
	conn, err := nats.Connect(f.ready.NATS)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	var taken, drained samples
	for round := 0; b.Loop(); round++ {
		name := fmt.Sprint("burst-", round)
		f.apply(b, fmt.Sprintf(`name: %[1]s
match: {source: s3, bucket: %[1]s}
copy:
  id: "{{key}}"
  src: {type: httpGetLocation, url: "%[2]s/{{etag}}"}
  dest: {type: sandboxFileLocation, sandbox: %[3]s, path: "/%[1]s/{{key}}"}
`, name, src.url, sandboxID))
		bodies, repeated := burst(name, n)
		begun := time.Now()
		if err := f.publish(b.Context(), conn, bodies); err != nil {
			b.Fatal(err)
		}
		taken = append(taken, time.Since(begun))
		f.drain(b, name, n, repeated)
		drained = append(drained, time.Since(begun))
		if err := errors.Join(f.once(b.Context(), name, n), checkDir(f.sandboxDir(name), src.files)); err != nil {
			b.Fatal(err)
		}
	}
	onlyOurs(b)
	b.ReportMetric(taken.median().Seconds(), "published-s")
	b.ReportMetric(drained.median().Seconds(), "drained-s")
	b.ReportMetric(float64(n)/drained.median().Seconds(), "copies/s")
}

const eventsInBody = 10

// burst are bodies with a notification of each of n objects, and one more of every tenth, in any order.
func burst(bucket string, n int) (bodies [][]byte, repeated int) {
	var records []json.RawMessage
	for i := range n {
		record := json.RawMessage(fmt.Sprintf(`{"eventVersion":"2.1","eventSource":"aws:s3","eventTime":"2026-01-02T03:04:05.678Z","eventName":"ObjectCreated:Put",`+
			`"s3":{"bucket":{"name":%q},"object":{"key":%q,"size":%d,"eTag":"%d","sequencer":"%X"}}}`, bucket, fileName(i), fileSize, i, i))
		records = append(records, record)
		if i%10 == 0 {
			records = append(records, record)
			repeated++
		}
	}
	rand.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
	for len(records) > 0 {
		some := min(eventsInBody, len(records))
		body, err := json.Marshal(map[string]any{"Records": records[:some]})
		if err != nil {
			panic(err) // the records are JSON
		}
		bodies, records = append(bodies, body), records[some:]
	}
	return bodies, repeated
}

// publish sends all bodies, 8 at once.
func (f *fleet) publish(ctx context.Context, conn *nats.Conn, bodies [][]byte) error {
	const atOnce = 8
	js, err := conn.JetStream()
	if err != nil {
		return err
	}
	sending := pool.New().WithErrors().WithMaxGoroutines(atOnce)
	for i, body := range bodies {
		sending.Go(func() error {
			if i%2 == 0 {
				_, err := js.Publish(protocol.EventSubject(protocol.EventS3, protocol.OrgID(f.ready.Org)), body)
				return err
			}
			return f.volume().do(ctx, http.MethodPost, "/v1/events/s3", "application/json", bytes.NewReader(body), http.StatusAccepted, &struct{}{})
		})
	}
	return sending.Wait()
}

// drain waits until each of n objects is copied and has its receipt.
func (f *fleet) drain(b *testing.B, name string, n, repeated int) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), volumeLimit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	dir := f.sandboxDir(name)
	for {
		r, err := f.rule(ctx, name)
		if err == nil && r.Counts.Copies == n && r.Counts.Duplicates == repeated {
			if entries, err := os.ReadDir(dir); err == nil && len(entries) == n && f.once(ctx, name, n) == nil {
				return
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			b.Fatalf("of %d copies and %d repetitions the rule counts %+v, %v", n, repeated, r.Counts, err)
		}
	}
}
