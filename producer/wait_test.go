package producer

import (
	"context"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

const waitLimit = 5 * time.Minute

// TestWaiterTakesWhatItIsTold: the summary comes with the news, and stands nowhere else.
func TestWaiterTakesWhatItIsTold(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	w, err := s.pipeline.wait("ORG", "b")
	if err != nil {
		t.Fatal(err)
	}
	defer w.stop()
	value, err := protocol.Encode(protocol.Summary{Org: "ORG", Batch: "b", Total: 1, State: protocol.BatchSucceeded, Reason: "as told"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.conn.Ended("ORG", "b", value); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	if got, ended := w.end(ctx); !ended || got.Reason != "as told" {
		t.Errorf("it ends %t with %+v", ended, got)
	}
}

// TestWaiterReadsWhatItIsNotTold: news without a summary, or with one that is not the end of this batch, are no end.
func TestWaiterReadsWhatItIsNotTold(t *testing.T) {
	t.Parallel()
	w := batchWaiter{org: "ORG", batch: "b"}
	for news, ended := range map[string]bool{
		``:      false,
		`final`: false,
		`{"org":"ORG","batch":"c","state":"succeeded"}`: false,
		`{"org":"O","batch":"b","state":"succeeded"}`:   false,
		`{"org":"ORG","batch":"b","state":"running"}`:   false,
		`{"org":"ORG","batch":"b","state":"succeeded"}`: true,
	} {
		if _, got := w.told([]byte(news)); got != ended {
			t.Errorf("%s: ended is %t", news, got)
		}
	}
}
