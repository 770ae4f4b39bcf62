package broker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

func publishEvents(t *testing.T, conn *broker.Conn, org protocol.OrgID, from, n int) {
	t.Helper()
	for i := range n {
		if _, err := conn.PublishEvent(t.Context(), org, protocol.EventS3, nil, fmt.Append(nil, from+i)); err != nil {
			t.Fatal(err)
		}
	}
}

// readEvents reads until there are n, with fetches of any size, over all errors.
func readEvents(t *testing.T, r *broker.EventReader, n int) []broker.Notification {
	t.Helper()
	var all []broker.Notification
	eventually(t, func() bool {
		got, err := r.Fetch(t.Context(), 1+rand.IntN(7), 200*time.Millisecond)
		if err != nil && !errors.Is(err, broker.ErrUnavailable) {
			t.Fatal(err)
		}
		all = append(all, got...)
		return len(all) >= n
	})
	return all
}

// fetchEvents is Fetch, once more if the server did not answer in time.
func fetchEvents(t *testing.T, r *broker.EventReader, n int, wait time.Duration) (got []broker.Notification, err error) {
	t.Helper()
	eventually(t, func() bool {
		got, err = r.Fetch(t.Context(), n, wait)
		return len(got) > 0 || !errors.Is(err, broker.ErrUnavailable)
	})
	return got, err
}

func checkOrder(t *testing.T, got []broker.Notification, n int) {
	t.Helper()
	if len(got) != n {
		t.Fatalf("%d notifications, want %d", len(got), n)
	}
	for i, e := range got {
		if string(e.Body) != fmt.Sprint(i) {
			t.Fatalf("notification %d is %q", i, e.Body)
		}
	}
}

