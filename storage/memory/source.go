package memory

import (
	"context"
	"io"
	"os"
	"sync"
	"time"

	"github.com/copyfleet/copyfleet/storage"
)

// Source is bytes that can be read. The zero value is empty and has no faults.
type Source struct {
	Data        []byte
	ContentType string
	ETag        string
	Modified    time.Time

	// Unknown makes Object.Size storage.UnknownSize.
	Unknown bool
	// Lacks is how many bytes more (or, if negative, fewer) than len(Data) Object.Size tells. Reading then ends as a
	// driver must end it: with source_short or source_changed, and never with more than Object.Size bytes.
	Lacks int
	// Unchecked lets a source with Lacks give all its Data and io.EOF, as a driver never may, to show that what
	// reads it checks for itself.
	Unchecked bool
	// Fail, unless nil, is what Read returns once FailAfter bytes were read.
	Fail      error
	FailAfter int
	// FailOpen, unless nil, is what Open returns.
	FailOpen error
	// Step is how many bytes a Read gives at most; 0 is as many as fit.
	Step int
}

// NewSource returns a source of data without faults.
func NewSource(data []byte) *Source { return &Source{Data: data} }

// Missing returns a source of something that does not exist.
func Missing() *Source {
	return &Source{FailOpen: storage.Errorf(storage.NotFound, "not_found", "open", subject, "it does not exist")}
}

// Open starts reading from the first byte.
func (s *Source) Open(ctx context.Context) (*storage.Object, error) {
	if err := stopped(ctx, "open"); err != nil {
		return nil, err
	}
	if s.FailOpen != nil {
		return nil, s.FailOpen
	}
	size := int64(max(0, len(s.Data)+s.Lacks))
	b := &body{ctx: ctx, source: s, size: size}
	if s.Unknown {
		b.size, size = int64(len(s.Data)), storage.UnknownSize
	}
	return &storage.Object{Body: b, Size: size, ContentType: s.ContentType, ETag: s.ETag, Modified: s.Modified}, nil
}

// body reads a source. A lock lets Close come from another goroutine.
type body struct {
	ctx    context.Context
	source *Source
	size   int64 // what reading must give

	mu     sync.Mutex
	read   int
	closed bool
}

func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.blocked(); err != nil {
		return 0, err
	}
	if len(p) == 0 {
		return 0, nil
	}
	limit := b.limit()
	if b.read >= limit {
		return 0, b.end()
	}
	if b.source.Step > 0 {
		p = p[:min(len(p), b.source.Step)]
	}
	n := copy(p, b.source.Data[b.read:limit])
	b.read += n
	return n, nil
}

// blocked tells why nothing can be read, if that is so.
func (b *body) blocked() error {
	if b.closed {
		return &storage.Error{
			Class: storage.Internal, Code: "closed", Op: "read", Subject: subject,
			Message: "it was closed", Err: os.ErrClosed,
		}
	}
	return stopped(b.ctx, "read")
}

// limit is how many bytes Read gives before it ends.
func (b *body) limit() int {
	limit := len(b.source.Data)
	if !b.source.Unchecked {
		limit = min(limit, int(b.size))
	}
	if b.source.Fail != nil {
		limit = min(limit, b.source.FailAfter)
	}
	return limit
}

// end is what follows the last byte.
func (b *body) end() error {
	have, want := len(b.source.Data), int(b.size)
	switch {
	case b.source.Fail != nil:
		return b.source.Fail
	case b.source.Unchecked || have == want:
		return io.EOF
	case have < want:
		return storage.Errorf(storage.Corrupt, "source_short", "read", subject, "it ended after %d of %d bytes", have, want)
	default:
		return storage.Errorf(storage.Corrupt, "source_changed", "read", subject, "it has more than the %d bytes it had", want)
	}
}

func (b *body) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return nil
}
