package uploads

import (
	"context"
	"sync"
)

// turns lets callers that want the same thing go one after the other. The zero value is ready.
type turns struct {
	mu   sync.Mutex
	held map[string]*turn
}

type turn struct {
	token chan struct{} // whoever has put something in it has the turn
	users int           // guarded by turns.mu; the turn is forgotten with the last
}

// take waits for the turn at a key. release gives it to the next.
func (t *turns) take(ctx context.Context, key string) (release func(), err error) {
	mine := t.enter(key)
	select {
	case mine.token <- struct{}{}:
	case <-ctx.Done():
		t.leave(key, mine)
		return nil, context.Cause(ctx)
	}
	return func() {
		<-mine.token
		t.leave(key, mine)
	}, nil
}

func (t *turns) enter(key string) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.held == nil {
		t.held = map[string]*turn{}
	}
	mine := t.held[key]
	if mine == nil {
		mine = &turn{token: make(chan struct{}, 1)}
		t.held[key] = mine
	}
	mine.users++
	return mine
}

func (t *turns) leave(key string, mine *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if mine.users--; mine.users == 0 {
		delete(t.held, key)
	}
}

// places counts what is under way of a session. The zero value is ready.
type places struct {
	mu   sync.Mutex
	used map[string]int
}

// take takes a place, if less than most are taken.
func (p *places) take(key string, most int) (release func(), ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used[key] >= most {
		return nil, false
	}
	if p.used == nil {
		p.used = map[string]int{}
	}
	p.used[key]++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.used[key]--; p.used[key] == 0 {
			delete(p.used, key)
		}
	}, true
}
