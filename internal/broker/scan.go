package broker

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// scanBatch is how many entries a scan fetches at once; scanIdle how long the server keeps a scan whose reader is gone.
const (
	scanBatch = 256
	scanIdle  = 30 * time.Second
)

// Scanned is an entry of a scan, with the time of its last write.
type Scanned struct {
	Entry

	Written time.Time
}

// Scan calls visit for the entries whose keys match a filter, in the order of their last writes, the oldest first, until there
// are no more or visit returns false. It holds a few of them in memory, however many there are.
func (b *Bucket) Scan(ctx context.Context, filter string, visit func(Scanned) bool) error {
	consumer, err := b.stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		FilterSubject: b.subject(filter), DeliverPolicy: jetstream.DeliverAllPolicy, AckPolicy: jetstream.AckNonePolicy,
		MemoryStorage: true, Replicas: 1, InactiveThreshold: scanIdle,
	})
	if err != nil {
		return b.wrap("scan", filter, classify(err))
	}
	name := consumer.CachedInfo().Name
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
		defer cancel()
		_ = b.stream.DeleteConsumer(ctx, name) // the server does it by itself after scanIdle
	}()
	for left := consumer.CachedInfo().NumPending; left > 0; {
		more, err := b.visit(ctx, consumer, &left, visit)
		if err != nil {
			return b.wrap("scan", filter, err)
		}
		if !more {
			return nil
		}
	}
	return nil
}

func (b *Bucket) visit(ctx context.Context, consumer jetstream.Consumer, left *uint64, visit func(Scanned) bool) (bool, error) {
	fetched, err := consumer.Fetch(int(min(*left, scanBatch)), jetstream.FetchMaxWait(requestTimeout))
	if err != nil {
		return false, classify(err)
	}
	got, more := 0, true
	for msg := range fetched.Messages() { // to its end: the fetch leaks otherwise
		got++
		if !more || msg.Headers().Get(headerOperation) != "" {
			continue
		}
		meta, err := msg.Metadata()
		if err != nil {
			return false, fmt.Errorf("an entry without metadata: %w", err)
		}
		*left = meta.NumPending
		key := msg.Subject()[len(bucketPrefix(b.name)):]
		more = visit(Scanned{Entry: Entry{Key: key, Value: b.unpack(msg.Data()), Revision: meta.Sequence.Stream}, Written: meta.Timestamp})
	}
	if err := fetched.Error(); err != nil {
		return false, classify(err)
	}
	if got == 0 {
		return false, ctx.Err() // what was pending has been removed meanwhile
	}
	return more, nil
}
