package worker

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
)

// errSpread is why an owner leaves off copying: the parts are many hands' work.
var errSpread = errors.New("the parts are spread")

// stretch reads parts of a source that follow each other over one connection.
type stretch struct {
	o       *owner
	body    io.ReadCloser // nil: none is open
	own     bool          // it is ours to close
	at      int64         // where it is
	left    int64         // bytes of the part that is read
	begun   time.Time
	read    int64 // bytes since then
	done    int   // parts since then
	checked bool  // it was looked once in mid-part whether the parts are to be spread
}

// firstLook is how long the first part may take before it is looked how long all will.
const firstLook = time.Second

// inOrder copies the parts that are missing, one behind the other, unless it finds that they are to be spread.
func (o *owner) inOrder(ctx context.Context, object *storage.Object) error {
	if parts, _ := o.left(); o.spread && parts > 1 && o.maySpread() && o.wait() {
		return errSpread // an earlier owner found so
	}
	s := &stretch{o: o, body: object.Body, begun: time.Now()}
	defer s.close()
	for n := o.missing(1); n > 0; n = o.missing(n + 1) {
		if err := s.part(ctx, n); err != nil {
			return err
		}
		if s.slow() {
			return errSpread
		}
	}
	return nil
}

// part copies one part.
func (s *stretch) part(ctx context.Context, number int) error {
	o := s.o
	if err := s.seek(ctx, o.offset(number)); err != nil {
		return err
	}
	s.left = o.sizeOf(number)
	chained := o.chain.at == s.at
	stored, err := o.to.PutPart(ctx, o.plan.Upload, storage.Part{Number: number, Offset: s.at, Size: s.left, Body: s})
	if err != nil {
		return err //nolint:wrapcheck // of the destination, or of the source and marked so
	}
	if err := s.check(number); err != nil {
		return err
	}
	s.done++
	state := protocol.PartState{
		Number: number, Size: stored.Size, Upload: o.plan.Upload, ETag: stored.ETag, Checksum: stored.Checksum, Worker: o.w.cfg.ID,
	}
	if chained {
		o.keepChain()
		state.Chain = o.kept
	}
	o.states[number-1] = state
	failpoint.HitItem(failpoint.PartStored, o.t.id)
	o.w.reportPart(o.j, &state, o.plan.Epoch, nil)
	o.states[number-1].Chain = nil // only a later owner needs it
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

// Read implements io.Reader: the part that is copied, and nothing of what follows.
func (s *stretch) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	if !s.checked && s.done == 0 && time.Since(s.begun) >= firstLook {
		s.checked = true
		if s.slow() {
			return 0, errSpread
		}
	}
	n, err := s.body.Read(p[:min(int64(len(p)), s.left)])
	o := s.o
	if o.chain.at == s.at && !o.chain.idle() {
		_, _ = o.chain.Write(p[:n]) // a hash never fails
	}
	s.at, s.left, s.read = s.at+int64(n), s.left-int64(n), s.read+int64(n)
	o.meter.count(n)
	if err != nil && (err != io.EOF || s.left > 0) { //nolint:errorlint // an error that wraps io.EOF is a broken connection
		if err == io.EOF { //nolint:errorlint // as above
			err = storage.Errorf(storage.Interrupted, "source_short", "read", "source", "the source gave %d of %d bytes", s.at, o.plan.Size)
		}
		return n, &sourceError{err}
	}
	return n, nil
}

// check has a part be read whole, and the last one be followed by nothing: drivers see only there that a source has changed.
func (s *stretch) check(number int) error {
	if s.left > 0 {
		return storage.Errorf(storage.Internal, "part_short", "write", s.o.t.dest.Redacted(), "%d bytes of part %d were not taken", s.left, number)
	}
	if number < s.o.plan.Count {
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
	passed := time.Since(s.begun)
	if parts < 2 || s.read == 0 && passed < firstLook || !o.maySpread() {
		return false
	}
	if float64(bytes)*float64(passed) <= float64(max(s.read, 1))*float64(o.w.cfg.SpreadAfter) {
		return false
	}
	return o.wait()
}
