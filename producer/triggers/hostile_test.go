package triggers

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/klauspost/compress/s2"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// newSheet is an org whose streams are paper, and which runs in a bubble of [synctest].
func newSheet(t *testing.T, text string) (*stage, *paper) {
	t.Helper()
	sealer, err := protocol.NewSealer(protocol.NewSealKey())
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{T: t, sealer: sealer, desk: newDesk(), shelf: &shelf{objects: map[string]Object{}}, shown: map[string]shown{}, swept: map[string]sweepTally{}}
	s.apply(text)
	return s, &paper{fault: func() (before, after error) { return nil, nil }}
}

// runPaper lets the org run for a while.
func (s *stage) runPaper(p *paper, d time.Duration, change func(*org)) {
	ctx, cancel := context.WithTimeout(s.Context(), d)
	defer cancel()
	for ctx.Err() == nil {
		o := s.org()
		o.streams = p.ledger()
		if change != nil {
			change(o)
		}
		_ = o.run(ctx)
	}
}

// TestEventsAreReadAsThereIsRoom has notifications that are as large as they may be, and larger in memory than as text.
func TestEventsAreReadAsThereIsRoom(t *testing.T) {
	t.Parallel()
	const notes = 64
	synctest.Test(t, func(t *testing.T) {
		s, p := newSheet(t, copyRule)
		for i := range notes {
			event := created(fmt.Sprint("k", i), i+1, "")
			record, _ := event["Records"].([]any)[0].(map[string]any)
			record["more"] = make([]struct{}, 30_000) // "{}," each
			p.publish(event)
		}
		most := 0
		s.runPaper(p, time.Minute, func(o *org) {
			stat := o.rules
			o.rules = func(ctx context.Context) ([]activeRule, error) {
				held := 0
				for i := range o.pending {
					held += room(o.pending[i].event.Fields)
				}
				most = max(most, held)
				return stat(ctx)
			}
		})
		if most > 32<<20 {
			t.Errorf("%d MiB were held", most>>20)
		}
		if got := len(s.desk.items()); got != notes {
			t.Errorf("%d of %d were copied", got, notes)
		}
	})
}

// TestParkedEventKeepsNoOthers has two events of one notification, of which one stays.
func TestParkedEventKeepsNoOthers(t *testing.T) {
	t.Parallel()
	s, p := newSheet(t, copyRule)
	two := created("a", 1, "")
	two["Records"] = append(two["Records"].([]any), created("b", 2, "")["Records"].([]any)...)
	p.publish(two)
	o := s.org()
	o.m = newMemory()
	o.take(t.Context(), &p.events[0])
	stays, goes := o.pending[0], weak.Make(o.pending[1].event)
	o.pending = nil
	runtime.GC()
	if goes.Value() != nil {
		t.Error("an event that is dealt with stays in memory")
	}
	runtime.KeepAlive(stays)
}

// TestRepetitionsMakeFewRecords has one event come again and again: each record is kept for as long as events are remembered.
func TestRepetitionsMakeFewRecords(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, p := newSheet(t, copyRule)
		go func() {
			for range 1000 {
				p.publish(created("a", 1, ""))
				pause(t.Context(), 5*time.Millisecond)
			}
		}()
		s.runPaper(p, 10*time.Second, nil)
		if got := s.counts("copy").Duplicates; got != 999 {
			t.Errorf("%d repetitions, want 999", got)
		}
		if got, most := len(p.records), int(5*time.Second/RollingInterval)+5; got > most {
			t.Errorf("%d records, want %d at most", got, most)
		}
	})
}

// TestSubmissionIsNotedWhileEventsWait has an event parked for long: what was submitted before must not be submitted again when it is over and removed.
func TestSubmissionIsNotedWhileEventsWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, p := newSheet(t, copyRule)
		p.publish(created("a", 1, ""))
		s.runPaper(p, time.Millisecond, nil)
		p.publish(created("a", 2, ""))
		p.publish(created("b", 3, ""))
		s.runPaper(p, 10*time.Second, nil)
		if got := s.counts("copy"); got.Waiting != 1 || got.Copies != 2 {
			t.Fatalf("counts %+v", got)
		}
		before := s.desk.again
		s.runPaper(p, time.Second, nil)
		if s.desk.again != before {
			t.Error("a batch is submitted again")
		}
		if n := len(p.records); n > 4 {
			t.Errorf("%d records", n)
		}
	})
}

// late is a reader that a server which is behind tells at first that there is nothing.
type late struct {
	reader

	until time.Time
}

func (l *late) Fetch(ctx context.Context, n int, wait time.Duration) ([]broker.Notification, error) {
	if time.Now().Before(l.until) {
		pause(ctx, wait)
		return nil, nil
	}
	return l.reader.Fetch(ctx, n, wait)
}

