package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// insistFor is how long a call is tried again that the API was too busy for, or whose connection broke off.
	insistFor    = time.Minute
	longestPause = 15 * time.Second
)

// patience is how long tries go on that fail for causes that may pass. It is safe for concurrent use: what several calls do side by side is
// one matter, and goes on for as long as one of them gets anywhere.
type patience struct {
	limit time.Duration // since the last success
	note  func(text string)
	// once tells only the first failure since the last success, where many would say the same.
	once bool

	mu    sync.Mutex
	since time.Time // of the last success, or of the beginning
	told  bool
}

func newPatience(limit time.Duration, note func(text string)) *patience {
	return &patience{limit: limit, note: note, since: time.Now()}
}

// moved tells that something has gone well.
func (p *patience) moved() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.since, p.told = time.Now(), false
}

// pause waits before the next try, the n-th from 1, and returns nil; or it returns an error, which is the one given where there is no use in another
// try. The wait is random, so that calls that failed together do not come back together, and no shorter than what the API asks for.
func (p *patience) pause(ctx context.Context, n int, err error) error {
	after, worth := temporary(err)
	if !worth || ctx.Err() != nil {
		return err
	}
	most := longestPause
	if n < 10 {
		most = min(firstPause<<n, longestPause)
	}
	pause := max(rand.N(most), after) //nolint:gosec // nothing depends on its being guessed
	p.mu.Lock()
	over := time.Since(p.since)+pause > p.limit
	silent := p.once && p.told
	p.told = true
	p.mu.Unlock()
	if over {
		return err
	}
	if !silent {
		p.note(fmt.Sprintf("%s; trying again in %s", err, span(pause)))
	}
	return rest(ctx, pause)
}

// insist makes a call until it has an answer that says something, or insistFor has passed. A first call that reaches nobody is not
// tried again: there is nothing there. try also returns whether it may be tried again at all.
func insist(ctx context.Context, env *environment, try func() (bool, error)) error {
	p := newPatience(insistFor, env.note)
	for n := 1; ; n++ {
		again, err := try()
		if err == nil || !again {
			return err
		}
		if e, ok := errors.AsType[*exitError](err); n == 1 && ok && e.reason == "unreachable" {
			return err
		}
		if err := p.pause(ctx, n, err); err != nil {
			return err
		}
	}
}
