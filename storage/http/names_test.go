package httpstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/copyfleet/copyfleet/internal/testkit/hostilehttp"
	"github.com/copyfleet/copyfleet/storage"
)

// counted is a resolver that counts how often a host was asked for; each look-up is two questions.
func counted(t *testing.T, asked *atomic.Int64, addresses func() []string) *net.Resolver {
	t.Helper()
	return resolverBy(t, func(string) ([]string, bool) {
		asked.Add(1)
		return addresses(), true
	})
}

func always(addresses ...string) func() []string { return func() []string { return addresses } }

// TestNamesAreKept asks for one name from many goroutines, and again within and after its life.
func TestNamesAreKept(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	var late atomic.Int64 // ns
	n := newNames(counted(t, &asked, always("192.0.2.1", "2001:db8::1")), time.Minute)
	n.now = func() time.Time { return time.Unix(0, late.Load()) }
	ask := func() {
		addrs, err := n.lookup(t.Context(), "a.test")
		if err != nil || len(addrs) != 2 {
			t.Errorf("%v, %v", addrs, err)
		}
	}
	var all sync.WaitGroup
	for range 50 {
		all.Go(ask)
	}
	all.Wait()
	late.Store(int64(nameLife) - 1)
	ask()
	if got := asked.Load(); got != 2 {
		t.Errorf("%d questions were asked for 51 look-ups within the life of the first, want 2", got)
	}
	late.Store(int64(nameLife))
	ask()
	n.forget("a.test")
	ask()
	if got := asked.Load(); got != 6 {
		t.Errorf("%d questions in all, want 6", got)
	}
}

func TestNamesAreBounded(t *testing.T) {
	t.Parallel()
	n := newNames(nil, time.Minute)
	for i := range 3 * maxNames {
		n.remember(fmt.Sprint(i), []netip.Addr{netip.IPv4Unspecified()})
		if len(n.known) > maxNames {
			t.Fatalf("%d names are kept", len(n.known))
		}
	}
}

// A failure is not kept: the name may be there a moment later.
func TestMissingNamesAreAskedAgain(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	n := newNames(counted(t, &asked, always()), time.Minute)
	for i := range int64(2) {
		_, err := n.lookup(t.Context(), "missing.test.")
		if dns, ok := errors.AsType[*net.DNSError](err); !ok || !dns.IsNotFound || asked.Load() <= i {
			t.Errorf("%v after %d questions", err, asked.Load())
		}
	}
}

// Who gives up does not take the look-up from those that still wait.
func TestNamesOutliveWhoAskedFirst(t *testing.T) {
	t.Parallel()
	hold, entered := make(chan struct{}), make(chan struct{}, 2)
	var asked atomic.Int64
	n := newNames(counted(t, &asked, func() []string { entered <- struct{}{}; <-hold; return []string{"192.0.2.1"} }), time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error)
	go func() { _, err := n.lookup(ctx, "a.test"); first <- err }()
	<-entered
	second := make(chan error)
	go func() { _, err := n.lookup(t.Context(), "a.test"); second <- err }()
	cancel()
	if err := <-first; err == nil {
		t.Error("a canceled look-up succeeded")
	}
	close(hold)
	if err := <-second; err != nil {
		t.Error(err)
	}
}

// What is kept is judged anew at each connection, and dropped when it leads nowhere.
func TestKeptNamesAreGuarded(t *testing.T) {
	t.Parallel()
	port := canary(t, "127.0.0.2", "0")
	var asked atomic.Int64
	client := testClient(t, func(o *Options) { only127001(o); o.Resolver = counted(t, &asked, always("127.0.0.2")) })
	client.dialer.names.remember("kept.test", []netip.Addr{netip.MustParseAddr("127.0.0.2")})
	for range 3 {
		_, _, err := readAll(t, client.Get("http://kept.test:"+port+"/"+query, nil))
		failure{storage.ForbiddenAddress, "forbidden_address", "the address 127.0.0.2 ", 0}.check(t, err)
	}
	if asked.Load() != 4 {
		t.Errorf("%d questions were asked after the kept answer had led nowhere, want 4", asked.Load())
	}
}

