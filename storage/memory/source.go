package memory

import (
	"context"
	"io"
	"os"
	"sync"
	"sync/atomic"
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
	// Fail, unless nil, is what Read returns once FailAfter bytes of a body were read. A body of fewer bytes does not fail.
	Fail      error
	FailAfter int
	// FailTimes is how many bodies fail, of those opened first; 0: each does.
	FailTimes int
	// FailOpen, unless nil, is what Open returns.
	FailOpen error
	// NoRanges makes OpenRange answer as a source that gives itself only as a whole.
	NoRanges bool
	// FailRange, unless nil, is what OpenRange returns.
	FailRange error
	// Step is how many bytes a Read gives at most; 0 is as many as fit.
	Step int

	opened int64 //nolint:modernize // bodies so far; atomic, but a source without faults may be copied
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
	mark := s.mark()
	b := &body{ctx: ctx, source: s, data: s.Data, size: max(0, len(s.Data)+s.Lacks), fails: s.fails()}
	if s.Unknown {
		b.size = len(s.Data)
	}
	return s.object(b, mark.Size), nil
}

// OpenRange starts reading at an offset, if the source is still what mark says. Between uses its fields may be changed.
func (s *Source) OpenRange(ctx context.Context, mark storage.Mark, offset, length int64) (*storage.Object, error) {
	if err := stopped(ctx, "open"); err != nil {
		return nil, err
	}
	switch {
	case s.FailOpen != nil:
		return nil, s.FailOpen
	case s.FailRange != nil:
		return nil, s.FailRange
	case s.NoRanges, !mark.Strong():
		return nil, storage.Errorf(storage.Invalid, storage.CodeNoRanges, "open", subject, "it gives itself only as a whole")
	case !mark.Equal(s.mark()):
		return nil, storage.Errorf(storage.Corrupt, storage.CodeSourceChanged, "open", subject, "it is not what it was")
	case offset < 0 || offset > mark.Size:
		return nil, storage.Errorf(storage.Invalid, "range_invalid", "open", subject, "byte %d is none of its %d", offset, mark.Size)
	}
	end := mark.Size
	if length != storage.UnknownSize {
		end = min(end, offset+max(0, length))
	}
	b := &body{ctx: ctx, source: s, data: s.Data, from: int(offset), size: int(end - offset), ranged: end < mark.Size, fails: s.fails()}
	return s.object(b, int64(b.size)), nil
}

// mark is the state that the source tells.
func (s *Source) mark() storage.Mark {
	m := storage.Mark{ETag: s.ETag, Modified: s.Modified, Size: int64(max(0, len(s.Data)+s.Lacks))}
	if s.Unknown {
		m.Size = storage.UnknownSize
	}
	return m
}

// fails counts a body and tells whether it will fail.
func (s *Source) fails() bool {
	n := atomic.AddInt64(&s.opened, 1)
	return s.Fail != nil && (s.FailTimes == 0 || n <= int64(s.FailTimes))
}

func (s *Source) object(b *body, size int64) *storage.Object {
	return &storage.Object{Body: b, Size: size, ContentType: s.ContentType, ETag: s.ETag, Modified: s.Modified, Ranges: !s.NoRanges}
}

// body reads a source. A lock lets Close come from another goroutine.
type body struct {
	ctx    context.Context
	source *Source
	data   []byte // of the source, when it was opened
	from   int    // where it begins in the source
	size   int    // what reading must give
	ranged bool   // it ends before the source does
	fails  bool

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
	have := b.data[min(b.from, len(b.data)):]
	limit := b.limit(len(have))
	if b.read >= limit {
		return 0, b.end(len(have))
	}
	if b.source.Step > 0 {
		p = p[:min(len(p), b.source.Step)]
	}
	n := copy(p, have[b.read:limit])
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

// limit is how many of the bytes that the source has for it the body gives before it ends.
func (b *body) limit(have int) int {
	limit := have
	if !b.source.Unchecked || b.ranged {
		limit = min(limit, b.size)
	}
	if b.fails {
		limit = min(limit, b.source.FailAfter)
	}
	return limit
}

// end is what follows the last byte.
func (b *body) end(have int) error {
	switch {
	case b.fails && b.read >= b.source.FailAfter:
		return b.source.Fail
	case b.source.Unchecked, b.ranged && have >= b.size, have == b.size:
		return io.EOF
	case have < b.size:
		return storage.Errorf(storage.Corrupt, "source_short", "read", subject, "it ended after %d of %d bytes", have, b.size)
	default:
		return storage.Errorf(storage.Corrupt, storage.CodeSourceChanged, "read", subject, "it has more than the %d bytes it had", b.size)
	}
}

func (b *body) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return nil
}
