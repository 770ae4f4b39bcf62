package join

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/loadtest"
	"github.com/copyfleet/copyfleet/loadtest/record"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
)

// Config is what generators and coordinators have alike.
type Config struct {
	Version string           // of the program; the same on both sides
	Sealer  *protocol.Sealer // of the fleet's sealing key, the same on both sides: jobs hold credentials
	Name    string           // of this process, for people; "": its host and process id
	Logger  *slog.Logger

	silence time.Duration // without a word of the other side, after which it is lost; 0: [Silence]
	every   time.Duration // between two beats; 0: [beatEvery]
}

// Silence is how long a generator or a coordinator may say nothing before the other side takes it for lost.
const Silence = 15 * time.Second

func (c *Config) complete() error {
	if c.Sealer == nil {
		return refusal(storage.Invalid, "bench_key", "Give all the same --seal-key.", "a sealing key is needed: jobs hold credentials")
	}
	if c.Name == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "unnamed"
		}
		c.Name = host + ":" + strconv.Itoa(os.Getpid())
	}
	c.silence, c.every = cmp.Or(c.silence, Silence), cmp.Or(c.every, beatEvery)
	return nil
}

// Generator makes the load of one place of a run. Its methods are called once each, in this order; Run and Prepare may be left out. None may use the job's
// secrets in an error.
type Generator interface {
	// Prepare writes what the load needs.
	Prepare(ctx context.Context) error
	// Run makes the load until its end or until ctx ends, when it soon returns what was done until then. progress may be called from any goroutine.
	Run(ctx context.Context, progress func(loadtest.Progress)) (*record.Run, error)
	// Close gives back what the generator holds.
	Close()
}

// Open makes the generator of a job, which is what the coordinator was given.
type Open func(job []byte, place loadtest.Place) (Generator, error)

// Serve is a load generator until ctx ends: it can be taken by a coordinator, one at a time. When ctx ends during a run, the load stops, and the coordinator
// has [Silence] to fetch what was measured. The error says why it could not begin.
func Serve(ctx context.Context, conn *broker.Conn, cfg Config, open Open) error {
	if err := cfg.complete(); err != nil {
		return err
	}
	s := &server{cfg: cfg, open: open, id: rand.Text(), ticket: rand.Text(), part: partSize(conn.MaxPayload())}
	stop, err := conn.HearGenerator(s.id, s.roll, s.hear)
	if err != nil {
		return err
	}
	defer stop()
	cfg.Logger.Info("this load generator waits for a coordinator", "name", cfg.Name)
	<-ctx.Done()
	s.drain()
	return nil
}

// server is a load generator.
type server struct {
	cfg  Config
	open Open
	id   string
	part int // bytes of a result in one message

	mu      sync.Mutex
	ticket  string // the id of the next lease
	lease   *lease // nil: it is free
	leaving bool   // nobody may take it any more
}

// roll is the answer to a roll call.
func (s *server) roll() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leaving {
		return nil
	}
	h := hello{ID: s.id, Name: s.cfg.Name, Version: s.cfg.Version, Protocol: Protocol, Key: s.cfg.Sealer.ID(), Lease: s.ticket}
	if s.lease != nil {
		h.Lease, h.Taken = "", s.lease.owner
	}
	text, err := json.Marshal(h)
	if err != nil {
		return nil // it has nothing that cannot be written
	}
	return text
}

// hear answers what a coordinator asks. What was not sealed for this generator has no answer.
func (s *server) hear(question []byte) []byte {
	var a ask
	if err := unseal(s.cfg.Sealer, askPurpose(s.id), question, &a); err != nil {
		s.cfg.Logger.Debug("a message to this load generator cannot be read", "error", err)
		return nil
	}
	reply := s.answer(&a)
	reply.Lease, reply.Seq = a.Lease, a.Seq
	sealed, err := seal(s.cfg.Sealer, answerPurpose(s.id), reply)
	if err != nil {
		s.cfg.Logger.Error("an answer to the coordinator cannot be written", "error", err)
		return nil
	}
	return sealed
}

func (s *server) answer(a *ask) *answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.Verb == take && s.lease == nil && !s.leaving && a.Lease == s.ticket {
		if r := s.match(a); r != nil {
			return &answer{Refused: r}
		}
		s.taken(a)
	}
	l := s.lease
	if l == nil || l.id != a.Lease || l.crew != a.Crew {
		return &answer{Gone: true}
	}
	if a.Seq <= l.seq {
		return &answer{Refused: faultOf("join", refusal(storage.Conflict, "bench_order", "", "question %d came after question %d", a.Seq, l.seq))}
	}
	l.seq, l.heard = a.Seq, time.Now()
	l.watch.Reset(s.cfg.silence)
	part, err := s.obey(l, a)
	reply := l.answer()
	reply.Data = part
	if err != nil {
		reply.Refused = faultOf("join", err)
	}
	return reply
}

// match refuses a coordinator of another version.
func (s *server) match(a *ask) *fault {
	if a.Version == s.cfg.Version && a.Protocol == Protocol {
		return nil
	}
	return faultOf("join", otherVersion(s.cfg.Name, s.cfg.Version, Protocol, a.Version, a.Protocol))
}

func otherVersion(name, its string, itsProtocol int, mine string, myProtocol int) error {
	return refusal(storage.Invalid, "bench_version", "Run the same version on all machines: figures of different versions are not to be mixed.",
		"generator %s is copyfleet %s (bench protocol %d), the coordinator %s (bench protocol %d)", name, its, itsProtocol, mine, myProtocol)
}

// drain ends what the generator does, with time for its coordinator to fetch what was measured.
func (s *server) drain() {
	s.mu.Lock()
	s.leaving = true
	l := s.lease
	if l != nil {
		l.stop()
	}
	s.mu.Unlock()
	if l == nil {
		return
	}
	patience := time.NewTimer(s.cfg.silence)
	defer patience.Stop()
	select {
	case <-l.gone:
	case <-patience.C:
		s.mu.Lock()
		s.release(l)
		s.mu.Unlock()
		<-l.gone
	}
}
