package worker

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
)

// nowhere is a driver without bytes: what it costs to run an item is all that is left.
type nowhere struct {
	done atomic.Int64
	want int64
	all  chan struct{}
}

func (n *nowhere) Source(string, string, string) storage.Source { return n }
func (n *nowhere) Destination(string, string, string, string, []string) storage.Destination {
	return n
}
func (n *nowhere) Open(context.Context) (*storage.Object, error) {
	return &storage.Object{Body: io.NopCloser(strings.NewReader(""))}, nil
}
func (n *nowhere) NeedsSize() bool { return false }
func (n *nowhere) Put(_ context.Context, c storage.Content) (storage.Stored, error) {
	if _, err := c.Body.Read(nil); err != nil && err != io.EOF {
		return storage.Stored{}, err
	}
	if err := c.Ready(); err != nil {
		return storage.Stored{}, err
	}
	if n.done.Add(1) == n.want {
		close(n.all)
	}
	return storage.Stored{}, nil
}

const (
	benchOrg   protocol.OrgID   = "ORG-dev"
	benchBatch protocol.BatchID = "bat_01k9x3m6c2t7v8w9y0z1a2b3c4"
	benchChunk                  = 999
)

// fill stores the manifest of n items and returns their messages.
func fill(b *testing.B, conn *broker.Conn, sealer *protocol.Sealer, n int) [][]byte {
	b.Helper()
	pages := bucketFor(b, conn, broker.ManifestBucket)
	messages := make([][]byte, n)
	for page := range protocol.Pages(n) {
		items := make([]protocol.ManifestItem, min(protocol.PageSize, n-page*protocol.PageSize))
		for i := range items {
			index := page*protocol.PageSize + i
			name := fmt.Sprintf("/incoming/2026/11/file-%07d.bin", index)
			items[i] = protocol.ManifestItem{
				Src:  protocol.Location{Type: protocol.SandboxFile, Sandbox: "sandbox-a", Path: name},
				Dest: protocol.Location{Type: protocol.SandboxFile, Sandbox: "sandbox-b", Path: name},
			}
			message, err := protocol.Encode(protocol.Work{
				Version: protocol.WorkVersion, Org: benchOrg, Batch: benchBatch, Index: index, Total: n, Lane: protocol.Bulk, Pool: protocol.DefaultPool,
				Shard: protocol.ShardOf(benchOrg), Generation: 1,
			})
			if err != nil {
				b.Fatal(err)
			}
			messages[index] = message
		}
		sealed, err := sealer.SealPage(benchOrg, benchBatch, page, items)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := pages.Put(b.Context(), protocol.ManifestKey(benchOrg, benchBatch, 1, page), sealed); err != nil {
			b.Fatal(err)
		}
	}
	return messages
}

// processTime is the processor time that this process has taken.
func processTime(b *testing.B) time.Duration {
	b.Helper()
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// BenchmarkItems runs items that move no bytes from the queue to the report stream, on a broker that syncs every write. What is
// measured includes the server, and the publishing of the items.
func BenchmarkItems(b *testing.B) {
	for _, slots := range []int{32, 128, 512} {
		b.Run(fmt.Sprint("slots=", slots), func(b *testing.B) {
			conn, sealer := brokerFor(b), sealerFor(b)
			messages := fill(b, conn, sealer, b.N)
			driver := &nowhere{want: int64(b.N), all: make(chan struct{})}
			w, err := New(b.Context(), Config{ID: "w1", Slots: slots}, conn, Drivers{Sandboxes: driver}, sealer)
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(b.Context())
			ended := make(chan error)
			go func() { ended <- w.Run(ctx) }()
			subject := protocol.WorkSubject(protocol.Bulk, protocol.DefaultPool, protocol.ShardOf(benchOrg), benchOrg, benchBatch)
			b.ReportAllocs()
			b.ResetTimer()
			before := processTime(b)
			for first := 0; first < len(messages); first += benchChunk {
				chunk := messages[first:min(first+benchChunk, len(messages))]
				if _, err := conn.PublishChunk(ctx, protocol.GuardSubject(protocol.Bulk, benchOrg, benchBatch, 0, first), subject, chunk); err != nil {
					b.Fatal(err)
				}
				if err := conn.Wake(broker.Shard{Lane: protocol.Bulk, Pool: protocol.DefaultPool, Index: protocol.ShardOf(benchOrg)}); err != nil {
					b.Fatal(err)
				}
			}
			<-driver.all
			cancel()
			if err := <-ended; err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			b.ReportMetric(float64(processTime(b)-before)/float64(b.N)/1e3, "cpu-µs/item")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "items/s")
		})
	}
}
