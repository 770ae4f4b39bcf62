package join

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/copyfleet/copyfleet/internal/broker"
)

// overheard is what was said, by several at once.
type overheard struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *overheard) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *overheard) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// listen passes connections on to an address, and keeps what goes over them. It ends with the test.
func listen(t *testing.T, to string) (address string, said *overheard) {
	t.Helper()
	said = &overheard{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		all.Wait()
	})
	all.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				near.Close()
				continue
			}
			pass := func(to, from net.Conn) {
				io.Copy(io.MultiWriter(to, said), from)
				to.Close()
			}
			all.Go(func() { pass(far, near) })
			all.Go(func() { pass(near, far) })
		}
	})
	return l.Addr().String(), said
}

// TestSecrets: nobody who overhears NATS or reads a log learns what a job holds, not even that it is one.
func TestSecrets(t *testing.T) {
	t.Parallel()
	const secret = "AKIA-7dCr9xQ2"
	var logs overheard
	f := newFleet(t)
	server, err := broker.StartServer(broker.ServerConfig{Dir: t.TempDir(), Listen: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	f.server = server
	f.cfg.Logger = slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	m := f.start(f.named("m0"), fake{name: "a", ops: 1, prepare: func(context.Context) error { return errors.New("no") }})
	address, said := listen(t, strings.TrimPrefix(server.URL(), "nats://"))
	conn, err := broker.Connect(broker.Config{URL: "nats://" + address, Logger: f.cfg.Logger})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	crew, err := Gather(t.Context(), conn, f.named("c"), 1, patience)
	if err != nil {
		t.Fatal(err)
	}
	job := `{"secret":"` + secret + `"}`
	if err := crew.Open(t.Context(), "run1", []byte(job)); err != nil {
		t.Fatal(err)
	}
	if g := within(t, m.made, "the job"); g.job != job {
		t.Errorf("opened %q", g.job)
	}
	failure := crew.Prepare(t.Context())
	crew.Close()
	if failure == nil || strings.Contains(failure.Error(), secret) {
		t.Errorf("prepare: %v", failure)
	}
	wire := said.String()
	if !strings.Contains(wire, "cf.bench.") {
		t.Fatal("nothing was overheard")
	}
	packed, err := pack([]byte(job))
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{secret, `"verb"`, `"state"`, base64.StdEncoding.EncodeToString(packed.packed), base64.StdEncoding.EncodeToString([]byte(secret))} {
		if strings.Contains(wire, word) {
			t.Errorf("%q goes over NATS", word)
		}
		if strings.Contains(logs.String(), word) {
			t.Errorf("%q stands in a log", word)
		}
	}
}
