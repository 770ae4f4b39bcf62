package producer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// Limits of the event streams of a front.
const (
	// maxWatchers bounds the streams that are open at once; those of one org are three quarters of it at most.
	maxWatchers = 10_000
	// heartbeatEvery is how often a silent stream shows that it lives.
	heartbeatEvery = 15 * time.Second
	// writeWithin is how long a watcher may leave what it was sent unread, once the buffers between are full.
	writeWithin = 15 * time.Second
	// reconnectAfter is what watchers are asked to wait before they come again, in milliseconds.
	reconnectAfter = 2000
)

// errWatchers says that no more watchers are taken.
var errWatchers = errors.New("there are too many watchers")

// watchBatch streams what becomes of a batch as server-sent events (WHATWG HTML, 9.2). Each event tells the whole state, so that a
// watcher that comes again needs no more than the newest. Its id consists of revisions in KV, which outlive this
// process: Last-Event-ID is understood by any front.
func (s *Server) watchBatch(w http.ResponseWriter, r *http.Request) {
	record, ok := s.batchOf(w, r)
	if !ok {
		return
	}
	now, found, err := s.pipeline.look(r.Context(), record.Org, record.Batch, nil)
	if err != nil || !found {
		s.refuseMissing(w, r, err)
		return
	}
	last := r.Header.Get("Last-Event-ID")
	if now.ended() && strings.HasSuffix(last, finalMark) {
		w.WriteHeader(http.StatusNoContent) // an EventSource that gets this comes no more
		return
	}
	h, err := s.pipeline.join(r.Context(), record.Org, record.Batch)
	if errors.Is(err, errWatchers) {
		writeProblem(w, r, newProblem(CodeBusy, "Too many event streams are open. Try again later, or ask for the batch now and then."))
		return
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	defer s.pipeline.leave(h)
	s.metrics.Watching(r.Context(), +1)
	defer s.metrics.Watching(r.Context(), -1)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer s.streaming.join(cancel)()
	out := newEventWriter(w, &s.pipeline.views.streams)
	defer out.close()
	if err := out.begin(); err != nil || r.Method == http.MethodHead {
		return
	}
	if err := out.relay(ctx, h, last); err != nil {
		s.cfg.Logger.DebugContext(ctx, "an event stream was cut off", "batch", record.Batch, logError, err)
	}
}

// refuseMissing answers for a batch that was removed a moment ago, or that could not be read.
func (s *Server) refuseMissing(w http.ResponseWriter, r *http.Request, err error) {
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	writeProblem(w, r, newProblem(CodeBatchNotFound, "There is no such batch."))
}

// finalMark ends the id of an event after which there is no other.
const finalMark = "-end"

// eventID names a state of a batch: the revisions of the records that it was derived from.
func (s *snapshot) eventID() string {
	id := fmt.Sprintf("%d-%d-%d", s.accepted, s.summarized, s.controlled)
	if s.ended() {
		id += finalMark
	}
	return id
}

// eventWriter writes to one watcher. It holds nothing: a watcher that does not read costs what its connection buffers, until a
// write has taken too long.
type eventWriter struct {
	w         http.ResponseWriter
	conn      *http.ResponseController
	heartbeat time.Duration
	within    time.Duration
}

func newEventWriter(w http.ResponseWriter, streams *streams) *eventWriter {
	return &eventWriter{w: w, conn: http.NewResponseController(w), heartbeat: streams.heartbeat, within: streams.within}
}

// begin writes the header, and sees to it that the server's limit on reading a request does not end the stream.
func (e *eventWriter) begin() error {
	if err := e.conn.SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("begin an event stream: %w", err)
	}
	header := e.w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("X-Accel-Buffering", "no") // or a proxy would keep the events for itself
	e.w.WriteHeader(http.StatusOK)
	return e.write(fmt.Appendf(nil, "retry: %d\n\n", reconnectAfter))
}

func (e *eventWriter) write(data []byte) error {
	if err := e.conn.SetWriteDeadline(time.Now().Add(e.within)); err != nil {
		return fmt.Errorf("write an event: %w", err)
	}
	if _, err := e.w.Write(data); err != nil {
		return fmt.Errorf("write an event: %w", err)
	}
	if err := e.conn.Flush(); err != nil {
		return fmt.Errorf("write an event: %w", err)
	}
	return nil
}

// close takes the limit off the connection: another request may follow on it.
func (e *eventWriter) close() { _ = e.conn.SetWriteDeadline(time.Time{}) } // fails on a connection that is gone

// relay passes on what the hub tells until the batch has ended, the watcher is gone, or ctx ends. A state that the watcher
// has seen, by the id of its last event, is not told again.
func (e *eventWriter) relay(ctx context.Context, h *hub, last string) error {
	silent := time.NewTicker(e.heartbeat)
	defer silent.Stop()
	var seen tidings
	for {
		now := h.tidings()
		if now.batch != nil && now.batch != seen.batch && (seen.batch != nil || now.batch.id != last) {
			if err := e.write(now.batch.data); err != nil {
				return err
			}
			silent.Reset(e.heartbeat)
		}
		if now.over {
			return nil
		}
		if now.progress != nil && now.progress != seen.progress {
			if err := e.write(now.progress.data); err != nil {
				return err
			}
			silent.Reset(e.heartbeat)
		}
		seen = now
		select {
		case <-now.next:
		case <-silent.C:
			if err := e.write([]byte(": still here\n\n")); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// join lets a call watch a batch; all watchers of a batch share one hub. Whoever joined leaves.
func (p *Pipeline) join(ctx context.Context, org protocol.OrgID, id protocol.BatchID) (*hub, error) {
	return p.views.streams.join(context.WithoutCancel(ctx), org, protocol.ControlKey(org, id), func(ctx context.Context, h *hub) {
		p.observe(ctx, h, org, id)
	})
}

func (p *Pipeline) leave(h *hub) { p.views.streams.leave(h) }
