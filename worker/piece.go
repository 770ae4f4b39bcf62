package worker

import (
	"context"
	"io"
	"time"

	"github.com/sourcegraph/conc/panics"

	"github.com/copyfleet/copyfleet/storage"
)

// piece is a part on its way from a stretch to the destination.
type piece struct {
	s       *stretch
	ctx     context.Context //nolint:containedctx // of the one copy that it is made for
	number  int
	left    int64  // bytes to be read
	first   bool   // of its stretch: nothing is being stored beside it
	chained bool   // it follows what was digested
	chain   []byte // the state of the digest behind it
	taken   chan struct{}

	ended  chan struct{} // then the following is set
	stored storage.PartStored
	err    error
	thrown panics.Catcher
}

// piece begins to move a part from where the stretch is. The stretch belongs to the piece until its channel taken is closed, which
// says that all of it was read, or ended is.
func (s *stretch) piece(ctx context.Context, number int) *piece {
	o := s.o
	size := o.sizeOf(number)
	p := &piece{
		s: s, ctx: ctx, number: number, left: size, first: s.parts == 0, chained: o.chain.at == s.at,
		taken: make(chan struct{}), ended: make(chan struct{}),
	}
	s.parts++
	part := storage.Part{Number: number, Offset: s.at, Size: size, Body: p}
	s.storing.Go(func() {
		defer close(p.ended)
		p.thrown.Try(func() { p.stored, p.err = o.to.PutPart(ctx, o.plan.Upload, part) })
	})
	return p
}

// Read implements io.Reader: the part that is copied, and nothing of what follows.
func (p *piece) Read(b []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	if p.ctx.Err() != nil { // another part failed
		return 0, context.Cause(p.ctx) //nolint:wrapcheck // says whose wish it was
	}
	s := p.s
	if !s.checked && p.first && time.Since(s.begun) >= firstLook {
		s.checked = true
		if s.slow() {
			return 0, errSpread
		}
	}
	n, err := s.body.Read(b[:min(int64(len(b)), p.left)])
	o := s.o
	if o.chain.at == s.at && !o.chain.idle() {
		_, _ = o.chain.Write(b[:n]) // a hash never fails
	}
	s.at, s.read = s.at+int64(n), s.read+int64(n)
	o.meter.count(n)
	if err != nil && (err != io.EOF || int64(n) < p.left) { //nolint:errorlint // an error that wraps io.EOF is a broken connection
		if err == io.EOF { //nolint:errorlint // as above
			err = storage.Errorf(storage.Interrupted, "source_short", "read", "source", "the source gave %d of %d bytes", s.at, o.plan.Size)
		}
		p.left -= int64(n)
		return n, &sourceError{err}
	}
	if p.left -= int64(n); p.left == 0 {
		if p.chained {
			o.keepChain()
			p.chain = o.kept
		}
		close(p.taken) // from here on the next one reads
	}
	return n, nil
}
