package producer

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

const waitLimit = time.Minute

// ended waits for the end of the batch b.
func (s *stage) ended(fresh bool, tell func()) (protocol.Summary, bool) {
	s.Helper()
	w, err := s.pipeline.wait("ORG", "b")
	if err != nil {
		s.Fatal(err)
	}
	defer w.stop()
	tell()
	ctx, cancel := context.WithTimeout(s.Context(), waitLimit)
	defer cancel()
	return w.end(ctx, fresh)
}

func (s *stage) tellEnd(batch protocol.BatchID, sum *protocol.Summary) {
	s.Helper()
	value, err := protocol.Encode(sum)
	if err != nil {
		s.Fatal(err)
	}
	if err := s.conn.Ended("ORG", batch, value); err != nil {
		s.Fatal(err)
	}
}

// TestWaiterTakesWhatItIsTold: the summary comes with the news, and is not read.
func TestWaiterTakesWhatItIsTold(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	sum := protocol.Summary{Org: "ORG", Batch: "b", Total: 1, State: protocol.BatchSucceeded, Reason: "as told"}
	got, ended := s.ended(true, func() { s.tellEnd("b", &sum) })
	if !ended || got.Reason != "as told" {
		t.Errorf("it ends %t with %+v", ended, got)
	}
}

// TestWaiterReadsWhatItIsNotTold: a summary that is large, or that is none of this batch, is read from where it stands.
func TestWaiterReadsWhatItIsNotTold(t *testing.T) {
	t.Parallel()
	for name, told := range map[string]protocol.Summary{
		"large":       {Org: "ORG", Batch: "b", Total: 1, State: protocol.BatchSucceeded, Reason: strings.Repeat("x", 8<<10)},
		"of another":  {Org: "ORG", Batch: "c", Total: 1, State: protocol.BatchSucceeded},
		"not the end": {Org: "ORG", Batch: "b", Total: 1, State: protocol.BatchRunning},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			s.put(s.batches, protocol.SummaryKey("ORG", "b"), protocol.Summary{Org: "ORG", Batch: "b", Total: 1, State: protocol.BatchFailed, Reason: "as it stands"})
			got, ended := s.ended(true, func() { s.tellEnd("b", &told) })
			if !ended || got.Reason != "as it stands" {
				t.Errorf("it ends %t with %+v", ended, got)
			}
		})
	}
}

// TestWaiterOfABatchThatEndedBefore is told nothing.
func TestWaiterOfABatchThatEndedBefore(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.put(s.batches, protocol.SummaryKey("ORG", "b"), protocol.Summary{Org: "ORG", Batch: "b", Total: 1, State: protocol.BatchFailed})
	if got, ended := s.ended(false, func() {}); !ended || got.State != protocol.BatchFailed {
		t.Errorf("it ends %t with %+v", ended, got)
	}
	if _, ended := s.ended(true, func() {}); !ended { // the news were lost: it looks after a while
		t.Error("it does not look by itself")
	}
}
