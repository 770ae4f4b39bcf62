package triggers

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/producer/rules"
	"github.com/copyfleet/copyfleet/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(miniotest.Main(m)) }

const (
	limit = 4 * time.Minute
	acme  = protocol.OrgID("ACME-dev")
)

// startServer starts a broker of the test's own.
func startServer(t *testing.T) *broker.Server {
	t.Helper()
	server, err := broker.StartServer(broker.ServerConfig{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return server
}

func connect(t *testing.T, server *broker.Server) *broker.Conn {
	t.Helper()
	conn, err := broker.Connect(broker.Config{Server: server, Name: t.Name(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	if err := conn.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	return conn
}

// kit is a service whose orgs' loops do nothing but to be there.
type kit struct {
	*Service

	conn *broker.Conn
	mu   sync.Mutex
	runs map[protocol.OrgID]int // loops that run
}

func newKit(t *testing.T, server *broker.Server, key []byte) *kit {
	t.Helper()
	sealer, err := protocol.NewSealer(key)
	if err != nil {
		t.Fatal(err)
	}
	k := &kit{conn: connect(t, server), runs: map[protocol.OrgID]int{}}
	k.Service, err = New(t.Context(), Config{Logger: slog.New(slog.DiscardHandler)}, k.conn, sealer, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	k.parse = parseName
	k.lease.renewEvery, k.lease.goneAfter, k.strayEvery = 50*time.Millisecond, 5*time.Second, 20*time.Millisecond // a renewal is synced, which may take seconds
	k.loop = func(id protocol.OrgID) func(context.Context) error {
		return func(ctx context.Context) error {
			k.count(id, 1)
			defer k.count(id, -1)
			<-ctx.Done()
			return nil
		}
	}
	return k
}

func (k *kit) count(id protocol.OrgID, n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.runs[id] += n
}

func (k *kit) running(id protocol.OrgID) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.runs[id]
}

// start runs the service until the test ends or stop is called, which waits.
func (k *kit) start(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan struct{})
	go func() { defer close(ended); k.Run(ctx) }()
	stop = func() { cancel(); <-ended }
	t.Cleanup(stop)
	return stop
}

// parseName reads documents of the form "name: NAME …".
func parseName(text []byte) ([]*rules.Rule, []rules.Problem) {
	fields := strings.Fields(string(text))
	if len(fields) < 2 || fields[0] != "name:" {
		return nil, []rules.Problem{{Message: "not such a document"}}
	}
	return []*rules.Rule{{Name: fields[1], Text: text}}, nil
}

// named makes rules of texts.
func named(t *testing.T, texts ...string) []*rules.Rule {
	t.Helper()
	var list []*rules.Rule
	for _, text := range texts {
		r, _ := parseName([]byte(text))
		if r == nil {
			t.Fatal(text)
		}
		list = append(list, r...)
	}
	return list
}

func until(t *testing.T, what string, yes func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	over := time.After(limit)
	for !yes() {
		select {
		case <-tick.C:
		case <-over:
			t.Fatal("it does not come to that: " + what)
		}
	}
}

var errDown = errors.New("down")
