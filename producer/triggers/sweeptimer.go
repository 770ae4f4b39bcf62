package triggers

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/producer/events"
	"github.com/copyfleet/copyfleet/protocol"
)

const (
	sweepKeys   = "*.sweep.*"
	sweepTick   = time.Second
	sweepLost   = time.Hour // after which nobody waits any more for the decisions on what was published
	sweepsByOwn = 2         // that a process makes at the same time by itself
)

// sweepPeriodically sweeps each rule on a bucket every [Config.Sweep], and notes of sweeps whose process died that they failed, until ctx ends. Who leads
// runs it.
func (s *Service) sweepPeriodically(ctx context.Context) {
	t := &sweepTimer{s: s, slots: make(chan struct{}, sweepsByOwn), busy: map[string]bool{}}
	defer t.running.Wait()
	for ctx.Err() == nil {
		if err := t.follow(ctx); err != nil && ctx.Err() == nil {
			s.log.LogAttrs(ctx, slog.LevelWarn, "cannot follow the sweeps; trying again", slog.Any("error", err))
		}
		pause(ctx, reopenAfter)
	}
}

// sweepTimer knows how the sweeps of all rules stand. Its fields belong to the goroutine of [Service.sweepPeriodically], but for what is guarded.
type sweepTimer struct {
	s       *Service
	known   map[string]sweepSeen // by key
	slots   chan struct{}
	running sync.WaitGroup

	mu   sync.Mutex
	busy map[string]bool // keys of sweeps that this one makes
}

// sweepSeen is what stands of a sweep, and since when.
type sweepSeen struct {
	record   sweepRecord
	revision uint64
	at       time.Time
}

// follow keeps up with what stands of the sweeps until the watch ends.
func (t *sweepTimer) follow(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	updates, err := t.s.bucket.Watch(ctx, sweepKeys)
	if err != nil {
		return err
	}
	t.known = map[string]sweepSeen{}
	tick := time.NewTicker(sweepTick)
	defer tick.Stop()
	for current := false; ; {
		select {
		case w, ok := <-updates:
			switch {
			case !ok:
				return nil
			case w.Current:
				current = true
			default:
				t.learn(w)
			}
		case <-tick.C:
			if current {
				t.look(ctx)
			}
		}
	}
}

func (t *sweepTimer) learn(w broker.Watched) {
	seen := sweepSeen{revision: w.Entry.Revision, at: time.Now()}
	if w.Deleted || json.Unmarshal(w.Entry.Value, &seen.record) != nil {
		delete(t.known, w.Entry.Key)
		return
	}
	t.known[w.Entry.Key] = seen
}

// look begins the sweeps that are due.
func (t *sweepTimer) look(ctx context.Context) {
	for _, org := range t.s.ruleOrgs() {
		active, err := t.s.rulesOf(org)
		if err != nil {
			return
		}
		for _, rule := range active {
			if rule.rule.Match.Source == events.S3 {
				t.lookAt(ctx, org, rule)
			}
		}
	}
}

func (t *sweepTimer) lookAt(ctx context.Context, org protocol.OrgID, rule activeRule) {
	key := protocol.SweepKey(org, rule.rule.Name)
	seen, there := t.known[key]
	there = there && seen.record.Created.Equal(rule.created)
	if there && seen.record.running() {
		if still := time.Since(seen.at); seen.record.Listing && still > sweepStale || still > sweepLost {
			if _, err := t.s.buried(ctx, org, &seen.record, seen.revision); !errors.Is(err, errSweepDead) {
				t.s.log.LogAttrs(ctx, slog.LevelWarn, "cannot note that a sweep failed", slog.String("rule", rule.rule.Name), slog.Any("error", err))
			}
			seen.at = time.Now() // the watch tells what stands there now
			t.known[key] = seen
		}
		return
	}
	since := rule.created
	if there {
		since = seen.record.Started
	}
	if t.s.cfg.Sweep > 0 && time.Since(since) >= t.s.cfg.Sweep {
		t.begin(ctx, org, rule.rule.Name, key)
	}
}

// begin makes a sweep, if there is a slot for it; else it is due at the next look too.
func (t *sweepTimer) begin(ctx context.Context, org protocol.OrgID, rule, key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.busy[key] {
		return
	}
	select {
	case t.slots <- struct{}{}:
	default:
		return
	}
	t.busy[key] = true
	t.running.Go(func() {
		defer func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			delete(t.busy, key)
			<-t.slots
		}()
		t.s.sweepByItself(ctx, org, rule)
	})
}

func (s *Service) sweepByItself(ctx context.Context, org protocol.OrgID, rule string) {
	swept, err := s.sweep(ctx, org, rule, false, false)
	log := s.log.With(slog.String("org", string(org)), slog.String("rule", rule))
	switch {
	case ctx.Err() != nil, errors.Is(err, ErrNoRule), errors.Is(err, ErrNoSweep):
	case err != nil:
		log.LogAttrs(ctx, slog.LevelWarn, "a sweep was not made", slog.Any("error", err))
	case swept.State == sweepFailed:
		log.LogAttrs(ctx, slog.LevelWarn, "a sweep failed", slog.String("message", swept.Message))
	case swept.Recovered+swept.Refused > 0:
		log.LogAttrs(ctx, slog.LevelInfo, "a sweep found objects of which no event came",
			slog.Int("recovered", swept.Recovered), slog.Int("refused", swept.Refused))
	}
}
