package hosts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/copyfleet/copyfleet/storage/limited"
)

// zeros never ends.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// TestRatesHold has more clients than a limit lets through ask for ten seconds: what passes is within a tenth of the limit.
func TestRatesHold(t *testing.T) {
	t.Parallel()
	const seconds, clients, mib = 10, 24, 1 << 20
	for _, row := range []struct {
		name            string
		cfg             Config
		hosts           int
		requests, bytes float64 // that pass in a second
	}{
		{name: "requests of a host", cfg: Config{HostRequests: 50}, hosts: 1, requests: 50},
		{name: "requests of each of three hosts", cfg: Config{HostRequests: 20}, hosts: 3, requests: 60},
		{name: "few requests", cfg: Config{HostRequests: 2}, hosts: 1, requests: 2},
		{name: "requests of a tenant at three hosts", cfg: Config{TenantRequests: 50}, hosts: 3, requests: 50},
		{name: "bytes of a host", cfg: Config{HostBytes: mib}, hosts: 1, bytes: mib},
		{name: "bytes of each of three hosts", cfg: Config{HostBytes: mib}, hosts: 3, bytes: 3 * mib},
		{name: "bytes of a tenant at three hosts", cfg: Config{TenantBytes: mib}, hosts: 3, bytes: mib},
		{name: "the lower one", cfg: Config{HostBytes: mib, TenantBytes: 2 * mib}, hosts: 3, bytes: 2 * mib},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				row.cfg.Slots, row.cfg.Patience = clients, time.Hour
				table := New(row.cfg)
				ctx, cancel := context.WithCancel(t.Context()) // without a deadline, which a bucket would look at
				time.AfterFunc(seconds*time.Second, cancel)
				var requests, bytes atomic.Int64
				var all sync.WaitGroup
				for i := range clients {
					ask := Ask{Keys: []Key{{Source, fmt.Sprint("http://", i%row.hosts)}}, Tenant: "ORG"}
					all.Go(func() {
						for ctx.Err() == nil {
							v, err := table.Enter(ctx, ask, nil)
							if err != nil {
								return
							}
							requests.Add(1)
							if row.bytes > 0 {
								n, _ := io.CopyN(io.Discard, limited.Reader(ctx, zeros{}, v.Rates()...), 300<<10) // an end of the time in between shows in n
								bytes.Add(n)
							} else {
								rest(ctx, time.Millisecond)
							}
							v.Leave(Result{Kind: Worked})
						}
					})
				}
				all.Wait()
				if row.requests > 0 {
					within(t, "requests", float64(requests.Load()), row.requests*seconds)
				}
				if row.bytes > 0 {
					within(t, "bytes", float64(bytes.Load()), row.bytes*seconds)
				}
			})
		})
	}
}

func within(t *testing.T, what string, got, want float64) {
	t.Helper()
	if got < 0.9*want || got > 1.1*want {
		t.Errorf("%.0f %s in the time for %.0f", got, what, want)
	}
}

// TestPutAwayItemsUseTheirRate has items come back together, as those do that a worker puts away, until all have passed: in about the time that
// the rate takes, although each time most of them are told to come later.
func TestPutAwayItemsUseTheirRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const items, perSecond = 60, 5
		table := New(Config{Slots: 32, HostRequests: perSecond})
		key := Key{Source, "http://h"}
		begun := time.Now()
		for waiting := items; waiting > 0; {
			var mu sync.Mutex
			var due []time.Time
			var all sync.WaitGroup
			for range waiting {
				all.Go(func() {
					v, err := table.Enter(t.Context(), Ask{Keys: []Key{key}}, nil)
					if l, ok := errors.AsType[*LaterError](err); ok {
						mu.Lock()
						due = append(due, time.Now().Add(l.Wait))
						mu.Unlock()
						return
					}
					v.Leave(Result{Kind: Worked})
				})
			}
			all.Wait()
			if waiting = len(due); waiting == 0 {
				break
			}
			rest(t.Context(), max(time.Until(slices.MinFunc(due, time.Time.Compare)), 0))
			for wait := table.Coming(key, false, waiting); wait > 0; wait = table.Coming(key, false, waiting) {
				rest(t.Context(), wait)
			}
		}
		if took := time.Since(begun); took > items/perSecond*time.Second*5/4 {
			t.Errorf("%d items took %s at %d a second", items, took, perSecond)
		}
	})
}
