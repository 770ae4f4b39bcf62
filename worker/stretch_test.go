package worker

import (
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
)

// readableParts is a destination whose parts can be read before they are visible, and writtenParts one that cannot give them before.
type (
	readableParts struct {
		storage.PartDestination
		storage.UploadReader
	}
	writtenParts struct{ storage.PartDestination }
)

func TestSecondReadingCountsAgainstHelp(t *testing.T) {
	t.Parallel()
	const mib, size = 1 << 20, 1 << 30
	for name, c := range map[string]struct {
		to     storage.PartDestination
		digest protocol.Digest
		rate   int64 // bytes a second that were seen
		after  time.Duration
		spread bool
	}{
		"a slow source":                       {readableParts{}, "", 20 * mib, 3 * time.Second, true},
		"a fast source":                       {readableParts{}, "", 300 * mib, 3 * time.Second, false},
		"a fast source without a digest":      {readableParts{}, protocol.DigestNone, 300 * mib, 3 * time.Second, true},
		"fast enough without a digest":        {readableParts{}, protocol.DigestNone, 400 * mib, 3 * time.Second, false},
		"an object, read again as a whole":    {writtenParts{}, "", 150 * mib, 3 * time.Second, false},
		"an object from a slow source":        {writtenParts{}, "", 100 * mib, 3 * time.Second, true},
		"help that is wanted in any case":     {writtenParts{}, "", 4096 * mib, time.Nanosecond, true},
		"help that is wanted somewhat sooner": {readableParts{}, "", 300 * mib, time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := &owner{to: c.to, plan: protocol.PartPlan{Size: size}, chain: newChain(&transfer{digest: c.digest})}
			rest := time.Duration(float64(size) / float64(c.rate) * float64(time.Second))
			if got := rest > spreadWorth(c.after, o.readAgain(size)); got != c.spread {
				t.Errorf("spread: %v, want %v; by itself it takes %s, help is worth it beyond %s", got, c.spread, rest, spreadWorth(c.after, o.readAgain(size)))
			}
		})
	}
}
