package broker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// stuck is a logger's handler at which everybody waits until it is closed.
type stuck chan struct{}

func (stuck) Enabled(context.Context, slog.Level) bool    { return true }
func (s stuck) Handle(context.Context, slog.Record) error { <-s; return nil }
func (s stuck) WithAttrs([]slog.Attr) slog.Handler        { return s }
func (s stuck) WithGroup(string) slog.Handler             { return s }

// TestEpochChangesWithTheConnection holds up what the library calls when a connection is lost and made again: what is fetched with the new one is
// known to be that of another server all the same.
func TestEpochChangesWithTheConnection(t *testing.T) {
	t.Parallel()
	server, err := broker.StartServer(broker.ServerConfig{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	log := make(stuck)
	conn, err := broker.Connect(broker.Config{Server: server, Name: t.Name(), Logger: slog.New(log)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	defer close(log)
	if err := conn.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	in, err := conn.Intake(t.Context(), protocol.DefaultPool)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	publish(t, conn, protocol.Interactive, org, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	before := conn.Epoch()
	for range 2 { // the handler of the first one gets stuck
		before = conn.Epoch()
		if err := conn.ForceReconnect(ctx); err != nil {
			t.Fatalf("the epoch is %d, as before the connection was lost: %v", before, err)
		}
	}
	for got := []*broker.Delivery(nil); len(got) == 0; {
		if got, err = in.Fetch(ctx, 1, 1); err != nil {
			t.Fatal(err)
		}
		if len(got) == 1 && (!got[0].Repeated || got[0].Epoch == before) {
			t.Errorf("an item that the server may have delivered before: %+v", got[0])
		}
	}
}

// fetchAll fetches until nothing is left.
func fetchAll(t *testing.T, conn *broker.Conn, most int) []*broker.Delivery {
	t.Helper()
	in, err := conn.Intake(t.Context(), protocol.DefaultPool)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	var all []*broker.Delivery
	for len(all) < most {
		got, err := in.Fetch(t.Context(), most-len(all), most-len(all))
		if err != nil {
			t.Fatal(err)
		}
		if len(got) == 0 {
			return all
		}
		all = append(all, got...)
	}
	return all
}

func TestFetchTakesNoMoreThanAsked(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	publish(t, conn, protocol.Interactive, org, 10)
	publish(t, conn, protocol.Bulk, org, 50)
	in, err := conn.Intake(t.Context(), protocol.DefaultPool)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	for _, step := range []struct{ free, freeBulk, want int }{{4, 3, 4}, {8, 1, 7}, {8, 0, 0}, {8, 5, 5}} {
		got, err := in.Fetch(t.Context(), step.free, step.freeBulk)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != step.want {
			t.Errorf("Fetch(%d, %d) gave %d items, want %d", step.free, step.freeBulk, len(got), step.want)
		}
	}
}

func TestShardsTakeTurns(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	other := protocol.OrgID("ORG-b")
	for i := 0; protocol.ShardOf(other) == protocol.ShardOf(org); i++ {
		other = protocol.OrgID(fmt.Sprintf("ORG-b%d", i))
	}
	publish(t, conn, protocol.Bulk, org, 900)
	publish(t, conn, protocol.Bulk, other, 1)
	if got := fetchAll(t, conn, 4); len(got) != 4 {
		t.Fatalf("fetched %d items, want 4", len(got))
	}
	in, err := conn.Intake(t.Context(), protocol.DefaultPool)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	got, err := in.Fetch(t.Context(), 4, 4)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 4 {
		t.Errorf("fetched %d items, want 4", len(got))
	}
}

// TestFetchThatIsBrokenOffLosesNothing ends the context of fetches at any moment: what the server has handed out is returned, and all else is
// there for the next.
func TestFetchThatIsBrokenOffLosesNothing(t *testing.T) {
	t.Parallel()
	const rounds = 200
	conn := connect(t)
	publish(t, conn, protocol.Interactive, org, rounds)
	in, err := conn.Intake(t.Context(), protocol.DefaultPool)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	got := 0
	for range rounds {
		ctx, cancel := context.WithCancel(t.Context())
		go cancel()
		list, err := in.Fetch(ctx, 1, 1)
		if err != nil && ctx.Err() == nil {
			t.Fatal(err)
		}
		got += len(list)
		cancel()
	}
	if rest := len(fetchAll(t, conn, rounds)); got+rest != rounds {
		t.Errorf("%d items were fetched and %d were left: %d are nowhere", got, rest, rounds-got-rest)
	}
}

// TestWakeBeforeItsItem has a wake come when its item cannot be fetched yet: it is found all the same, and not by the look that comes once a second.
func TestWakeBeforeItsItem(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	in, err := conn.Intake(t.Context(), protocol.DefaultPool)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	in.StopLooking()
	fetch := func() int {
		got, err := in.Fetch(t.Context(), 1, 1)
		if err != nil {
			t.Fatal(err)
		}
		return len(got)
	}
	fetch() // now none is believed to have anything
	if err := conn.Wake(broker.Shard{Lane: protocol.Interactive, Pool: protocol.DefaultPool, Index: protocol.ShardOf(org)}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	if err := in.Wait(ctx, true, nil); err != nil {
		t.Fatal(err)
	}
	if n := fetch(); n != 0 {
		t.Fatalf("%d items before there was any", n)
	}
	publish(t, conn, protocol.Interactive, org, 1)
	// The server may not have counted it yet when the first of the looks comes that a wake brings.
	for n := 0; n == 0; n = fetch() {
		if err := in.Wait(ctx, true, nil); err != nil {
			t.Fatalf("there is no item after a wake that came too early: %v", err)
		}
	}
}

// TestLateAnswersAreHandedBack gives pulls up before they are answered: what they bring is there for the next, long before its AckWait is over.
func TestLateAnswersAreHandedBack(t *testing.T) {
	t.Parallel()
	conn := connectWaiting(t, time.Hour)
	publish(t, conn, protocol.Interactive, org, 1)
	in, err := conn.Intake(t.Context(), protocol.DefaultPool)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	in.AnswerWithin(0)
	shard := broker.Shard{Lane: protocol.Interactive, Pool: protocol.DefaultPool, Index: protocol.ShardOf(org)}
	eventually(t, func() bool {
		if got, err := in.Fetch(t.Context(), 1, 1); len(got) > 0 || !errors.Is(err, broker.ErrUnavailable) {
			t.Fatalf("%d items, %v", len(got), err)
		}
		b, err := conn.Backlog(t.Context(), shard)
		return err == nil && b.Held == 1
	})
	in.AnswerWithin(time.Minute)
	if d := next(t, in); !d.Repeated {
		t.Error("an item that was handed out before is not marked as repeated")
	}
}

// TestLateAnswersOfOthersAreLeft gives up the inbox of an old pull: what comes there may be another worker's by now.
func TestLateAnswersOfOthersAreLeft(t *testing.T) {
	t.Parallel()
	const ackWait = time.Hour
	conn := connectWaiting(t, ackWait)
	in, err := conn.Intake(t.Context(), protocol.DefaultPool)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	for age, kept := range map[time.Duration]bool{0: true, ackWait: false} {
		inbox, err := conn.NATS().SubscribeSync(conn.NATS().NewInbox())
		if err != nil {
			t.Fatal(err)
		}
		in.AddLate(inbox, time.Now().Add(-age))
		in.HandBackLate()
		if inbox.IsValid() != kept {
			t.Errorf("the inbox of a pull %s ago is listened to: %v", age, !kept)
		}
	}
}
