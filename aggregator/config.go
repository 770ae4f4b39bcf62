package aggregator

import (
	"crypto/rand"
	"log/slog"
	"time"

	"github.com/copyfleet/copyfleet/internal/observe"
)

// Config is how an aggregator behaves.
type Config struct {
	// ID tells the aggregators of a fleet apart; no two may have the same. "": a random one.
	ID string
	// Interval is how long news of running batches may gather before they are committed. 0: 100 ms.
	Interval time.Duration
	// TrimEvery is how often the queue is trimmed, TrimAfter how old an acknowledgement must be for it. 0: 15 s and
	// a minute.
	TrimEvery, TrimAfter time.Duration
	// TrimLeast is how many messages of a stream must have become useless before it is trimmed; fewer are trimmed every
	// 15 minutes. 0: 10,000.
	TrimLeast uint64
	// AbandonAfter is how long an acceptance may stay pending before it counts as left behind. 0: 10 min.
	AbandonAfter time.Duration
	// RecoverAfter is how long nothing must be heard of a batch whose items are all in the queue before they are looked for. 0: 5 min.
	RecoverAfter time.Duration
	// SweepEvery is how often what crashes left is looked for. 0: 30 s, or half of PartsAfter if that is less.
	SweepEvery time.Duration
	// PartsAfter is how long what is known of an item's parts must not have changed before it is looked whether the item has ended, and
	// somebody must remove what it left. 0: 10 min.
	PartsAfter time.Duration
	// Retention is how long a batch that has ended is kept with its receipts and its manifest. 0: 7 days.
	Retention time.Duration
	// RetainEvery is how often batches are looked for whose time is over. 0: 10 min, or half of Retention if that is less.
	RetainEvery time.Duration
	Logger      *slog.Logger
	Metrics     *observe.Metrics // nil: nothing is measured
}

func (c *Config) defaults() {
	set := func(d *time.Duration, fallback time.Duration) {
		if *d <= 0 {
			*d = fallback
		}
	}
	set(&c.Interval, 100*time.Millisecond)
	set(&c.TrimEvery, 15*time.Second)
	set(&c.TrimAfter, time.Minute)
	set(&c.AbandonAfter, 10*time.Minute)
	set(&c.RecoverAfter, 5*time.Minute)
	set(&c.PartsAfter, 10*time.Minute)
	set(&c.SweepEvery, min(30*time.Second, c.PartsAfter/2))
	set(&c.Retention, 7*24*time.Hour)
	set(&c.RetainEvery, min(10*time.Minute, c.Retention/2))
	if c.ID == "" {
		c.ID = rand.Text()
	}
	if c.TrimLeast == 0 {
		c.TrimLeast = 10_000
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}
