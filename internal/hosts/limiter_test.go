package hosts

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// model is a host in a simulation: how long an item takes while so many are there.
type model struct {
	name  string
	alone time.Duration // what an item takes when it is alone
	fits  float64       // how many it serves side by side
	decay float64       // what it loses for each further share of them
	noise float64       // standard deviation of the logarithm
	bytes int
}

func (m model) takes(n int) float64 {
	crowd := math.Max(1, float64(n)/m.fits)
	return m.alone.Seconds() * crowd * (1 + m.decay*(crowd-1))
}

// most is the highest throughput that any fixed number up to slots has.
func (m model) most(slots int) (best float64, at int) {
	for n := 1; n <= slots; n++ {
		if rate := float64(n) / m.takes(n); rate > best*1.001 {
			best, at = rate, n
		}
	}
	return best, at
}

// simulate has slots clients use a host for a time and returns the items a second in the last half, and in the first second.
func simulate(t *testing.T, m model, slots int, run time.Duration, seed uint64) (late, first float64) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		table := New(Config{Slots: slots, Patience: time.Hour})
		ctx, cancel := context.WithCancel(t.Context())
		var mu sync.Mutex
		var there, early, lately int
		random := rand.New(rand.NewPCG(seed, 1)) // a simulation is to be repeatable
		begun := time.Now()
		var clients sync.WaitGroup
		for range slots {
			clients.Go(func() {
				for ctx.Err() == nil {
					v, err := table.Enter(ctx, Ask{Keys: []Key{{Source, m.name}}}, nil)
					if err != nil {
						return
					}
					mu.Lock()
					there++
					takes := m.takes(there) * math.Exp(m.noise*random.NormFloat64()-m.noise*m.noise/2)
					mu.Unlock()
					rest(ctx, time.Duration(takes*float64(time.Second)))
					mu.Lock()
					there--
					switch since := time.Since(begun); {
					case since < time.Second:
						early++
					case since > run/2:
						lately++
					}
					mu.Unlock()
					v.Moved(m.bytes)
					v.Leave(Result{Kind: Worked})
				}
			})
		}
		rest(ctx, run)
		cancel()
		clients.Wait()
		late, first = float64(lately)/(run/2).Seconds(), float64(early)
		t.Logf("limit at the end: %v", table.gates[Key{Source, m.name}].limiter.limit)
	})
	return late, first
}

func rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

func TestLimitEndsNearTheBest(t *testing.T) {
	t.Parallel()
	for _, m := range []model{
		{name: "latency", alone: 100 * time.Millisecond, fits: 1000, noise: 0.1, bytes: 4096},
		{name: "eight", alone: 20 * time.Millisecond, fits: 8, decay: 0.3, noise: 0.3, bytes: 4096},
		{name: "eight without loss", alone: 20 * time.Millisecond, fits: 8, noise: 0.3, bytes: 4096},
		{name: "one", alone: 50 * time.Millisecond, fits: 1, decay: 0.2, noise: 0.2, bytes: 4096},
		{name: "large items", alone: 400 * time.Millisecond, fits: 12, decay: 0.2, noise: 0.3, bytes: 16 << 20},
		{name: "quick", alone: time.Millisecond, fits: 24, decay: 0.1, noise: 0.5, bytes: 4096},
	} {
		for _, slots := range []int{32, 128} {
			for seed := range uint64(2) {
				t.Run(fmt.Sprint(m.name, " ", slots, " ", seed), func(t *testing.T) {
					t.Parallel()
					best, at := m.most(slots)
					run := time.Minute
					if m.alone < 10*time.Millisecond {
						run = 4 * time.Second
					}
					got, first := simulate(t, m, slots, run, seed)
					t.Logf("%.0f items a second, %.0f in the first; the best is %.0f with %d", got, first, best, at)
					if got < 0.7*best {
						t.Errorf("it ends at %.0f items a second, less than 70 %% of %.0f", got, best)
					}
				})
			}
		}
	}
}

// What four places pass says nothing of what many will; whoever were told to come later by it would be delivered and claimed twice.
func TestRampIsNoReasonToComeLater(t *testing.T) {
	t.Parallel()
	l := newLimiter(128)
	l.rate, l.rateAt = 100, 4
	if got := l.pace(); got != 3200 {
		t.Errorf("%v a second are expected during the ramp, want 3200", got)
	}
	l.ramp = false
	if got := l.pace(); got != 100 {
		t.Errorf("%v a second are expected after it, want 100", got)
	}
	l.limit = 128
	l.rateAt = 128
	l.restart(false)
	if got := l.pace(); got != 100 {
		t.Errorf("%v a second are expected after a rest, want 100", got)
	}
}
