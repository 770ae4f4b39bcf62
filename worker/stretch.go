package worker

import (
	"context"
	"errors"
	"io"
	"math"
	"sync"
	"time"

	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
)

// errSpread is why an owner leaves off copying: the parts are many hands' work.
var errSpread = errors.New("the parts are spread")

// stretch reads parts of a source that follow each other over one connection. While the destination stores one part, the next is read
// already: what a store takes to answer, or a disk to sync, is not waited for with every part.
//
// All but last belongs to whoever reads: the goroutine of one piece, or, between two pieces, that of the owner.
type stretch struct {
	o       *owner
	body    io.ReadCloser // nil: none is open
	own     bool          // it is ours to close
	at      int64         // where it is
	begun   time.Time
	read    int64 // bytes since then
	parts   int   // that were begun since then
	checked bool  // it was looked once in mid-part whether the parts are to be spread

	last    *piece         // what was read and may still have to be stored; nil: nothing. The owner's
	storing sync.WaitGroup // pieces
}

// firstLook is how long the first part may take before it is looked how long all will.
const firstLook = time.Second

// inOrder copies the parts that are missing, one behind the other, unless it finds that they are to be spread.
func (o *owner) inOrder(ctx context.Context, object *storage.Object) error {
	if parts, _ := o.left(); (o.spread && parts > 1 || o.j.out && parts > 0) && o.maySpread() && o.wait() {
		return errSpread // an earlier owner found so, or this one before it began anew: it has no slot any more
	}
	s := &stretch{o: o, body: object.Body, begun: time.Now()}
	defer s.close()
	defer s.storing.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for n := o.missing(1); n > 0; n = o.missing(n + 1) {
		if err := s.part(ctx, n); err != nil {
			return err
		}
		if s.slow() {
			if err := s.settle(); err != nil {
				return err
			}
			return errSpread
		}
	}
	return s.settle()
}

// part reads a part, and sees to it that the one before is stored.
func (s *stretch) part(ctx context.Context, number int) error {
	if err := s.seek(ctx, s.o.offset(number)); err != nil {
		if before := s.settle(); before != nil {
			return before
		}
		return ofPart(number, err)
	}
	before := s.last != nil
	p := s.piece(ctx, number)
	if before { // else there is nothing to settle, and the first piece may look at what is left meanwhile
		if err := s.settle(); err != nil {
			return err
		}
	}
	select {
	case <-p.taken:
		s.last = p
		return nil
	case <-p.ended:
		s.last = p
		return s.settle()
	}
}

// settle waits until what was read last is stored, and tells of it.
func (s *stretch) settle() error {
	p := s.last
	if s.last = nil; p == nil {
		return nil
	}
	<-p.ended
	p.thrown.Repanic()
	if p.err != nil {
		return ofPart(p.number, p.err)
	}
	if err := s.check(p); err != nil {
		return ofPart(p.number, err)
	}
	o := s.o
	state := protocol.PartState{
		Number: p.number, Size: p.stored.Size, Upload: o.plan.Upload, ETag: p.stored.ETag, Checksum: p.stored.Checksum, Worker: o.w.cfg.ID,
		Chain: p.chain,
	}
	o.states[p.number-1] = state
	failpoint.HitItem(failpoint.PartStored, o.t.id)
	o.w.reportPart(o.j, &state, o.plan.Epoch, nil)
	o.states[p.number-1].Chain = nil // only a later owner needs it
	return nil
}

// seek opens the source where it is to be read, unless it is there already.
func (s *stretch) seek(ctx context.Context, offset int64) error {
	if s.body != nil && s.at == offset {
		return nil
	}
	s.close()
	object, err := s.o.w.copier.openRange(ctx, &s.o.t, s.o.from, s.o.mark, offset, storage.UnknownSize, s.o.resumes)
	if err != nil {
		return &sourceError{err}
	}
	s.body, s.own, s.at = object.Body, true, offset
	return nil
}

func (s *stretch) close() {
	if s.own {
		_ = s.body.Close() // read to its end, or failed already
	}
	s.body, s.own = nil, false
}

// check has a part be read whole, and the last one be followed by nothing: drivers see only there that a source has changed.
func (s *stretch) check(p *piece) error {
	if p.left > 0 {
		return storage.Errorf(storage.Internal, "part_short", "write", s.o.t.dest.Redacted(), "%d bytes of part %d were not taken", p.left, p.number)
	}
	if p.number < s.o.plan.Count {
		return nil
	}
	var more [1]byte
	for range 100 { // a reader may give nothing and no error for a while
		n, err := s.body.Read(more[:])
		switch {
		case n > 0:
			return &sourceError{storage.Errorf(storage.Corrupt, "source_long", "read", "source", "the source gave more than %d bytes", s.o.plan.Size)}
		case err == io.EOF:
			return nil
		case err != nil:
			return &sourceError{err}
		}
	}
	return nil
}

// slow reports whether what is left takes so long at the rate seen that others are to help, and may do so. The place among those that
// wait for parts is taken then.
func (s *stretch) slow() bool {
	o := s.o
	parts, bytes := o.left()
	if s.last != nil { // it only has to be stored
		parts, bytes = parts-1, bytes-o.sizeOf(s.last.number)
	}
	passed := time.Since(s.begun)
	if parts < 2 || s.read == 0 && passed < firstLook || !o.maySpread() {
		return false
	}
	rest := time.Duration(min(float64(bytes)*float64(passed)/float64(max(s.read, 1)), math.MaxInt64/2))
	return rest > spreadWorth(o.w.cfg.SpreadAfter, o.readAgain(bytes)) && o.wait()
}

// spreadWorth is how long the rest of an item must take by itself for help to be worth it: longer than after, and longer by what it takes to
// read again what others wrote. That counts for twice as long at most: with more workers than one, a rest that takes that long is done sooner by many
// all the same.
func spreadWorth(after time.Duration, again int64) time.Duration {
	return after + min(time.Duration(float64(again)/readAgainRate*float64(time.Second)), 2*after)
}

// readAgainRate is at how many bytes a second a worker with little else to do reads again and digests what others wrote.
const readAgainRate = 256 << 20

// readAgain is how many bytes must be read once more for the digest if so many that are left are copied by others.
func (o *owner) readAgain(left int64) int64 {
	if o.chain.idle() {
		return 0
	}
	if _, can := o.to.(storage.UploadReader); !can {
		return o.plan.Size // an object is read when it is whole
	}
	return left
}
