package producer

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/protocol"
)

const (
	// interactiveItems is the number of items up to which a waiting call goes to the interactive lane.
	interactiveItems = 100
	// acceptTimeout bounds how long an acceptance may take, whether its caller still listens or not.
	acceptTimeout = 2 * time.Minute

	headerBatch = "Copyfleet-Batch"
)

// copyResults is the published answer of the copy call.
type copyResults struct {
	Results []copyResult `json:"results"`
}

type copyResult struct {
	ID      string `json:"id,omitempty"`
	Success bool   `json:"success"`
	Error   string `json:"error,omitempty"`
}

// runCopy accepts a validated copy call and waits for its end as long as the caller and the limits allow. If the caller
// hangs up the batch goes on.
func (s *Server) runCopy(w http.ResponseWriter, r *http.Request, call CopyCall) {
	o := call.order(traceOf(r))
	waiter, err := s.pipeline.wait(o.org, o.batch)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	defer waiter.stop()

	accepting, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), acceptTimeout)
	record, err := s.pipeline.acceptItems(accepting, o, asked(call.Items))
	cancel()
	call.Items = nil // they are in the queue; a call that waits holds none of them
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	s.accepted(r, &record)
	w.Header().Set(headerBatch, string(record.Batch))

	waiting, cancel := context.WithTimeout(r.Context(), call.patience(s.cfg.MaxWait))
	defer cancel()
	defer s.waits.join(cancel)()
	summary, ended := protocol.Summary{}, false
	if waiting.Err() == nil && call.waits() {
		summary, ended = waiter.end(waiting)
	}
	switch {
	case ended:
		s.writeResults(w, r, &record, &summary)
	case r.Context().Err() != nil:
		// The caller is gone; the batch goes on without it.
	case s.waits.over():
		s.stillRunning(w, r, record.Batch, CodeShuttingDown, "The server is shutting down; the batch goes on. Its Location tells how it ends.")
	case call.Async || call.Wait != nil:
		s.writeAccepted(w, r, &record, call)
	default:
		s.stillRunning(w, r, record.Batch, CodeStillRunning,
			"The batch did not end within "+s.cfg.MaxWait.String()+"; it goes on. Its Location tells how it ends.")
	}
	failpoint.Hit(failpoint.AnswerWritten)
}

// order makes the order of a call.
func (c *CopyCall) order(trace string) order {
	o := order{org: c.Org, trace: trace, terms: terms{lane: protocol.Interactive, pool: c.Sandbox.Pool, request: c.RequestDigest()}}
	if len(c.Items) > interactiveItems || !c.waits() {
		o.lane = protocol.Bulk
	}
	o.batch = protocol.NewBatchID()
	if c.IdempotencyKey != "" {
		o.batch, o.keyed = protocol.KeyedBatchID(c.Org, c.IdempotencyKey), true
	}
	return o
}

// asked goes through items that are in memory.
func asked(items []protocol.Item) func() (protocol.ManifestItem, error) {
	return func() (protocol.ManifestItem, error) {
		if len(items) == 0 {
			return protocol.ManifestItem{}, io.EOF
		}
		item := items[0].Asked()
		items[0], items = protocol.Item{}, items[1:]
		return item, nil
	}
}

// waits reports whether the caller waits at all.
func (c *CopyCall) waits() bool {
	if c.Wait != nil {
		return *c.Wait > 0
	}
	return !c.Async
}

func (c *CopyCall) patience(most time.Duration) time.Duration {
	if c.Wait != nil {
		return min(*c.Wait, most)
	}
	return most
}

func (s *Server) writeResults(w http.ResponseWriter, r *http.Request, record *protocol.Acceptance, summary *protocol.Summary) {
	receipts, err := s.pipeline.receipts(r.Context(), record, summary, 0, record.Total)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	answer := copyResults{Results: make([]copyResult, len(receipts))}
	for i := range receipts {
		answer.Results[i] = result(&receipts[i])
	}
	writeJSON(w, http.StatusOK, answer)
}

func result(receipt *protocol.Receipt) copyResult {
	out := copyResult{ID: receipt.ID}
	switch {
	case receipt.State == protocol.ItemSucceeded || receipt.State == protocol.ItemSkipped:
		out.Success = true
	case receipt.Failure != nil:
		out.Error = receipt.Failure.Message
	default:
		out.Error = "Not copied: " + string(receipt.State)
	}
	return out
}

func (s *Server) writeAccepted(w http.ResponseWriter, r *http.Request, record *protocol.Acceptance, call CopyCall) {
	view, err := s.view(r.Context(), record)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	w.Header().Set("Location", batchPath(record.Batch))
	if call.Async {
		w.Header().Add("Preference-Applied", "respond-async")
	}
	if call.Wait != nil {
		w.Header().Add("Preference-Applied", "wait="+strconv.Itoa(int(call.Wait.Seconds())))
	}
	writeJSON(w, http.StatusAccepted, view)
}

func (s *Server) stillRunning(w http.ResponseWriter, r *http.Request, id protocol.BatchID, code Code, message string) {
	w.Header().Set("Location", batchPath(id))
	writeProblem(w, r, newProblem(code, message))
}

func batchPath(id protocol.BatchID) string { return "/v1/batches/" + string(id) }

// The Retry-After, in seconds, of a full queue and of a full disk.
const (
	queueFullRetry = 5
	noSpaceRetry   = 30
)

// refuse answers for an error of the pipeline.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if p, ok := asProblem(err); ok {
		writeProblem(w, r, *p)
		return
	}
	switch {
	case errors.Is(err, errKeyReused):
		writeProblem(w, r, newProblem(CodeIdempotencyConflict, "This Idempotency-Key came with another request before."))
	case errors.Is(err, broker.ErrFull):
		p := newProblem(CodeQueueFull, "The queue is full; nothing was accepted. Try again later.")
		p.retryAfter = queueFullRetry
		writeProblem(w, r, p)
	case errors.Is(err, errBeyond):
		writeProblem(w, r, newProblem(CodeBodyTooLarge, "The batch has more items than may wait in the queue of this server; make several batches of it."))
	case errors.Is(err, errGivenUp):
		s.fault(r, "an acceptance was given up", err)
		writeProblem(w, r, newProblem(CodeUnavailable, "The acceptance took so long that it was given up; nothing was accepted. Send the request again."))
	case errors.Is(err, broker.ErrNoSpace):
		s.fault(r, "nothing is accepted: the disk is nearly full", err)
		p := newProblem(CodeNoSpace, "The server's disk is nearly full; nothing was accepted. Try again later.")
		p.retryAfter = noSpaceRetry
		writeProblem(w, r, p)
	case errors.Is(err, broker.ErrTooLarge):
		writeProblem(w, r, newProblem(CodeBodyTooLarge,
			"An item, or "+itoa(protocol.PageSize)+" items in a row in their compressed form, are larger than the queue takes."))
	case errors.Is(err, broker.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		s.fault(r, "the queue does not answer", err)
		writeProblem(w, r, newProblem(CodeUnavailable, "The queue does not answer. Repeat the request with an Idempotency-Key to be sure that it runs once."))
	default:
		s.fault(r, "a call failed", err)
		writeProblem(w, r, newProblem(CodeInternal, "The server failed to answer; its log says why."))
	}
}
