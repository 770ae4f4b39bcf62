package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/copyfleet/copyfleet/protocol"
)

// BenchmarkAccept100k is the time from the first byte of a manifest of 100,000 lines to its durable 202, and the most memory of "up"
// meanwhile. The batch stands still behind its first item, so that no round disturbs the next. Beside it, in turns, a peer that
// publishes an item a message, a thousand under way at once, to the same kind of stream.
func BenchmarkAccept100k(b *testing.B) {
	items, peerItems := scale(100_000), scale(10_000)
	f, peer := startFleet(b, nil), startQueue(b)
	api := f.volume()
	var manifest bytes.Buffer
	for i := range items {
		acceptLine(&manifest, i)
	}
	body := manifest.Bytes()
	if _, err := api.hold(b.Context(), bytes.NewReader(body[:bytes.IndexByte(body, '\n')])); err != nil {
		b.Fatal(err)
	}
	before := memoryOf(b, f)
	var ours, theirs samples
	for b.Loop() {
		begun := time.Now()
		if _, err := api.hold(b.Context(), bytes.NewReader(body)); err != nil {
			b.Fatal(err)
		}
		ours = append(ours, time.Since(begun))
		begun = time.Now()
		if err := peer.publishEach(b.Context(), peerItems); err != nil {
			b.Fatal(err)
		}
		theirs = append(theirs, time.Since(begun))
	}
	onlyOurs(b)
	b.ReportMetric(float64(items)/ours.median().Seconds(), "items/s")
	b.ReportMetric(float64(peerItems)/theirs.median().Seconds(), "peer-items/s")
	b.ReportMetric(float64(len(body))/float64(items), "B/item")
	reportMemory(b, f, before)
}

// BenchmarkAcceptMemory is the most memory of "up" while it accepts a manifest of 100,000 lines, and of a million.
func BenchmarkAcceptMemory(b *testing.B) {
	for b.Loop() {
		for _, n := range []int{scale(100_000), scale(1_000_000)} {
			f := startFleet(b, nil)
			manifest := lines(n, acceptLine)
			begun := time.Now()
			if _, err := f.volume().hold(b.Context(), manifest); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(n)/time.Since(begun).Seconds(), fmt.Sprintf("accept-%d-items/s", n))
			b.ReportMetric(float64(memoryOf(b, f))/(1<<20), fmt.Sprintf("peak-%d-MiB", n))
		}
	}
	onlyOurs(b)
}

// acceptLine is an item as an ingest has it: a presigned URL, whose signature does not compress, and a path.
func acceptLine(w io.Writer, i int) {
	no := strconv.Itoa(i)
	sum := protocol.KeyedBatchID("bench", no) // 26 random characters
	fmt.Fprintf(w, `{"id":"%s","src":{"type":"httpGetLocation","url":"http://127.0.0.1:1/export/%s.bin?signature=%s"},"dest":{"type":"sandboxFileLocation","sandbox":"%s","path":"/in/%s.bin"}}`+"\n",
		no, no, sum, sandboxID, no)
}

// hold submits a manifest whose batch pauses after its first item.
func (v volume) hold(ctx context.Context, manifest io.Reader) (batchState, error) {
	ctx, cancel := context.WithTimeout(ctx, volumeLimit)
	defer cancel()
	var accepted batchState
	err := v.do(ctx, http.MethodPost, "/v1/batches?canary=1&attempts=1", "application/x-ndjson", manifest, http.StatusAccepted, &accepted)
	return accepted, err
}

// publishEach publishes an item a message and waits for every acknowledgement.
func (q *queue) publishEach(ctx context.Context, items int) error {
	work, err := json.Marshal(protocol.Work{Version: protocol.WorkVersion, Org: "bench", Batch: protocol.NewBatchID(), Sealed: make([]byte, 256)})
	if err != nil {
		return err
	}
	waiting := make([]jetstream.PubAckFuture, 0, items)
	for range items {
		ack, err := q.js.PublishMsgAsync(&nats.Msg{Subject: protocol.WorkSubject(protocol.Bulk, "bench", 0, "bench", "bench"), Data: work})
		if err != nil {
			return err
		}
		waiting = append(waiting, ack)
	}
	for _, ack := range waiting {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
