package triggers

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

func TestOneProcessLeads(t *testing.T) {
	t.Parallel()
	server, key := startServer(t), protocol.NewSealKey()
	one, two := newKit(t, server, key), newKit(t, server, key)
	one.lease.goneAfter = time.Hour                                  // it leads until its end, whatever the machine does
	two.lease.renewEvery, two.lease.goneAfter = time.Hour, time.Hour // it only hears that the lease is given up
	applied(t, one.Service, "name: a")
	stop := one.start(t)
	until(t, "the first leads", func() bool { return one.Leads() && one.running(acme) == 1 })
	two.start(t)
	revision := two.lookAgain(t)
	if two.Leads() || revision == 0 {
		t.Fatal("both lead")
	}
	// At its end it hands over: the other does not wait until the lease is over.
	stop()
	if one.running(acme) != 0 {
		t.Error("a loop runs on after the end")
	}
	until(t, "the other leads", func() bool { return two.Leads() && two.running(acme) == 1 })
}

// lookAgain waits until the service, which does not lead, has looked at the lease of another, and returns its revision.
func (k *kit) lookAgain(t *testing.T) uint64 {
	t.Helper()
	until(t, "it follows the rules", func() bool { _, err := k.rulesOf(acme); return err == nil })
	e, err := k.bucket.Get(t.Context(), leaseKey)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the lease is renewed", func() bool {
		now, err := k.bucket.Get(t.Context(), leaseKey)
		return err == nil && now.Revision > e.Revision+3
	})
	return e.Revision
}

// TestAnotherLeadsAfterAKill cuts a leader off without a word.
func TestAnotherLeadsAfterAKill(t *testing.T) {
	t.Parallel()
	server, key := startServer(t), protocol.NewSealKey()
	one, two := newKit(t, server, key), newKit(t, server, key)
	applied(t, one.Service, "name: a")
	one.start(t)
	until(t, "the first leads", one.Leads)
	two.start(t)
	two.lookAgain(t)
	one.conn.Close()
	until(t, "the other leads", func() bool { return two.Leads() && two.running(acme) == 1 })
	until(t, "the first knows", func() bool { return !one.Leads() && one.running(acme) == 0 })
}

// TestLeaseThatWasTakenIsNoticed has somebody else write the lease, as after a pause of this process.
func TestLeaseThatWasTakenIsNoticed(t *testing.T) {
	t.Parallel()
	k := newKit(t, startServer(t), protocol.NewSealKey())
	applied(t, k.Service, "name: a")
	k.start(t)
	until(t, "it leads", func() bool { return k.running(acme) == 1 })
	if _, err := k.bucket.Put(t.Context(), leaseKey, []byte("another")); err != nil {
		t.Fatal(err)
	}
	until(t, "its loops end", func() bool { return k.running(acme) == 0 })
	until(t, "it leads again when that one is gone", func() bool { return k.running(acme) == 1 })
}

// TestLeaseOfOnesOwnIsKept has the record written by this process itself, as if the answer had been lost.
func TestLeaseOfOnesOwnIsKept(t *testing.T) {
	t.Parallel()
	k := newKit(t, startServer(t), protocol.NewSealKey())
	l := k.lease
	if ours, err := l.take(t.Context()); err != nil || !ours {
		t.Fatal(ours, err)
	}
	if _, err := k.bucket.Put(t.Context(), leaseKey, []byte(l.identity)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if ours, err := l.renew(t.Context()); err != nil || !ours {
			t.Fatal(ours, err)
		}
	}
}

