package join

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/storage"
)

const (
	rollEvery      = time.Second // a generator that starts meanwhile hears the next call
	mostGenerators = 1000
	mostHello      = 4 << 10 // bytes of an answer to a roll call
	takeLimit      = 5 * time.Second
)

// Gather takes n generators, or with n = 0 all that answer. It waits for them as long as patience; with n = 0 always that long. The error says how many there
// were, and why they do not do.
func Gather(ctx context.Context, conn *broker.Conn, cfg Config, n int, patience time.Duration) (*Crew, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	if n < 0 || n > mostGenerators {
		return nil, refusal(storage.Invalid, "generators_number", "", "%d load generators: must be 0 (all) to %d", n, mostGenerators)
	}
	limit, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for most := (&roll{cfg: &cfg}); ; {
		r := &roll{cfg: &cfg, heard: map[string]hello{}}
		if err := r.call(limit, conn, n); err != nil {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if len(r.heard) >= len(most.heard) {
			most = r // the last round is cut short
		}
		free := r.free()
		if !r.enough(n, len(free)) {
			if limit.Err() != nil {
				return nil, most.missing(n)
			}
			continue
		}
		crew := newCrew(ctx, conn, cfg)
		err := crew.take(ctx, free[:cmp.Or(n, len(free))])
		if err == nil {
			return crew, nil
		}
		// Somebody else was faster, and may be done in time.
		if ctx.Err() != nil || storage.ClassOf(err) == storage.Invalid || !rest(limit, rollEvery) {
			return nil, err
		}
	}
}

// roll is who has answered a call.
type roll struct {
	cfg   *Config
	heard map[string]hello // by id
}

// call calls until n answers have come that do, or the limit.
func (r *roll) call(ctx context.Context, conn *broker.Conn, n int) error {
	for ctx.Err() == nil {
		round, cancel := context.WithTimeout(ctx, rollEvery)
		enough := false
		err := conn.CallGenerators(round, func(data []byte) bool {
			r.hear(data)
			enough = n > 0 && r.enough(n, len(r.free()))
			return enough
		})
		cancel()
		if err != nil {
			return err
		}
		if enough || n > 0 {
			return nil
		}
	}
	return nil
}

func (r *roll) hear(data []byte) {
	var h hello
	if len(data) > mostHello || json.Unmarshal(data, &h) != nil || h.ID == "" || len(r.heard) >= mostGenerators {
		return // no generator of ours
	}
	for _, text := range []string{h.Name, h.Version, h.Taken} {
		if strings.ContainsFunc(text, func(c rune) bool { return !unicode.IsPrint(c) }) {
			return // anybody in NATS can answer, and what is printed must not command a terminal
		}
	}
	r.heard[h.ID] = h
}

// enough tells whether so many free ones do.
func (r *roll) enough(n, free int) bool {
	if n == 0 { // a load by some only, while others are in use or do not fit, is not what was asked for
		return free > 0 && free == len(r.heard)
	}
	return free >= n
}

// free are those that may be taken. All coordinators have them in one order, so that of two that want the same ones one gets them all.
func (r *roll) free() []hello {
	var free []hello
	for _, h := range r.sorted() {
		if h.Lease != "" && r.fits(&h) == nil {
			free = append(free, h)
		}
	}
	return free
}

func (r *roll) sorted() []hello {
	return slices.SortedFunc(maps.Values(r.heard), func(a, b hello) int { return cmp.Compare(a.ID, b.ID) })
}

// fits says why a generator cannot work for this coordinator.
func (r *roll) fits(h *hello) error {
	if h.Version != r.cfg.Version || h.Protocol != Protocol {
		return otherVersion(h.Name, h.Version, h.Protocol, r.cfg.Version, Protocol)
	}
	if h.Key != r.cfg.Sealer.ID() {
		return refusal(storage.Invalid, "bench_key", "Give the coordinator and all generators the same --seal-key, or none and the same NATS.",
			"generator %s has another sealing key than the coordinator", h.Name)
	}
	return nil
}

// missing says why those that answered are not enough.
func (r *roll) missing(n int) error {
	want := "load generators were to join"
	if n > 0 {
		want = fmt.Sprintf("%d load generators were to join", n)
	}
	var owners []string
	fit := 0
	var misfit error
	for _, h := range r.sorted() {
		if err := r.fits(&h); err != nil {
			misfit = cmp.Or(misfit, err)
			continue
		}
		if fit++; h.Lease == "" {
			owners = append(owners, h.Taken)
		}
	}
	switch busy := len(owners); {
	case misfit != nil:
		return fmt.Errorf("%s; %d answered, of which %d fit: %w", want, len(r.heard), fit, misfit)
	case busy > 0:
		slices.Sort(owners)
		return refusal(storage.Unavailable, codeBusy, busyHint, "%s; %d answered, of which %d are taken by another coordinator (%s)",
			want, len(r.heard), busy, strings.Join(slices.Compact(owners), ", "))
	}
	return refusal(storage.Unavailable, "generators_missing", `Start "copyfleet bench worker" on each machine, with the same NATS.`,
		"%s; %d answered", want, len(r.heard))
}

const (
	codeBusy = "generators_busy"
	busyHint = "Wait until the other run has ended, or ask for fewer generators with --workers."
)

func newCrew(ctx context.Context, conn *broker.Conn, cfg Config) *Crew {
	base, end := context.WithCancel(context.WithoutCancel(ctx))
	return &Crew{conn: conn, cfg: cfg, id: rand.Text(), base: base, end: end}
}

// take takes generators one by one, or none.
func (c *Crew) take(ctx context.Context, free []hello) error {
	for _, h := range free {
		m := newMember(c, h)
		silent := m.fail(storage.Unavailable, codeLost, "Try again.", "it is silent since it answered the call")
		limit, cancel := context.WithTimeoutCause(ctx, takeLimit, silent)
		_, err := m.do(limit, func() *ask { return &ask{Verb: take, Name: c.cfg.Name, Version: c.cfg.Version, Protocol: Protocol} })
		cancel()
		if e, ok := errors.AsType[*storage.Error](err); ok && e.Code == codeGone {
			err = m.fail(storage.Unavailable, codeBusy, busyHint, "another coordinator took it meanwhile")
		}
		if err != nil {
			c.Close()
			return err
		}
		c.members = append(c.members, m)
		go m.beats(c.base)
	}
	return nil
}
