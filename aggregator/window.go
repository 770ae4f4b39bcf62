package aggregator

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
)

// The window is how many items are to wait in a shard: what its workers take in windowTime, within limits. More in the queue
// would gain nothing, and could be neither recalled nor shared among tenants so quickly.
const (
	windowTime  = 500 * time.Millisecond
	windowLeast = 512
	windowMost  = 20_000
	rateDecay   = 2 * time.Second // until a rate that is no longer reached is forgotten
)

// gauge measures how fast a shard's workers take items.
type gauge struct {
	at        time.Time
	delivered uint64
	rate      float64 // items a second
}

// measure takes in a reading. A higher rate is believed at once, a lower one slowly: the workers may have had nothing to take.
func (g *gauge) measure(now time.Time, delivered uint64) {
	passed := now.Sub(g.at)
	switch {
	case g.at.IsZero() || delivered < g.delivered:
		g.rate = 0
	case passed < feedTick/5:
		return // too short to tell anything
	default:
		rate := float64(delivered-g.delivered) / passed.Seconds()
		if rate < g.rate {
			rate += (g.rate - rate) * math.Exp(-float64(passed)/float64(rateDecay))
		}
		g.rate = rate
	}
	g.at, g.delivered = now, delivered
}

func (g *gauge) window() int {
	return min(max(int(g.rate*windowTime.Seconds()), windowLeast), windowMost)
}

// room is how many items may be fed to a shard now. What is not worth an atomic batch, which costs the same whatever its
// size, is none.
func (f *feeder) room(ctx context.Context, shard broker.Shard) (int, error) {
	backlog, err := f.conn.Backlog(ctx, shard)
	if errors.Is(err, broker.ErrNotFound) {
		if err := f.conn.EnsurePool(ctx, shard.Pool); err != nil {
			return 0, fmt.Errorf("feed pool %s: %w", shard.Pool, err)
		}
		return windowLeast, nil
	}
	if err != nil {
		return 0, err //nolint:wrapcheck // says what it was
	}
	g := f.gauges[shard]
	if g == nil {
		g = &gauge{}
		f.gauges[shard] = g
	}
	g.measure(time.Now(), backlog.Delivered)
	window := g.window()
	room := window - backlog.Waiting
	if room < window/8 {
		return 0, nil
	}
	return room, nil
}

// allowance is what the rate of a batch lets through.
type allowance struct {
	at     time.Time
	credit float64
}

// burst is how much time's worth of items may be fed at once after a pause.
const burst = 250 * time.Millisecond

// available is how many items may be started now at a rate; the first may at once.
func (a *allowance) available(now time.Time, rate float64) int {
	if a.at.IsZero() {
		a.credit = 1
	} else {
		a.credit += now.Sub(a.at).Seconds() * rate
	}
	a.at = now
	a.credit = min(a.credit, max(1, rate*burst.Seconds()))
	return int(a.credit)
}

func (a *allowance) spend(n int) { a.credit -= float64(n) }
