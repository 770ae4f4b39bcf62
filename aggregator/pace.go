package aggregator

import (
	"math"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

const (
	paceMemory = 5 * time.Second        // a change of pace shows to two thirds after it, and almost wholly after twice as long
	paceFirst  = 100 * time.Millisecond // what is known first is taken to have lasted so long at least
)

// pace takes in how many items and bytes ended since the pace was last told, or since started. It needs nothing but what stands in
// the summary, so that every aggregator can go on with it.
func pace(before protocol.Pace, started, now time.Time, items int, bytes int64) protocol.Pace {
	if before.At.IsZero() {
		passed := min(max(now.Sub(started), paceFirst), 2*paceMemory).Seconds()
		return protocol.Pace{At: now, Items: float64(items) / passed, Bytes: float64(bytes) / passed}
	}
	passed := now.Sub(before.At)
	if passed <= 0 { // clocks differ, or nothing can be told yet
		return protocol.Pace{
			At: before.At, Items: before.Items + float64(items)/paceMemory.Seconds(), Bytes: before.Bytes + float64(bytes)/paceMemory.Seconds(),
		}
	}
	kept := math.Exp(-float64(passed) / float64(paceMemory))
	if since := now.Sub(started); since > passed && since < paceMemory { // there is less to remember: the mean of it all
		kept = 1 - float64(passed)/float64(since)
	}
	news := (1 - kept) / passed.Seconds()
	return protocol.Pace{At: now, Items: before.Items*kept + float64(items)*news, Bytes: before.Bytes*kept + float64(bytes)*news}
}