// A host that moved is found again at the next attempt, not after the life of the answer.
func TestNamesThatLeadNowhere(t *testing.T) {
	t.Parallel()
	server := hostilehttp.Serve(t, func(p *hostilehttp.Peer) { p.Request(); p.Say("%s", hostilehttp.Answer("200 OK")) })
	_, port, _ := net.SplitHostPort(server)
	var asked atomic.Int64
	client := testClient(t, func(o *Options) { o.Resolver = counted(t, &asked, always("127.0.0.1")) })
	client.dialer.names.remember("moved.test", []netip.Addr{netip.MustParseAddr("127.0.0.3")})
	_, _, err := readAll(t, client.Get("http://moved.test:"+port+"/"+query, nil))
	failure{storage.Unavailable, "source_connect_refused", "the connection was refused", 0}.check(t, err)
	if _, _, err := readAll(t, client.Get("http://moved.test:"+port+"/"+query, nil)); err != nil {
		t.Error(err)
	}
}

func TestAddressesTakeTurns(t *testing.T) {
	t.Parallel()
	var addrs []netip.Addr
	for _, text := range []string{"2001:db8::1", "2001:db8::2", "2001:db8::3", "::ffff:192.0.2.1", "192.0.2.2"} {
		addrs = append(addrs, netip.MustParseAddr(text))
	}
	if got, want := fmt.Sprint(inTurn(addrs)), "[2001:db8::1 192.0.2.1 2001:db8::2 192.0.2.2 2001:db8::3]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestRace tries addresses of which some fail, some are silent and some are late.
func TestRace(t *testing.T) {
	t.Parallel()
	refused := errors.New("refused")
	for _, tt := range []struct {
		name  string
		peers []time.Duration // until each answers; negative: it refuses after that; 0: never
		won   int             // -1: none
		took  time.Duration
	}{
		{"the first", []time.Duration{time.Millisecond, time.Millisecond}, 0, time.Millisecond},
		{"refused, then the second", []time.Duration{-time.Millisecond, time.Millisecond}, 1, 2 * time.Millisecond},
		{"silent, then the second", []time.Duration{0, time.Millisecond}, 1, headStart + time.Millisecond},
		{"late, and before the second", []time.Duration{headStart + 1, time.Minute}, 0, headStart + 1},
		{"two silent", []time.Duration{0, 0, time.Millisecond}, 2, 2*headStart + time.Millisecond},
		{"all refuse", []time.Duration{-time.Millisecond, -time.Millisecond, -time.Millisecond}, -1, 3 * time.Millisecond},
		{"none answers", []time.Duration{0, 0}, -1, 10 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				var addrs []netip.Addr
				for i := range tt.peers {
					addrs = append(addrs, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
				}
				var made []net.Conn
				var mu sync.Mutex
				begun := time.Now()
				conn, err := race(ctx, addrs, func(ctx context.Context, addr netip.Addr) (net.Conn, error) {
					after := tt.peers[slices.Index(addrs, addr)]
					if after == 0 {
						after = time.Hour
					}
					select {
					case <-ctx.Done():
						return nil, ctx.Err()
					case <-time.After(max(after, -after)):
					}
					if after < 0 {
						return nil, refused
					}
					ours, theirs := net.Pipe()
					t.Cleanup(func() { theirs.Close() })
					mu.Lock()
					defer mu.Unlock()
					made = append(made, ours)
					return &numbered{ours, int(addr.As4()[3])}, nil
				})
				won := -1
				if n, ok := conn.(*numbered); ok {
					won = n.number
					n.Close()
				}
				if won != tt.won || (err == nil) != (tt.won >= 0) || time.Since(begun) != tt.took {
					t.Errorf("%d won after %s, %v; want %d after %s", won, time.Since(begun), err, tt.won, tt.took)
				}
				for _, c := range made {
					if _, err := c.Write([]byte("x")); err == nil {
						t.Error("a connection that lost was left open")
					}
				}
			})
		})
	}
}

type numbered struct {
	net.Conn
	number int
}
