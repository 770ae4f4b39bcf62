package join

import (
	"context"
	"crypto/rand"
	"errors"
	"regexp"
	"time"

	"github.com/sourcegraph/conc/panics"

	"github.com/copyfleet/copyfleet/loadtest"
	"github.com/copyfleet/copyfleet/loadtest/record"
	"github.com/copyfleet/copyfleet/storage"
)

// lease is what a generator does for one coordinator. All but the first fields belong to the server's mutex.
type lease struct {
	id, crew string
	owner    string // the coordinator's name
	work     context.Context
	stop     context.CancelFunc // ends work
	gone     chan struct{}      // closed when the generator is free again

	state state
	fault *fault // failed: why
	seq   uint64 // of the last question
	heard time.Time
	watch *time.Timer
	step  chan struct{} // closed when the step that is under way has ended; nil: there was none

	job       []byte // packed, as far as it has come
	generator Generator
	began     time.Time // zero: it has not
	progress  *loadtest.Progress
	result    *blob
}

// taken gives the generator to a coordinator.
func (s *server) taken(a *ask) {
	// The lease outlives the question, and ends by itself when its coordinator falls silent.
	work, stop := context.WithCancel(context.Background()) //nolint:forbidigo // the lease is what ends it
	l := &lease{id: a.Lease, crew: a.Crew, owner: a.Name, work: work, stop: stop, gone: make(chan struct{}), state: taken}
	l.watch = time.AfterFunc(s.cfg.silence, func() { s.silent(l) })
	s.lease, s.ticket = l, rand.Text()
	s.cfg.Logger.Info("a coordinator took this load generator", "coordinator", l.owner)
}

// silent frees the generator whose coordinator has said nothing for too long.
func (s *server) silent(l *lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.state == closing || time.Since(l.heard) < s.cfg.silence {
		return // it was heard just now
	}
	s.cfg.Logger.Warn("the coordinator has fallen silent: its load ends", "coordinator", l.owner, "state", l.state.String())
	s.release(l)
}

// release ends a lease: the load, then the generator, and then others may take it.
func (s *server) release(l *lease) {
	if l.state == closing {
		return
	}
	l.state = closing
	l.stop()
	l.watch.Stop()
	l.job, l.result = nil, nil
	go func() {
		if l.step != nil {
			<-l.step
		}
		if l.generator != nil {
			if thrown := panics.Try(l.generator.Close); thrown != nil {
				s.cfg.Logger.Error("closing the load panicked", "panic", thrown.String())
			}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.lease = nil
		s.cfg.Logger.Info("this load generator is free", "coordinator", l.owner)
		close(l.gone)
	}()
}

func (l *lease) answer() *answer {
	a := &answer{State: l.state, Fault: l.fault, Progress: l.progress}
	if !l.began.IsZero() {
		since := time.Since(l.began)
		a.Since = &since
	}
	if l.result != nil {
		a.Size, a.Digest = len(l.result.packed), l.result.digest
	}
	return a
}

// earliest is the state from which on a coordinator may ask for something: what moves the lease does so from this state, and later nothing.
var earliest = map[verb]state{put: taken, open: taken, prepare: opened, start: prepared, fetch: ended}

// obey does what the coordinator asks. A step that was begun already is not begun again: the coordinator repeats a question whose answer was lost.
func (s *server) obey(l *lease, a *ask) (part []byte, err error) {
	from := earliest[a.Verb]
	if l.state < from {
		return nil, refusal(storage.Conflict, "bench_order", "", "%q comes too early: the generator is %s", a.Verb, l.state)
	}
	switch a.Verb {
	case fetch:
		return l.fetch(a, s.part)
	case stop:
		l.stop()
	case leave:
		s.release(l)
	default:
		if l.state == from {
			return nil, s.move(l, a)
		}
	}
	return nil, nil
}

// move moves a lease on.
func (s *server) move(l *lease, a *ask) error {
	switch a.Verb {
	case put:
		return l.put(a)
	case open:
		return s.openJob(l, a)
	case prepare:
		s.do(l, preparing, prepared, func() error { return l.generator.Prepare(l.work) })
	case start:
		s.start(l, a.In)
	default: // take and beat move nothing
	}
	return nil
}

func (l *lease) put(a *ask) error {
	if a.Offset != len(l.job) {
		return nil // it has come before
	}
	if a.Size > mostBlob || len(l.job)+len(a.Data) > mostBlob {
		return refusal(storage.TooLarge, "bench_too_large", "", "the job is larger than %d MiB", mostBlob>>20)
	}
	l.job = append(l.job, a.Data...)
	return nil
}

// fetch returns a part of the result, of so many bytes at most.
func (l *lease) fetch(a *ask, most int) ([]byte, error) {
	if l.result == nil || a.Offset < 0 || a.Offset > len(l.result.packed) || a.Size < 0 {
		return nil, refusal(storage.Invalid, "bench_order", "", "there is no such part of a result")
	}
	return l.result.packed[a.Offset:min(len(l.result.packed), a.Offset+min(a.Size, most))], nil
}

// do makes a step, after which the lease has another state.
func (s *server) do(l *lease, during, after state, what func() error) {
	l.state, l.step = during, make(chan struct{})
	go func() {
		defer close(l.step)
		var err error
		if thrown := panics.Try(func() { err = what() }); thrown != nil {
			s.cfg.Logger.Error("the load panicked", "state", during.String(), "panic", thrown.String())
			err = storage.Errorf(storage.Internal, "generator_panicked", during.String(), "the load", "it panicked; its log says where")
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		switch {
		case l.state == closing:
		case err != nil:
			l.state, l.fault = failed, faultOf(during.String(), err)
		default:
			l.state = after
		}
	}()
}

// runName is what the name of a run is: it becomes a part of keys and file names.
var runName = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z_-]{0,63}$`)

func (s *server) openJob(l *lease, a *ask) error {
	if a.Place == nil || !runName.MatchString(a.Place.Run) || a.Place.Generator < 0 || a.Place.Generator >= a.Place.Generators {
		return refusal(storage.Invalid, "bench_place", "", "a job needs a place in a run, whose name has letters, digits and dashes")
	}
	packed, place := l.job, *a.Place
	l.job = nil
	s.do(l, opening, opened, func() error {
		job, err := unpack(packed, a.Digest)
		if err != nil {
			return err
		}
		l.generator, err = s.open(job, place)
		return err
	})
	return nil
}

// start begins the load in a while.
func (s *server) start(l *lease, in time.Duration) {
	at := time.Now().Add(min(max(0, in), mostLead))
	s.do(l, running, ended, func() error {
		timer := time.NewTimer(time.Until(at))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-l.work.Done(): // the generator says itself that it was interrupted
		}
		s.mu.Lock()
		l.began = time.Now()
		s.mu.Unlock()
		s.cfg.Logger.Info("the load begins", "coordinator", l.owner)
		run, err := l.generator.Run(l.work, func(p loadtest.Progress) { s.tell(l, &p) })
		if err != nil && run == nil {
			return err
		}
		return s.keep(l, run, err)
	})
}

func (s *server) tell(l *lease, p *loadtest.Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.progress = p
}

// keep keeps what a load has measured until the coordinator fetches it.
func (s *server) keep(l *lease, run *record.Run, failure error) error {
	if run == nil || run.Totals == nil {
		return errors.New("the load has measured nothing")
	}
	if failure != nil {
		run.Partial = append(run.Partial, failure.Error())
	}
	result, err := packRun(run)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.state != closing {
		l.result = result
	}
	return nil
}