// TestRenewalThatWasCutShortIsReleased has a renewal done whose answer nobody waited for, as at the end of a process.
func TestRenewalThatWasCutShortIsReleased(t *testing.T) {
	t.Parallel()
	k := newKit(t, startServer(t), protocol.NewSealKey())
	l := k.lease
	for _, holder := range []string{l.identity, "another"} {
		if ours, err := l.take(t.Context()); err != nil || !ours {
			t.Fatal(ours, err)
		}
		if _, err := k.bucket.Put(t.Context(), leaseKey, []byte(holder)); err != nil {
			t.Fatal(err)
		}
		if err := l.release(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err := k.bucket.Get(t.Context(), leaseKey)
		if held := err == nil; held != (holder == "another") {
			t.Errorf("held by %s: the lease is there afterwards: %t (%v)", holder, held, err)
		}
	}
}

func TestLoopsFollowTheRules(t *testing.T) {
	t.Parallel()
	k := newKit(t, startServer(t), protocol.NewSealKey())
	k.start(t)
	until(t, "it leads", k.Leads)
	applied(t, k.Service, "name: a")
	until(t, "an org with a rule has a loop", func() bool { return k.running(acme) == 1 })
	if err := k.Delete(t.Context(), acme, "a"); err != nil {
		t.Fatal(err)
	}
	applied(t, k.Service, "name: b")
	until(t, "one loop", func() bool { list, err := k.rulesOf(acme); return err == nil && len(list) == 1 && k.running(acme) == 1 })
	// A rule that this version cannot read holds its org up, and nobody else.
	record := fmt.Sprintf(`{"org":%q,"name":"new","version":1,"document":"of a later version"}`, acme)
	if _, err := k.bucket.Put(t.Context(), protocol.RuleKey(acme, "new"), []byte(record)); err != nil {
		t.Fatal(err)
	}
	until(t, "the loop ends", func() bool { return k.running(acme) == 0 })
	if v, err := k.Rule(t.Context(), acme, "new", 0); err != nil || len(v.Problems) != 1 || v.Problems[0].Code != codeRuleUnreadable {
		t.Errorf("nobody is told: %+v (%v)", v.Problems, err)
	}
	if list, err := k.Rules(t.Context(), acme); err != nil || len(list) != 2 || len(list[0].Problems) != 0 || len(list[1].Problems) != 1 {
		t.Errorf("nobody is told: %+v (%v)", list, err)
	}
	if _, err := k.bucket.Put(t.Context(), protocol.RuleKey("B", "b"), []byte(`{"org":"B","name":"b","version":1,"document":"name: b"}`)); err != nil {
		t.Fatal(err)
	}
	until(t, "another org's loop runs", func() bool { return k.running("B") == 1 })
	if k.running(acme) != 0 {
		t.Error("the loop of an org runs with a rule that cannot be read")
	}
}

// TestRulesAreThoseOfNow has another process store a rule of which this one has not heard: an event behind it waits.
func TestRulesAreThoseOfNow(t *testing.T) {
	t.Parallel()
	server, key := startServer(t), protocol.NewSealKey()
	k, other := newKit(t, server, key), newKit(t, server, key)
	applied(t, other.Service, "name: a")
	stop := k.start(t)
	now := func() int {
		list, err := k.rulesNow(t.Context(), acme)
		if err != nil {
			return -1
		}
		return len(list)
	}
	until(t, "it knows the first rule", func() bool { return now() == 1 })
	stop()
	applied(t, other.Service, "name: b")
	if got := now(); got != -1 {
		t.Errorf("it goes on with %d rules", got)
	}
	k.start(t)
	until(t, "it knows both", func() bool { return now() == 2 })
	if err := k.Delete(t.Context(), acme, "a"); err != nil {
		t.Fatal(err)
	}
	until(t, "it knows the one that is left", func() bool { return now() == 1 })
}

// TestLoopThatFailsIsBegunAnew has it return an error, then panic.
func TestLoopThatFailsIsBegunAnew(t *testing.T) {
	t.Parallel()
	k := newKit(t, startServer(t), protocol.NewSealKey())
	tries := make(chan int, 10)
	n := 0
	k.loop = func(protocol.OrgID) func(context.Context) error {
		return func(ctx context.Context) error {
			n++
			tries <- n
			switch n {
			case 1:
				return errDown
			case 2:
				panic("over an event")
			}
			<-ctx.Done()
			return nil
		}
	}
	applied(t, k.Service, "name: a")
	k.start(t)
	for want := range 3 {
		select {
		case got := <-tries:
			if got != want+1 {
				t.Errorf("attempt %d, want %d", got, want+1)
			}
		case <-time.After(limit):
			t.Fatal("it is not begun anew")
		}
	}
}

// TestStrayEventsAreDropped publishes for an org without rules, and for one that gets its first rule from another process meanwhile.
func TestStrayEventsAreDropped(t *testing.T) {
	t.Parallel()
	server, key := startServer(t), protocol.NewSealKey()
	k, other := newKit(t, server, key), newKit(t, server, key)
	k.start(t)
	until(t, "it leads", k.Leads)
	for i := range 30 {
		org := protocol.OrgID(fmt.Sprint("O:", i))
		for _, o := range []protocol.OrgID{org, "nobody"} {
			if err := k.Accept(t.Context(), o, protocol.EventS3, nil, []byte("before")); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := other.Apply(t.Context(), org, named(t, "name: a")); err != nil {
			t.Fatal(err)
		}
		if err := k.Accept(t.Context(), org, protocol.EventS3, nil, []byte("behind")); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "those of nobody are gone", func() bool {
		tokens, _, err := k.conn.EventOrgs(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(tokens) == 30
	})
	for i := range 30 {
		r, err := k.conn.Events(t.Context(), protocol.OrgID(fmt.Sprint("O:", i)), 0)
		if err != nil {
			t.Fatal(err)
		}
		got, err := r.Fetch(t.Context(), 10, limit)
		r.Close()
		if err != nil || len(got) == 0 || string(got[len(got)-1].Body) != "behind" {
			t.Fatalf("org %d has %d events, and not the one behind its first rule (%v)", i, len(got), err)
		}
	}
}

func TestAcceptIsDurableOrRefused(t *testing.T) {
	t.Parallel()
	k := newKit(t, startServer(t), protocol.NewSealKey())
	if err := k.Accept(t.Context(), acme, protocol.EventCloud, map[string]string{"Ce-Id": "1"}, []byte("body")); err != nil {
		t.Fatal(err)
	}
	k.cfg.Room = func() error { return broker.ErrNoSpace }
	if err := k.Accept(t.Context(), acme, protocol.EventCloud, nil, []byte("more")); !errors.Is(err, broker.ErrNoSpace) {
		t.Errorf("without room: %v", err)
	}
	r, err := k.conn.Events(t.Context(), acme, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := r.Fetch(t.Context(), 10, limit)
	if err != nil || len(got) != 1 || string(got[0].Body) != "body" || got[0].Headers["Ce-Id"] != "1" {
		t.Errorf("%+v, %v", got, err)
	}
}
