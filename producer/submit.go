package producer

import (
	"context"
	"errors"
	"io"
	"net/http"

	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/protocol"
)

// submitBatch accepts a batch of any size: 202 as soon as it is durable. Its body is a JSON document, or a manifest in one of the formats
// of [Server.openIntake], read as it comes in.
func (s *Server) submitBatch(w http.ResponseWriter, r *http.Request) {
	key, p := idempotencyKey(r.Header)
	if p != nil {
		writeProblem(w, r, *p)
		return
	}
	in, p := s.openIntake(w, r)
	if p != nil {
		writeProblem(w, r, *p)
		return
	}
	defer in.close()
	if in.plan {
		if err := s.planBatch(w, r, in.next, func() string { return in.check.poolOr(protocol.DefaultPool) }); err != nil {
			in.drain()
			if p := planRefusal(err); p != nil {
				writeProblem(w, r, *p)
			} else {
				s.refuse(w, r, err)
			}
		}
		return
	}
	record, err := s.pipeline.acceptItems(r.Context(), in.order(key, traceOf(r)), in.next)
	if err != nil {
		in.drain()
		s.refuse(w, r, err)
		return
	}
	s.accepted(r, &record)
	s.writeBatch(w, r, &record)
	failpoint.Hit(failpoint.AnswerWritten)
}

// writeBatch answers 202 with a batch that was accepted.
func (s *Server) writeBatch(w http.ResponseWriter, r *http.Request, record *protocol.Acceptance) {
	view, err := s.view(r.Context(), record)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	w.Header().Set(headerBatch, string(record.Batch))
	w.Header().Set("Location", batchPath(record.Batch))
	writeJSON(w, http.StatusAccepted, view)
}

// intake reads and validates the items of a batch, one by one.
type intake struct {
	server  *Server
	source  *upload
	rows    rows
	check   *itemCheck
	options options
	plan    bool
	ended   bool
	known   [32]byte // what the digest is made of beside the body
	budget  *share
	room    int64 // of the budget, for pages of items
	page    int64 // bytes of the items of the page that is being read
	limit   int   // items
}

// order is the order for what an intake reads.
func (in *intake) order(key, trace string) order {
	o := order{org: in.check.org, batch: protocol.NewBatchID(), trace: trace, prepare: in.check.makeSandboxes}
	if key != "" {
		o.batch, o.keyed = protocol.KeyedBatchID(o.org, key), true
	}
	o.lane, o.pool = protocol.Bulk, protocol.DefaultPool // shown until the end of the body says better
	if in.source.object {
		o.request = in.digest() // the body is read already; what it names need not be read again for a repetition
	}
	o.closing = func() (terms, error) {
		options, err := in.options.seal(in.server.pipeline.sealer, o.org, o.batch)
		if err != nil {
			return terms{}, err
		}
		return terms{
			lane: in.options.lane, pool: in.check.poolOr(protocol.DefaultPool), label: in.options.label, options: options, request: in.digest(),
		}, nil
	}
	return o
}

// refusal is a problem on its way through the pipeline.
type refusal struct{ problem *Problem }

// Error implements error.
func (e *refusal) Error() string { return e.problem.Message }

// asProblem returns the problem that an error is, if it is one.
func asProblem(err error) (*Problem, bool) {
	if e, ok := errors.AsType[*refusal](err); ok {
		return e.problem, true
	}
	return nil, false
}

// rows reads one format.
type rows interface {
	// next returns the next item. What is wrong with it is in the problems of the check, and it is of no use then. The error is io.EOF
	// at the end, errStuck where nothing more can be read, which a problem tells, or that of the reader.
	next(c *itemCheck) (protocol.ManifestItem, error)
}

// errStuck says that the rest of a body cannot be read: what is wrong is among the problems.
var errStuck = errors.New("the rest cannot be read")

// next returns the next item, io.EOF, or a [refusal] with all that is wrong with the body.
func (in *intake) next() (protocol.ManifestItem, error) {
	p := &in.check.problems
	for {
		item, err := in.rows.next(in.check)
		switch {
		case errIsEOF(err):
			return item, in.end()
		case errors.Is(err, errStuck):
			return item, in.refused()
		case err != nil:
			return item, in.unreadable(err)
		}
		in.check.count++
		if err := in.another(); err != nil {
			return item, err
		}
		if p.total == 0 {
			if problem := in.hold(&item); problem != nil {
				return item, &refusal{problem}
			}
			return item, nil
		}
		if p.full() {
			return item, in.refused()
		}
	}
}

// end returns io.EOF, unless something is wrong with what was read.
func (in *intake) end() error {
	p := &in.check.problems
	in.ended = true
	if in.check.count == 0 && p.total == 0 {
		p.add("", faultEmpty, "There must be one item at least.")
	}
	if p.total > 0 {
		return in.refused()
	}
	if problem := crowds(in.options.lane, in.check.count); problem != nil { // a document may name its lane behind its items
		return &refusal{problem}
	}
	return io.EOF
}

// another refuses an item that is one too many.
func (in *intake) another() error {
	p := &in.check.problems
	if in.check.count > in.limit {
		p.add("", faultTooMany, "There are more than "+itoa(in.limit)+" items, which is the most for one batch.")
		return in.refused()
	}
	if problem := crowds(in.options.lane, in.check.count); problem != nil && p.total == 0 {
		return &refusal{problem}
	}
	if in.check.crowded || in.check.count == protocol.PageSize+1 && !in.large() {
		return &refusal{busy()}
	}
	return nil
}

func (in *intake) refused() error {
	return &refusal{in.check.problem()}
}

// unreadable tells why a body, or the object that it names, could not be read to its end.
func (in *intake) unreadable(err error) error {
	if _, ok := asProblem(err); ok {
		return err
	}
	var p Problem
	switch {
	case in.source.object:
		in.server.fault(in.source.request, "read a manifest from its bucket", err)
		p = newProblem(CodeStorageUnavailable, "The manifest could not be read to its end; nothing was accepted.")
	default:
		p = newProblem(CodeBodyIncomplete, "The body ended before its announced length, or came too slowly; nothing was accepted.")
	}
	return &refusal{&p}
}

// drain reads on for a while after a refusal, so that the client sees the answer.
func (in *intake) drain() {
	if in.ended || in.source.object {
		return
	}
	in.source.drain()
}

// close gives back what the intake holds.
func (in *intake) close() {
	in.source.close()
	in.budget.release()
}

// makeSandboxes lets the unknown sandboxes of a batch come into being. It runs when all of the batch is validated.
func (c *itemCheck) makeSandboxes(ctx context.Context) error {
	for id := range c.fresh {
		sandbox, err := c.tenancy.registry.EnsureSandbox(ctx, c.org, id)
		if err != nil {
			return err
		}
		if pool := c.poolOr(sandbox.Pool); sandbox.Pool != pool { // registered by somebody else meanwhile
			c.problems.add("", faultMixedPools, "The batch speaks of sandboxes of several pools, which the same workers do not reach.")
			return &refusal{c.problem()}
		}
	}
	return nil
}
