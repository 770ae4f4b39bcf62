package main

import (
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// How far it is, how fast it goes, and how long it will take.
func TestUploadProgress(t *testing.T) {
	t.Parallel()
	v := &uploadProgress{tries: map[*atomic.Int64]struct{}{}, head: "upl_1  SBX-1:/x", id: "upl_1"}
	if lines := v.lines(time.Now()); lines != nil {
		t.Errorf("before anything: %q", lines)
	}
	v.phase("sending", 100<<20, 200<<20)
	start := time.Now()
	v.lines(start)
	counter, ended := v.try()
	counter.Add(10 << 20)
	line := func(after time.Duration) string { return v.lines(start.Add(after))[1] }
	if got := line(10 * time.Second); got != "  sending [################--------------]  55%  110.0 MiB of 200.0 MiB  1.0 MiB/s  1 min 30 s left" {
		t.Errorf("shown: %q", got)
	}
	ended(false, 0)
	if got := line(11 * time.Second); !strings.Contains(got, " 100.0 MiB of ") {
		t.Errorf("after a part broke off: %q", got)
	}
	_, ended = v.try()
	ended(true, 100<<20)
	if got := line(12 * time.Second); !strings.Contains(got, "100%  200.0 MiB of 200.0 MiB") || strings.Contains(got, "left") {
		t.Errorf("at the end: %q", got)
	}
	v.phase("publishing", 1, 1)
	if got := line(time.Minute); !strings.HasPrefix(got, "  publishing  for ") {
		t.Errorf("then: %q", got)
	}
}

// On a narrow terminal the bar gives way to what is told beside it.
func TestBarLine(t *testing.T) {
	t.Parallel()
	after := "  50%  1023.9 MiB of 2047.8 MiB  107.3 MiB/s  9.5 s left"
	for room, want := range map[int]string{
		math.MaxInt: "  sending [###############---------------]" + after,
		79:          "  sending [#####------]" + after,
		72:          "  sending 50%" + strings.TrimPrefix(after, "  50%"),
	} {
		if got := barLine(room, "  sending ", 0.5, after); got != want || width(got) > room {
			t.Errorf("in %d columns: %q", room, got)
		}
	}
}
