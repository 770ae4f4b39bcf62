package producer

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/copyfleet/copyfleet/protocol"
)

// TestPagesComeInOrder reads pages side by side and gets them one at a time, in order, however long each takes.
func TestPagesComeInOrder(t *testing.T) {
	t.Parallel()
	var got []int
	read := func(_ context.Context, page int) (int, error) {
		for range (page * 7) % 5 {
			runtime.Gosched()
		}
		return page * 10, nil
	}
	if err := inOrder(t.Context(), 3, 100, read, func(page, n int) error { got = append(got, n-9*page); return nil }); err != nil {
		t.Fatal(err)
	}
	if want := upTo(100)[3:]; !slices.Equal(want, got) {
		t.Errorf("%v", got)
	}
}

// TestFewPagesAreAhead holds the writer back: the pages in memory are few, whatever the size of the batch.
func TestFewPagesAreAhead(t *testing.T) {
	t.Parallel()
	var begun, most atomic.Int64
	done := int64(0)
	read := func(context.Context, int) (int, error) { begun.Add(1); return 0, nil }
	err := inOrder(t.Context(), 0, 4000, read, func(int, int) error {
		for range 20 { // the readers come as far as they may
			runtime.Gosched()
		}
		if ahead := begun.Load() - done; ahead > most.Load() {
			most.Store(ahead)
		}
		done++
		return nil
	})
	if err != nil || done != 4000 {
		t.Fatalf("%d %v", done, err)
	}
	if limit := int64(3*pagesAtOnce + 3); most.Load() > limit {
		t.Errorf("%d pages were ahead of the writer, at most %d may be", most.Load(), limit)
	}
}

// TestPagesEndAtAnError calls nothing after the first error, be it of a reader, of the writer, or of the caller.
func TestPagesEndAtAnError(t *testing.T) {
	t.Parallel()
	fault := errors.New("fault")
	for _, who := range []string{"reader", "writer", "caller"} {
		ctx, cancel := context.WithCancelCause(t.Context())
		used := 0
		read := func(_ context.Context, page int) (int, error) {
			if who == "reader" && page == 50 {
				return 0, fault
			}
			return page, nil
		}
		err := inOrder(ctx, 0, 1_000_000, read, func(page, _ int) error {
			used++
			switch {
			case who == "writer" && page == 50:
				return fault
			case who == "caller" && page == 50:
				cancel(fault)
			}
			return nil
		})
		cancel(nil)
		if !errors.Is(err, fault) || used > 50+3*pagesAtOnce+3 {
			t.Errorf("%s: %d pages, %v", who, used, err)
		}
	}
}

// TestReportMemory writes a report of 10,000 items and one of 1,000: what is live at any page of either is about the same.
func TestReportMemory(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	for _, total := range []int{1000, 10_000} {
		a := s.accept(total)
		s.tell(&a, receiptsOf(protocol.ItemFailed, upTo(total)...))
		now, _, err := s.pipeline.look(t.Context(), a.Org, a.Batch, nil)
		if err != nil {
			t.Fatal(err)
		}
		largest, pages := 0, 0
		out := &reportWriter{w: discard{}, form: ndjsonReport, now: now, query: &itemsQuery{}}
		read := func(ctx context.Context, number int) ([]byte, error) {
			rows, err := s.pipeline.rows(ctx, now, number, out.query)
			if err != nil {
				return nil, err
			}
			return out.form.render(rows, false)
		}
		err = inOrder(t.Context(), 0, protocol.Pages(total), read, func(_ int, text []byte) error {
			largest, pages = max(largest, cap(text)), pages+1
			return nil
		})
		if err != nil || pages != protocol.Pages(total) {
			t.Fatalf("%d pages, %v", pages, err)
		}
		if most := protocol.PageSize * 1024; largest > most {
			t.Errorf("%d items: a part of the report has %d bytes, at most %d were expected", total, largest, most)
		}
	}
}

// TestRedriveGoesOn takes the dead letters of many batches in several calls.
func TestRedriveGoesOn(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.grant()
	const batches = maxRedriveBatches + 2
	made := make([]protocol.Acceptance, batches)
	for i := range made {
		made[i] = s.accept(1)
		s.tell(&made[i], receiptsOf(protocol.ItemFailed, 0))
	}
	s.indexed(batches)
	first, more := s.redrive(`{"filter":{}}`)
	if first.Total != maxRedriveBatches || !more {
		t.Errorf("%d items, more %v", first.Total, more)
	}
	if got := s.dead(""); !slices.Equal(got, append(letters(&made[1], 0), letters(&made[0], 0)...)) {
		t.Errorf("left are %d: %.200s", len(got), fmt.Sprint(got))
	}
	s.until("the new batch in the index", func() bool { return len(s.pipeline.views.index.ids("one")) == batches+1 })
	second, more := s.redrive(`{"filter":{}}`, "Idempotency-Key", "rest")
	if second.Total != 2 || more {
		t.Errorf("%d items, more %v", second.Total, more)
	}
}