func TestEventsComeInOrderForTheirOrgOnly(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	r, err := conn.Events(t.Context(), org, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := fetchEvents(t, r, 10, 50*time.Millisecond); err != nil || len(got) != 0 {
		t.Fatalf("%d of none, %v", len(got), err)
	}
	for i := range 700 {
		publishEvents(t, conn, org, i, 1)
		if i%10 == 0 {
			publishEvents(t, conn, org+"x", i, 1)
		}
	}
	all := readEvents(t, r, 700)
	checkOrder(t, all, 700)
	tokens, last, err := conn.EventOrgs(t.Context())
	if err != nil || len(tokens) != 2 || last < all[699].Seq {
		t.Fatalf("%q up to %d, %v", tokens, last, err)
	}
	if err := conn.DropEvents(t.Context(), org, all[689].Seq); err != nil {
		t.Fatal(err)
	}
	again, err := conn.Events(t.Context(), org, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if got := readEvents(t, again, 10); len(got) != 10 || got[0].Seq != all[690].Seq {
		t.Errorf("%d are left from %d on", len(got), got[0].Seq)
	}
	if err := conn.DropEvents(t.Context(), org, all[699].Seq); err != nil {
		t.Fatal(err)
	}
	if tokens, _, err = conn.EventOrgs(t.Context()); err != nil || len(tokens) != 1 || tokens[0] != protocol.Token(string(org+"x")) {
		t.Errorf("%q, %v", tokens, err)
	}
	if got, err := fetchEvents(t, r, 10, 0); err != nil || len(got) != 0 {
		t.Errorf("%d of none, %v", len(got), err)
	}
}

// TestEventComesAtOnce has a reader wait when the event is published: it must come long before the wait is over.
// TestSingleEventsAreRemoved removes some between others, one of them twice.
func TestSingleEventsAreRemoved(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	if last, err := conn.LastEvent(t.Context(), org); err != nil || last != 0 {
		t.Errorf("the last event of none is %d (%v)", last, err)
	}
	var seqs []uint64
	for i := range 20 {
		seq, err := conn.PublishEvent(t.Context(), org, protocol.EventS3, nil, fmt.Append(nil, i))
		if err != nil {
			t.Fatal(err)
		}
		seqs = append(seqs, seq)
	}
	if last, err := conn.LastEvent(t.Context(), org); err != nil || last != seqs[19] {
		t.Errorf("the last event is %d (%v), want %d", last, err, seqs[19])
	}
	for _, gone := range [][]uint64{seqs[1:10], seqs[5:18]} {
		if err := conn.RemoveEvents(t.Context(), gone); err != nil {
			t.Fatal(err)
		}
	}
	r, err := conn.Events(t.Context(), org, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var left []string
	for _, e := range readEvents(t, r, 3) {
		left = append(left, string(e.Body))
	}
	if got := strings.Join(left, " "); got != "0 18 19" {
		t.Errorf("%s are left", got)
	}
}

func TestEventComesAtOnce(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	r, err := conn.Events(t.Context(), org, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	result := make(chan []broker.Notification, 1)
	go func() {
		got, _ := r.Fetch(context.WithoutCancel(t.Context()), 100, time.Hour)
		result <- got
	}()
	publishEvents(t, conn, org, 0, 1)
	select {
	case got := <-result:
		checkOrder(t, got, 1)
	case <-time.After(4 * time.Minute):
		t.Fatal("it does not come")
	}
}

// TestEventFetchThatIsBrokenOffLosesNothing breaks fetches off at any moment: nothing is missing or comes twice.
func TestEventFetchThatIsBrokenOffLosesNothing(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	const n = 300
	publishEvents(t, conn, org, 0, n)
	r, err := conn.Events(t.Context(), org, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var all []broker.Notification
	for i, in := 0, 2*time.Millisecond; len(all) < n/2; i++ {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(rand.N(in), cancel)
		got, err := r.Fetch(ctx, 3, time.Minute)
		if err != nil && ctx.Err() == nil {
			t.Fatal(err)
		}
		all = append(all, got...)
		if in = min(2*in, time.Minute); len(got) > 0 { // where nothing comes so soon, there is more time
			in = 2 * time.Millisecond
		}
		cancel()
		if i%20 == 0 {
			if err := conn.ForceReconnect(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	checkOrder(t, append(all, readEvents(t, r, n-len(all))...), n)
}

// TestEventsGoOnOverRestarts restarts the server again and again under a reader.
func TestEventsGoOnOverRestarts(t *testing.T) {
	t.Parallel()
	cfg := broker.ServerConfig{Dir: t.TempDir(), Listen: mixtest.FreeAddress(t), Logger: slog.New(slog.DiscardHandler)}
	server, err := broker.StartServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { server.Close() }()
	conn, err := broker.Connect(broker.Config{URL: server.URL(), Name: t.Name(), Logger: cfg.Logger})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	r, err := conn.Events(t.Context(), org, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var all []broker.Notification
	for round := range 4 {
		publishEvents(t, conn, org, 30*round, 30)
		all = append(all, readEvents(t, r, 10)...)
		server.Close()
		if server, err = broker.StartServer(cfg); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() bool { return conn.Ready(t.Context()) == nil })
	}
	checkOrder(t, append(all, readEvents(t, r, 120-len(all))...), 120)
}

// TestEventsOfOthersComeThrough publishes as others do: over core NATS and JetStream, with headers in any case.
func TestEventsOfOthersComeThrough(t *testing.T) {
	t.Parallel()
	cfg := broker.ServerConfig{Dir: t.TempDir(), Listen: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)}
	server, err := broker.StartServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	conn, err := broker.Connect(broker.Config{Server: server, Name: t.Name(), Logger: cfg.Logger})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	other, err := nats.Connect(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	msg := nats.NewMsg("copyfleet.events.cloudevents." + protocol.Token(string(org)))
	msg.Header["ce-id"] = []string{"one"}
	msg.Header["ce-specversion"] = []string{"1.0"}
	msg.Data = []byte("body")
	if err := other.PublishMsg(msg); err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(other)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.PublishMsg(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.PublishEvent(t.Context(), org, protocol.EventCloud, map[string]string{
		"CE-Id": "one", "ce-specversion": "1.0", "Nats-Rollup": "all", "Nats-Msg-Id": "x", "Authorization": "secret",
	}, msg.Data); err != nil {
		t.Fatal(err)
	}
	r, err := conn.Events(t.Context(), org, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for i, e := range readEvents(t, r, 3) {
		if e.Kind != protocol.EventCloud || string(e.Body) != "body" || len(e.Headers) != 2 || e.Headers["Ce-Id"] != "one" ||
			e.Headers["Ce-Specversion"] != "1.0" || e.Time.IsZero() {
			t.Errorf("notification %d: %+v", i, e)
		}
	}
	largest := map[string]string{"Ce-Data": strings.Repeat("x", 60<<10-len("Ce-Data: \r\n"))}
	if _, err := conn.PublishEvent(t.Context(), org, protocol.EventCloud, largest, make([]byte, 1<<20)); err != nil {
		t.Errorf("the largest that a call can bring: %v", err)
	}
	if _, err := conn.PublishEvent(t.Context(), org, protocol.EventS3, nil, make([]byte, broker.MaxNotification+1)); !errors.Is(err, broker.ErrTooLarge) {
		t.Errorf("one that is too large: %v", err)
	}
}

// TestLargeEventsComeInShares fills one answer: each holds what fits, and the rest follows.
func TestLargeEventsComeInShares(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	for range 9 {
		if _, err := conn.PublishEvent(t.Context(), org, protocol.EventS3, nil, make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	r, err := conn.Events(t.Context(), org, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for left := 9; left > 0; {
		got, err := fetchEvents(t, r, 100, time.Minute)
		if err != nil && !errors.Is(err, broker.ErrUnavailable) || len(got) == 0 || len(got) > 4 {
			t.Fatalf("%d at once, %v", len(got), err)
		}
		left -= len(got)
	}
}

func TestFullEventStreamRefuses(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	if err := conn.LimitEvents(t.Context(), 3, 2); err != nil {
		t.Fatal(err)
	}
	publishEvents(t, conn, org, 0, 2)
	if _, err := conn.PublishEvent(t.Context(), org, protocol.EventS3, nil, nil); !errors.Is(err, broker.ErrFull) {
		t.Errorf("beyond what an org may have: %v", err)
	}
	publishEvents(t, conn, org+"x", 0, 1)
	if _, err := conn.PublishEvent(t.Context(), org+"x", protocol.EventS3, nil, nil); !errors.Is(err, broker.ErrFull) {
		t.Errorf("beyond what the stream may have: %v", err)
	}
	r, err := conn.Events(t.Context(), org, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	checkOrder(t, readEvents(t, r, 2), 2)
}

// TestReaderNoticesAnotherStream deletes the stream under a reader, and makes it anew: its sequences are those of other notifications.
func TestReaderNoticesAnotherStream(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	publishEvents(t, conn, org, 0, 5)
	r, err := conn.Events(t.Context(), org, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	last := readEvents(t, r, 5)[4].Seq
	if err := conn.DeleteEvents(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := conn.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	publishEvents(t, conn, org, 0, 2)
	if got, err := fetchEvents(t, r, 10, time.Second); !errors.Is(err, broker.ErrRewound) {
		t.Errorf("%d notifications, %v, want ErrRewound", len(got), err)
	}
	if _, err := conn.Events(t.Context(), org, last); !errors.Is(err, broker.ErrRewound) {
		t.Errorf("behind what the stream has: %v, want ErrRewound", err)
	}
	again, err := conn.Events(t.Context(), org, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	checkOrder(t, readEvents(t, again, 2), 2)
}

func TestJournalIsFenced(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	visit := func(org protocol.OrgID) (uint64, []string) {
		var list []string
		last, err := conn.Triggers(t.Context(), org, func(_ uint64, record []byte) error {
			list = append(list, string(record))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return last, list
	}
	if last, list := visit(org); last != 0 || len(list) != 0 {
		t.Fatalf("an empty journal has %q, %d", list, last)
	}
	last, seqs := uint64(0), []uint64(nil)
	for i := range 600 {
		var err error
		if last, err = conn.AppendTrigger(t.Context(), org, last, fmt.Appendf(nil, "%d %0600d", i, 0)); err != nil {
			t.Fatal(err)
		}
		seqs = append(seqs, last)
	}
	if _, err := conn.AppendTrigger(t.Context(), org+"x", 0, []byte("of another")); err != nil {
		t.Fatal(err)
	}
	for _, stale := range []uint64{0, seqs[598], last + 1} {
		if _, err := conn.AppendTrigger(t.Context(), org, stale, []byte("x")); !errors.Is(err, broker.ErrConflict) {
			t.Errorf("after record %d of %d: %v, want ErrConflict", stale, last, err)
		}
	}
	if got, list := visit(org); got != last || len(list) != 600 || list[7] != fmt.Sprintf("%d %0600d", 7, 0) {
		t.Fatalf("%d records up to %d, want 600 up to %d", len(list), got, last)
	}
	if err := conn.DropTriggers(t.Context(), org, seqs[599]); err != nil {
		t.Fatal(err)
	}
	if got, list := visit(org); got != last || len(list) != 1 {
		t.Errorf("%d records up to %d after trimming, want 1 up to %d", len(list), got, last)
	}
	if _, err := conn.AppendTrigger(t.Context(), org, last, []byte("goes on")); err != nil {
		t.Error(err)
	}
	failure := errors.New("enough")
	if _, err := conn.Triggers(t.Context(), org, func(uint64, []byte) error { return failure }); !errors.Is(err, failure) {
		t.Errorf("a visit that fails: %v", err)
	}
}
