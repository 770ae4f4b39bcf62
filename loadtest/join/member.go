package join

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/loadtest"
	"github.com/copyfleet/copyfleet/storage"
)

const (
	beatEvery = time.Second           // at most, while nothing changes
	beatSoon  = 10 * time.Millisecond // after a command
	askRest   = 100 * time.Millisecond
	askLimit  = 3 * time.Second // of one question
)

// member is a generator, as its coordinator sees it.
type member struct {
	crew  *Crew
	hello hello
	part  int // bytes of a job in one message

	asking sync.Mutex // held by who asks: one question at a time
	seq    uint64

	mu    sync.Mutex // for all that follows
	last  answer
	heard time.Time
	lost  error         // why it will not be asked again
	news  chan struct{} // closed when one of them changes, and made anew
	rtt   time.Duration // the shortest, of a question that said when the load began
	began time.Time     // by this machine's clock; zero: it is not known
	trip  time.Duration // the shortest of any question

	kick chan struct{} // makes the next beat come soon
	done chan struct{} // closed when beats have ended
}

func newMember(crew *Crew, h hello) *member {
	return &member{
		crew: crew, hello: h, part: partSize(crew.conn.MaxPayload()), heard: time.Now(), news: make(chan struct{}), kick: make(chan struct{}, 1),
		done: make(chan struct{}),
	}
}

// Codes of a member that will not be asked again.
const (
	codeLost = "generator_lost"
	codeGone = "generator_gone"
)

// fail is an error of this generator that it has not told itself.
func (m *member) fail(class storage.Class, code, hint, format string, args ...any) error {
	e := storage.Errorf(class, code, "ask", "generator "+m.hello.Name, format, args...)
	e.Hint = hint
	return e
}

// ask asks once. what makes the question, right before it is sent.
func (m *member) ask(ctx context.Context, what func() *ask) (*answer, error) {
	m.asking.Lock()
	defer m.asking.Unlock()
	ctx, cancel := context.WithTimeout(ctx, min(askLimit, m.crew.cfg.silence/3))
	defer cancel()
	m.seq++
	question := what()
	question.Lease, question.Crew, question.Seq = m.hello.Lease, m.crew.id, m.seq
	sealed, err := seal(m.crew.cfg.Sealer, askPurpose(m.hello.ID), question)
	if err != nil {
		return nil, err
	}
	sent := time.Now()
	data, err := m.crew.conn.AskGenerator(ctx, m.hello.ID, sealed)
	if err != nil {
		if errors.Is(err, broker.ErrUnavailable) {
			m.unheard()
		}
		return nil, err
	}
	var reply answer
	if err := unseal(m.crew.cfg.Sealer, answerPurpose(m.hello.ID), data, &reply); err != nil {
		return nil, err
	}
	if reply.Lease != question.Lease || reply.Seq != question.Seq {
		return nil, m.fail(storage.Corrupt, "bench_order", "", "an answer to another question came")
	}
	m.note(&reply, sent, time.Now())
	return &reply, nil
}

// note keeps what a generator has answered.
func (m *member) note(reply *answer, sent, came time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.heard = came
	if reply.Gone {
		m.lose(m.fail(storage.Unavailable, codeGone, "Its log says why.", "it no longer works for this coordinator"))
		return
	}
	trip := came.Sub(sent)
	if m.trip == 0 || trip < m.trip {
		m.trip = trip
	}
	if reply.Since != nil && (m.began.IsZero() || trip < m.rtt) {
		m.rtt, m.began = trip, sent.Add(trip/2-*reply.Since)
	}
	m.last = *reply
	m.last.Data = nil
	m.tell()
}

// unheard is called when there is nobody at the generator's subject. One that was closing has ended its process, or is about to be lost.
func (m *member) unheard() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.last.State == closing {
		m.lose(m.fail(storage.Unavailable, codeGone, "", "it has ended"))
	}
}

// lose says that the generator will not be asked again. The caller has the mutex.
func (m *member) lose(why error) {
	if m.lost == nil {
		m.lost = why
		m.tell()
	}
}

func (m *member) tell() {
	close(m.news)
	m.news = make(chan struct{})
}

// overdue gives a generator up that has been silent for too long.
func (m *member) overdue() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if silent := time.Since(m.heard); silent > m.crew.cfg.silence {
		m.lose(m.fail(storage.Unavailable, codeLost, "See whether it runs, and whether it reaches NATS.",
			"it was lost: no word for %s", m.crew.cfg.silence))
	}
	return m.lost
}

// do asks until there is an answer, and returns it if it is not a refusal.
func (m *member) do(ctx context.Context, what func() *ask) (*answer, error) {
	for {
		if err := m.overdue(); err != nil {
			return nil, err
		}
		reply, err := m.ask(ctx, what)
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case err == nil && reply.Gone:
			continue // it is lost
		case err == nil && reply.Refused != nil:
			return nil, reply.Refused.by(m.hello.Name)
		case err == nil:
			return reply, nil
		}
		if !rest(ctx, askRest) {
			return nil, context.Cause(ctx)
		}
	}
}

// command is do for a question that is a verb only.
func (m *member) command(ctx context.Context, v verb) error {
	_, err := m.do(ctx, func() *ask { return &ask{Verb: v} })
	return err
}

func rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (m *member) hurry() {
	select {
	case m.kick <- struct{}{}:
	default:
	}
}

// beats asks how the generator is, until ctx ends or it is lost: often after a command, then less so.
func (m *member) beats(ctx context.Context) {
	defer close(m.done)
	soon := min(beatSoon, m.crew.cfg.every)
	for wait := soon; ; wait = min(2*wait, m.crew.cfg.every) {
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-m.kick:
			wait = soon / 2 // the next one is soon
		case <-ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
		_, err := m.ask(ctx, func() *ask { return &ask{Verb: beat} })
		if ctx.Err() == nil && err != nil {
			m.crew.cfg.Logger.Debug("a load generator does not answer", "generator", m.hello.Name, "error", err)
		}
		if m.overdue() != nil {
			return
		}
	}
}

// await waits until the generator has come as far as a state. The error says why it will not.
func (m *member) await(ctx context.Context, as state) error {
	m.hurry()
	for {
		m.mu.Lock()
		last, lost, news := m.last, m.lost, m.news
		m.mu.Unlock()
		switch {
		case lost != nil:
			return lost
		case last.State == failed && last.Fault != nil:
			return last.Fault.by(m.hello.Name)
		case last.State >= as:
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// progress is how far the generator has come, and whether it still goes on.
func (m *member) progress() (p loadtest.Progress, goes bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.last.Progress != nil {
		p = *m.last.Progress
	}
	return p, m.lost == nil && m.last.State <= running
}

// release has the generator end what it does, and waits until it is free again.
func (m *member) release(ctx context.Context) {
	if m.command(ctx, leave) != nil {
		return // it is lost, or ends by itself
	}
	_ = m.await(ctx, closing+1) // until it is gone
}
