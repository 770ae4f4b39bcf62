package triggers

import (
	"cmp"
	"context"
	"crypto/rand"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/producer/rules"
	"github.com/copyfleet/copyfleet/protocol"
)

// Service has the rules and secrets of all orgs, and makes copies of events while it leads. Any number of them may run on one broker.
type Service struct {
	cfg        Config
	log        *slog.Logger
	conn       *broker.Conn
	bucket     *broker.Bucket // [broker.RuleBucket]
	sealer     *protocol.Sealer
	queue      Queue
	store      Store
	parse      func([]byte) ([]*rules.Rule, []rules.Problem)
	loop       func(protocol.OrgID) func(context.Context) error // of an org, until its context ends
	lease      lease
	leads      atomic.Bool
	following  atomic.Bool // a watch tells of changes
	strayEvery time.Duration
	mostGone   int

	mu      sync.RWMutex
	orgs    map[string]*orgRules  // by token
	secrets map[string]heldSecret // by key
	known   map[string]uint64     // revision of each key that was seen
	loaded  bool                  // the watch has told of all that there is
	told    chan struct{}         // closed when that is so
	changed chan struct{}         // the rules did
	freed   chan struct{}         // the lease was given up
}

// New opens the rules.
func New(
	ctx context.Context, cfg Config, conn *broker.Conn, sealer *protocol.Sealer, queue Queue, store Store,
) (*Service, error) {
	cfg.Memory = cmp.Or(cfg.Memory, DefaultMemory)
	cfg.Sweep = cmp.Or(cfg.Sweep, DefaultSweep)
	cfg.Identity = cmp.Or(cfg.Identity, rand.Text())
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Room == nil {
		cfg.Room = func() error { return nil }
	}
	bucket, err := conn.Bucket(ctx, broker.RuleBucket)
	if err != nil {
		return nil, err
	}
	s := &Service{
		cfg: cfg, log: cfg.Logger, conn: conn, bucket: bucket, sealer: sealer, queue: queue, store: store, parse: rules.Parse,
		strayEvery: strayEvery, mostGone: maxGone,
		orgs: map[string]*orgRules{}, secrets: map[string]heldSecret{}, known: map[string]uint64{}, told: make(chan struct{}),
		changed: make(chan struct{}, 1), freed: make(chan struct{}, 1),
	}
	s.loop = func(id protocol.OrgID) func(context.Context) error { return newOrg(s, id).run }
	s.lease = lease{bucket: bucket, identity: cfg.Identity, renewEvery: renewEvery, goneAfter: goneAfter}
	return s, nil
}

// Run follows the rules, and leads if nobody else does, until ctx ends.
func (s *Service) Run(ctx context.Context) {
	var all sync.WaitGroup
	all.Go(func() { s.follow(ctx) })
	all.Go(func() { s.compete(ctx) })
	all.Wait()
}

// Leads reports whether this process makes the copies now.
func (s *Service) Leads() bool { return s.leads.Load() }

// signal wakes who waits on a channel, if nothing waits there already.
func signal(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// pause waits, and reports whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