// TestParkedEventsAreNotGivenUpEarly restarts with events that wait, and reads them from a server that does not have them yet.
func TestParkedEventsAreNotGivenUpEarly(t *testing.T) {
	t.Parallel()
	for _, gone := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s, p := newSheet(t, copyRule)
			p.publish(created("a", 1, ""))
			s.runPaper(p, time.Second, nil)
			p.publish(created("a", 2, ""))
			s.runPaper(p, 3*time.Second, nil)
			want := Counts{Matched: 2, Copies: 1, Waiting: 1}
			if got := s.counts("copy"); got != want {
				t.Fatalf("counts %+v", got)
			}
			s.desk.end()
			if want = (Counts{Matched: 2, Copies: 2}); gone {
				p.events, want.Copies = nil, 1
			}
			s.runPaper(p, time.Minute, func(o *org) {
				read := o.streams.read
				o.streams.read = func(ctx context.Context, after uint64) (reader, error) {
					r, err := read(ctx, after)
					return &late{reader: r, until: time.Now().Add(10 * time.Second)}, err
				}
			})
			if got := s.counts("copy"); got != want {
				t.Errorf("gone %t: counts %+v, want %+v", gone, got, want)
			}
		})
	}
}

// TestOneLongCopyDoesNotFillTheStream has an event wait for long, while others come that no rule is about.
func TestOneLongCopyDoesNotFillTheStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, p := newSheet(t, copyRule)
		p.publish(created("a", 1, ""))
		s.runPaper(p, time.Second, nil)
		p.publish(created("a", 2, ""))
		for i := range mostBehind + 3*removeMost/2 {
			event := created(fmt.Sprint("k", i), i, "")
			record, _ := event["Records"].([]any)[0].(map[string]any)
			object, _ := record["s3"].(map[string]any)
			object["bucket"] = map[string]any{"name": "other"}
			p.publish(event)
		}
		p.publish(created("b", 4, ""))
		s.runPaper(p, 10*time.Second, nil)
		if len(p.events) > mostBehind {
			t.Errorf("%d notifications are left", len(p.events))
		}
		s.desk.end()
		s.runPaper(p, 10*time.Second, nil) // and it is found again by who comes next
		if got, want := s.counts("copy"), (Counts{Matched: 3, Copies: 3}); got != want || len(p.events) > 0 {
			t.Errorf("counts %+v, want %+v; %d notifications are left", got, want, len(p.events))
		}
	})
}

const secretRule = `name: secret
match: {source: s3, bucket: inbox}
copy:
  src: {type: httpGetLocation, url: "http://a.example/{{key}}", headers: {Authorization: "{{secret.token}}"}}
  dest: {type: objectLocation, bucket: outbox, key: "secret/{{key}}"}
`

// TestEventThatOneFailsOverHoldsNothingUp has the program panic over an event.
func TestEventThatOneFailsOverHoldsNothingUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, p := newSheet(t, copyRule+"---\n"+secretRule)
		p.publish(created("a", 1, ""))
		p.publish(created("b", 2, ""))
		times := 0
		s.runPaper(p, time.Minute, func(o *org) {
			o.secret = func(string) (string, error) {
				if times++; times == 1 {
					panic("hush")
				}
				return "hush", nil
			}
		})
		if got, want := s.counts("secret"), (Counts{Matched: 2, Copies: 1, Refused: 1}); got != want {
			t.Errorf("counts %+v, want %+v", got, want)
		}
		if got := s.counts("copy").Copies; got != 2 {
			t.Errorf("another rule makes %d copies", got)
		}
		if told := s.shown["secret"].Problems; len(told) != 1 || told[0].Code != codeInternal || strings.Contains(told[0].Message, "hush") {
			t.Errorf("problems %+v", told)
		}
	})
}

// TestRecordsStaySmall has events whose texts take the most room in a record: none is larger than a message of any server may be.
func TestRecordsStaySmall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, p := newSheet(t, copyRule+"---\n"+strings.NewReplacer("name: copy", "name: no", "outbox", "forbidden").Replace(copyRule))
		random := rand.New(rand.NewPCG(1, 2))
		text := func(n int, of string) string {
			b := make([]byte, n)
			for i := range b {
				b[i] = of[random.IntN(len(of))]
			}
			return string(b)
		}
		const few, many = "<>&\x01\x02\x1f", "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
		for i := range 600 {
			p.publish(created(text(1000, few), i+1, ""))
			p.publish(created(text(1000, many), i+1, ""))
			if i%100 == 0 {
				p.publish(created(text(100, many), i+1, text(200_000, many)))
				p.publish(created(text(100, many), i+1, text(70_000, many)))
			}
		}
		s.runPaper(p, time.Minute, nil)
		if c := s.counts("copy"); c.Matched != 1212 || c.Refused != 612 {
			t.Errorf("counts %+v", c)
		}
		for i, r := range p.records {
			if size := len(s2.Encode(nil, r.text)); size > 1<<20 {
				t.Errorf("record %d of %d has %d bytes, %d compressed", i, len(p.records), len(r.text), size)
			}
		}
	})
}
