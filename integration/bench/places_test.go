package bench

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/producer"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/memory"
)

// places is where the items of the pipeline come from and go to: the same bytes each time, and nowhere.
type places struct {
	source *memory.Source
	stored atomic.Int64
}

// web is the driver of URLs.
type web struct{ *places }

func (w web) Get(string, map[string]string) storage.Source      { return w.source }
func (w web) Put(string, map[string]string) storage.Destination { return discard{w.places} }
func (w web) PostForm(string, map[string]string, string, string, map[string]string) storage.Destination {
	return discard{w.places}
}

// sandboxes is the driver of sandboxes.
type sandboxes struct{ *places }

func (s sandboxes) Source(string, string, string) storage.Source { return s.source }
func (s sandboxes) Destination(string, string, string, string, []string) storage.Destination {
	return discard{s.places}
}

var buffers = sync.Pool{New: func() any { return new([fileSize]byte) }}

// discard reads all and keeps nothing.
type discard struct{ to *places }

func (discard) NeedsSize() bool { return false }

func (d discard) Put(_ context.Context, content storage.Content) (storage.Stored, error) {
	buffer := buffers.Get().(*[fileSize]byte)
	defer buffers.Put(buffer)
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, content.Body, buffer[:])
	if err != nil {
		return storage.Stored{}, err
	}
	if err := content.Ready(); err != nil {
		return storage.Stored{}, err
	}
	d.to.stored.Add(1)
	return storage.Stored{Bytes: n}, nil
}

// records lets the registry live in a bucket, as the binary does it.
type records struct{ *broker.Bucket }

func (r records) Put(ctx context.Context, key string, value []byte) error {
	_, err := r.Bucket.Put(ctx, key, value)
	return err
}

func (r records) Create(ctx context.Context, key string, value []byte) error {
	_, err := r.Bucket.Create(ctx, key, value)
	if errors.Is(err, broker.ErrExists) {
		return producer.ErrExists
	}
	return err
}

func (r records) Watch(ctx context.Context) (<-chan producer.Record, error) {
	in, err := r.Bucket.Watch(ctx, ">")
	if err != nil {
		return nil, err
	}
	out := make(chan producer.Record)
	go func() {
		defer close(out)
		for w := range in {
			select {
			case out <- producer.Record{Key: w.Entry.Key, Value: w.Entry.Value, Deleted: w.Deleted, Current: w.Current}:
			case <-ctx.Done():
			}
		}
	}()
	return out, nil
}

// neither presigns nor is asked how it is.
type neither struct{}

func (neither) Presign(context.Context, producer.PresignRequest) (producer.Presigned, error) {
	return producer.Presigned{}, errors.New("not here")
}

func (neither) Ready(context.Context) []producer.Check { return nil }
