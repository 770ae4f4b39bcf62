package bench

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/copyfleet/copyfleet/internal/broker"
)

// queue is the embedded server as "up" runs it, with a plain connection beside ours.
type queue struct {
	conn *broker.Conn
	js   jetstream.JetStream
}

func startQueue(b *testing.B) *queue {
	b.Helper()
	quiet := slog.New(slog.DiscardHandler)
	server, err := broker.StartServer(broker.ServerConfig{Dir: b.TempDir(), Listen: "127.0.0.1:0", Logger: quiet})
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
	plain, err := nats.Connect(server.URL())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(plain.Close)
	js, err := jetstream.New(plain, jetstream.WithPublishAsyncMaxPending(fillPending))
	if err != nil {
		b.Fatal(err)
	}
	return &queue{conn: conn, js: js}
}

// BenchmarkAcknowledge is the time until the server has taken an acknowledgement, on a stream that deletes what
// is acknowledged and on one that only remembers it: docs/adr/0001-limits-streams.md.
func BenchmarkAcknowledge(b *testing.B) {
	for _, c := range []struct {
		name      string
		retention jetstream.RetentionPolicy
	}{{"WorkQueue", jetstream.WorkQueuePolicy}, {"Limits", jetstream.LimitsPolicy}} {
		b.Run("stream="+c.name, func(b *testing.B) {
			q, messages := startQueue(b), scale(5000)
			var spent time.Duration
			done := 0
			for b.Loop() {
				consumer := q.filled(b, c.retention, messages)
				pending := fetchAll(b, consumer, messages)
				begun := time.Now()
				for _, msg := range pending {
					if err := msg.Ack(); err != nil {
						b.Fatal(err)
					}
				}
				allAcknowledged(b, consumer)
				spent += time.Since(begun)
				done += messages
			}
			onlyOurs(b)
			b.ReportMetric(float64(done)/spent.Seconds(), "acks/s")
		})
	}
}

const (
	ackStream   = "BENCH"
	fillPending = 10_000 // messages on their way while the stream is filled
)

// filled makes the stream anew, with a consumer and messages.
func (q *queue) filled(b *testing.B, retention jetstream.RetentionPolicy, messages int) jetstream.Consumer {
	b.Helper()
	ctx := b.Context()
	_ = q.js.DeleteStream(ctx, ackStream) // not there the first time
	stream, err := q.js.CreateStream(ctx, jetstream.StreamConfig{Name: ackStream, Subjects: []string{"bench"}, Retention: retention, Storage: jetstream.FileStorage})
	if err != nil {
		b.Fatal(err)
	}
	consumer, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{Durable: "bench", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: messages})
	if err != nil {
		b.Fatal(err)
	}
	payload := make([]byte, 512)
	for range messages {
		if _, err := q.js.PublishAsync("bench", payload); err != nil {
			b.Fatal(err)
		}
	}
	select {
	case <-q.js.PublishAsyncComplete():
	case <-time.After(roundLimit):
		b.Fatal("the messages were not stored")
	}
	return consumer
}

func fetchAll(b *testing.B, consumer jetstream.Consumer, messages int) []jetstream.Msg {
	b.Helper()
	got := make([]jetstream.Msg, 0, messages)
	for len(got) < messages {
		batch, err := consumer.Fetch(min(500, messages-len(got)), jetstream.FetchMaxWait(startLimit))
		if err != nil {
			b.Fatal(err)
		}
		before := len(got)
		for msg := range batch.Messages() {
			got = append(got, msg)
		}
		if batch.Error() != nil || len(got) == before {
			b.Fatalf("%d of %d messages came: %v", len(got), messages, batch.Error())
		}
	}
	return got
}

func allAcknowledged(b *testing.B, consumer jetstream.Consumer) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), roundLimit)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		info, err := consumer.Info(ctx)
		if err != nil {
			b.Fatal(err)
		}
		if info.NumAckPending == 0 {
			return
		}
		<-tick.C
	}
}

// BenchmarkStore is the time to store n small records durably: as one atomic batch with one fsync, and as n
// plain publishes one after the other, an fsync each.
func BenchmarkStore(b *testing.B) {
	for _, n := range []int{2, 10, 100, 1000} {
		for _, how := range []string{"atomic", "plain"} {
			b.Run(fmt.Sprintf("records=%d/how=%s", n, how), func(b *testing.B) {
				bucket, err := startQueue(b).conn.Bucket(b.Context(), broker.BatchBucket)
				if err != nil {
					b.Fatal(err)
				}
				value, round := make([]byte, 512), 0
				changes := make([]broker.Change, n)
				for b.Loop() {
					round++
					for i := range changes {
						changes[i] = broker.Change{Key: strconv.Itoa(round) + "." + strconv.Itoa(i), Value: value}
					}
					if err := storeAll(b.Context(), bucket, changes, how == "atomic"); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*n), "µs/record")
			})
		}
	}
}

func storeAll(ctx context.Context, bucket *broker.Bucket, changes []broker.Change, atomic bool) error {
	if atomic {
		_, err := bucket.Commit(ctx, changes)
		return err
	}
	for _, change := range changes {
		if _, err := bucket.Update(ctx, change); err != nil {
			return err
		}
	}
	return nil
}
