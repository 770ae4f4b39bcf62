package join

import (
	"bytes"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/loadtest"
	"github.com/copyfleet/copyfleet/loadtest/record"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
)

func TestLargeResult(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.start(f.named("m0"), fake{name: "a", ops: 3, seconds: 280_000})
	crew := f.ready(1)
	run, err := crew.Run(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := within(t, m.made, "the job").run()
	if packed, err := packRun(want); err != nil || len(packed.packed) < 5<<20 {
		t.Errorf("the result comes to %d bytes (%v), which is not large", len(packed.packed), err)
	}
	if !slices.Equal(run.Totals.Seconds, want.Totals.Seconds) || text(t, run.Totals.Groups) != text(t, want.Totals.Groups) {
		t.Error("the result is not what was measured")
	}
}

// TestHostileMessages: whoever reaches the subjects, and even who has the key, cannot break a generator.
func TestHostileMessages(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.start(f.named("m0"), fake{name: "a", ops: 2})
	conn := f.connect("hostile")
	h := f.free()[0]
	other, err := protocol.NewSealer(protocol.NewSealKey())
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := seal(other, askPurpose(h.ID), &ask{Lease: h.Lease, Seq: 1, Verb: take})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	var all sync.WaitGroup
	for _, message := range [][]byte{
		nil, {0}, []byte("{}"), []byte(`{"seq":1e999}`), bytes.Repeat([]byte("["), 7<<20), foreign,
		f.cfg.Sealer.SealToken(askPurpose("another"), []byte(`{"verb":"take"}`)),
		f.cfg.Sealer.SealToken(askPurpose(h.ID), []byte(`{"seq":1e999}`)), f.cfg.Sealer.SealToken(askPurpose(h.ID), []byte(`nonsense`)),
	} {
		all.Go(func() {
			if reply, err := conn.AskGenerator(ctx, h.ID, message); err == nil {
				t.Errorf("%.50q has the answer %q", message, reply)
			}
		})
	}
	all.Wait()
	crew := f.ready(1)
	m := crew.members[0]
	for _, a := range []ask{
		{Verb: "nonsense", Seq: 1 << 40},
		{Verb: put, Offset: -1, Size: math.MaxInt, Data: []byte("x"), Seq: 1 << 41},
		{Verb: open, Seq: 1 << 42},
		{Verb: fetch, Offset: math.MinInt, Size: math.MinInt, Seq: 1 << 43},
		{Verb: fetch, Offset: math.MaxInt, Size: math.MaxInt, Seq: 1 << 44},
		{Verb: beat, Seq: 1}, // it is too late for that
	} {
		var reply answer
		a.Lease, a.Crew = h.Lease, crew.id
		sealed, err := seal(f.cfg.Sealer, askPurpose(h.ID), &a)
		if err != nil {
			t.Fatal(err)
		}
		data, err := conn.AskGenerator(t.Context(), h.ID, sealed)
		if err = errors.Join(err, unseal(f.cfg.Sealer, answerPurpose(h.ID), data, &reply)); err != nil {
			t.Fatal(err)
		}
		if refused := reply.Refused != nil; refused != (a.Verb == fetch || a.Verb == beat) || reply.Gone {
			t.Errorf("%s: answered %+v", a.Verb, reply)
		}
		if data, err = conn.AskGenerator(t.Context(), h.ID, sealed); err != nil { // the same again, as somebody would who has overheard it
			t.Fatal(err)
		}
		reply = answer{}
		if err := unseal(f.cfg.Sealer, answerPurpose(h.ID), data, &reply); err != nil || reply.Refused == nil {
			t.Errorf("%s again: answered %+v, %v", a.Verb, reply, err)
		}
	}
	m.asking.Lock()
	m.seq = 1 << 50
	m.asking.Unlock()
	if run, err := crew.Run(t.Context(), nil); err != nil || run.Totals.Groups[0].Ops != 2 {
		t.Errorf("the run came to %+v, %v", run, err)
	}
}

// TestAnyOrder asks in any order: each method of a generator is called once at most and in its order, and the generator is free in the end.
func TestAnyOrder(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	packed, err := pack([]byte("job"))
	if err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	verbs := []verb{put, open, prepare, start, beat, stop, fetch, leave, take}
	reached := map[string]bool{}
	for range 300 {
		var calls order
		cfg := f.named("m0")
		if err := cfg.complete(); err != nil {
			t.Fatal(err)
		}
		s := &server{cfg: cfg, ticket: "l", open: func([]byte, loadtest.Place) (Generator, error) { return &calls, nil }}
		s.answer(&ask{Verb: take, Lease: "l", Crew: "c", Seq: 1, Version: cfg.Version, Protocol: Protocol})
		l := s.lease
		for seq := uint64(2); seq < 40 && l.state != closing; seq++ {
			a := &ask{Verb: verbs[random.IntN(len(verbs))], Lease: "l", Crew: "c", Seq: seq, Data: packed.packed, Digest: packed.digest, Place: &loadtest.Place{Run: "r", Generators: 1}}
			s.answer(a)
			s.mu.Lock()
			step := l.step
			s.mu.Unlock()
			if step != nil && random.IntN(4) > 0 {
				within(t, step, "a step")
			}
		}
		s.mu.Lock()
		s.release(l)
		s.mu.Unlock()
		within(t, l.gone, "the generator to be free")
		if s.lease != nil || !calls.right() {
			t.Fatalf("seed %d: the calls were %q", seed, calls.names)
		}
		reached[strings.Join(calls.names, " ")] = true
		again := &ask{Verb: take, Lease: "l", Crew: "c", Seq: 1, Version: cfg.Version, Protocol: Protocol}
		if r := s.answer(again); !r.Gone || s.lease != nil { // somebody has kept the first question
			t.Fatalf("an old lease is taken again: %+v", r)
		}
		again.Lease, s.leaving = s.ticket, true
		if r := s.answer(again); !r.Gone || s.lease != nil || s.roll() != nil {
			t.Fatalf("a generator that leaves can be taken: %+v", r)
		}
	}
	if !reached[""] || !reached["prepare run close"] {
		t.Errorf("the runs were only %v", reached)
	}
}

// order is a generator that keeps which calls it had, in memory.
type order struct{ names []string }

func (o *order) Prepare(context.Context) error { o.names = append(o.names, "prepare"); return nil }

func (o *order) Run(context.Context, func(loadtest.Progress)) (*record.Run, error) {
	o.names = append(o.names, "run")
	return &record.Run{Totals: &record.Totals{}}, nil
}

func (o *order) Close() { o.names = append(o.names, "close") }

func (o *order) right() bool {
	switch strings.Join(o.names, " ") {
	case "", "close", "prepare close", "prepare run close":
		return true
	}
	return false
}

func TestForeignAnswers(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	r := &roll{cfg: &f.cfg, heard: map[string]hello{}}
	for _, text := range []string{
		"", "[]", `{"id":1e999}`, `{"id":""}`, `{"id":"a","name":"\u001b[2J"}`, `{"id":"a","taken":"\n"}`, `{"id":"a","version":"` + strings.Repeat("9", mostHello) + `"}`,
	} {
		r.hear([]byte(text))
	}
	if len(r.heard) > 0 {
		t.Errorf("heard %v", r.heard)
	}
	huge := []byte("\x28\xb5\x2f\xfd\xe0\x00\x00\x00\x00\x00\x01\x00\x00\x01\x00\x00") // says that it comes to a tebibyte
	for _, packed := range [][]byte{nil, []byte("x"), huge} {
		if plain, err := unpack(packed, digestOf(packed)); err == nil && len(plain) > 0 {
			t.Errorf("%q is %q", packed, plain)
		}
	}
	good, err := pack([]byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unpack(good.packed, digestOf(nil)); storage.ClassOf(err) != storage.Corrupt {
		t.Errorf("another digest: %v", err)
	}
	for _, text := range []string{`{}`, `{"totals":{"groups":[null]}}`, `{"totals":{"faults":[null]}}`, `{"totals":{},"headers":[null]}`, `nonsense`} {
		b, err := pack([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unpackRun(b.packed, b.digest); err == nil {
			t.Errorf("%s is a result", text)
		}
	}
}

// TestPlaces: the name of a run becomes a part of paths on the generator's machine.
func TestPlaces(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.start(f.named("m0"), fake{})
	for _, run := range []string{"", "../../etc/x", "a/b", ".", "a b", "-a", "\x1b[2J", strings.Repeat("a", 65)} {
		crew := f.gather(1)
		err := crew.Open(t.Context(), run, nil)
		if e, ok := errors.AsType[*storage.Error](err); !ok || e.Class != storage.Invalid || e.Code != "bench_place" {
			t.Errorf("run %q: %v", run, err)
		}
		crew.Close()
	}
	if len(m.made) > 0 {
		t.Error("a job was opened")
	}
}

// TestPartsFit into a message, whatever the server takes.
func TestPartsFit(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	for _, payload := range []int64{64 << 10, 1 << 20, 8 << 20, 64 << 20} {
		part := make([]byte, partSize(payload))
		long := strings.Repeat("<", 100_000) // each is six bytes in JSON
		e := faultOf("run", &storage.Error{Code: long, Op: long, Subject: long, Message: long + "é", Hint: long})
		question, err := seal(f.cfg.Sealer, "x", &ask{Lease: strings.Repeat("A", 26), Crew: strings.Repeat("A", 26), Seq: math.MaxUint64, Verb: put, Offset: math.MaxInt, Size: math.MaxInt, Data: part})
		reply, err2 := seal(f.cfg.Sealer, "x", &answer{Lease: strings.Repeat("A", 26), Seq: math.MaxUint64, Fault: e, Progress: &loadtest.Progress{}, Digest: digestOf(nil), Data: part})
		if errors.Join(err, err2) != nil || int64(max(len(question), len(reply))) > payload {
			t.Errorf("%d bytes: a question has %d, an answer %d", payload, len(question), len(reply))
		}
	}
}

// TestStarts: when a load began is what the shortest round trip tells.
func TestStarts(t *testing.T) {
	t.Parallel()
	m := &member{crew: &Crew{}, news: make(chan struct{})}
	sent := time.Now()
	say := func(since, trip time.Duration) { m.note(&answer{State: running, Since: &since}, sent, sent.Add(trip)) }
	say(time.Second, 100*time.Millisecond)
	say(2*time.Second, 10*time.Millisecond)
	say(3*time.Second, 20*time.Millisecond)
	if got := m.began.Sub(sent); got != 5*time.Millisecond-2*time.Second {
		t.Errorf("it began at %s", got)
	}
	crew := &Crew{members: []*member{m, {began: m.began.Add(time.Millisecond)}, {}}}
	if got := crew.spread(); got != time.Millisecond {
		t.Errorf("they began %s apart", got)
	}
}
