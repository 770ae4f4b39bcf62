package main

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// What the block shows, at most: its first lines, some kinds of errors, some large items, and what is to be said.
func TestLiveLines(t *testing.T) {
	t.Parallel()
	now := time.Now()
	b := &batch{ID: "bat_1", State: protocol.BatchRunning, Label: "a\x1b[2Jb", Total: 1000, Counts: counts{Succeeded: 400, Failed: 100, Queued: 500}, StartedAt: now.Add(-time.Minute)}
	eta := 90.0
	b.ETA, b.Rates.Items, b.Rates.Bytes, b.Bytes = &eta, 50, 2048, 5<<20
	for i := range 9 {
		b.Groups = append(b.Groups, errorGroup{Class: "not_found", Code: "source_http_404", Host: fmt.Sprint("h", i), Count: 10, Message: "No."})
	}
	v := &liveView{items: map[int]*shownItem{}, block: &block{}}
	v.batch(b)
	v.note("away")
	size := int64(200)
	for i := range 8 {
		v.item(&itemProgress{Index: i, ID: "big", Bytes: 50, Size: &size})
	}
	v.item(&itemProgress{Index: 99, Bytes: 50})
	v.items[99].at = now.Add(-2 * itemStays)
	got := strings.Join(v.lines(now), "\n")
	for _, want := range []string{
		`bat_1  running  a\x1b[2Jb`, "[###############---------------]  50%  500 of 1,000 items  5.0 MiB  50/s  2.0 KiB/s  1 min 30 s left",
		"500 queued, 400 succeeded, 100 failed", "10 × not_found/source_http_404 at h5: No.", "and 3 other kinds of errors",
		"item 0 big: 50 B of 200 B, 25%", "and 3 other large items", "away", "Ctrl-C",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	for _, not := range []string{"h6", "item 99", "\x1b"} {
		if strings.Contains(got, not) {
			t.Errorf("%q in\n%s", not, got)
		}
	}
	v.batch(&batch{ID: "bat_1", State: protocol.BatchPaused, Reason: protocol.ReasonCanary})
	if got := strings.Join(v.lines(now), "\n"); !strings.Contains(got, "the canary has run") || strings.Contains(got, "away") {
		t.Errorf("a paused batch:\n%s", got)
	}
}

// An empty batch has no share, and a view that was never told of a batch ends in peace.
func TestLiveEmpty(t *testing.T) {
	t.Parallel()
	v := newLiveView(&environment{stdout: io.Discard}, terminal{})
	if lines := v.lines(time.Now()); lines != nil {
		t.Errorf("drew %q", lines)
	}
	v.batch(&batch{ID: "bat_1", State: protocol.BatchAccepting})
	if got := strings.Join(v.lines(time.Now()), "\n"); !strings.Contains(got, "  0%  being accepted") {
		t.Errorf("drew %q", got)
	}
	if err := v.close(nil); err != nil {
		t.Error(err)
	}
}
