package broker_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

func TestGenerators(t *testing.T) {
	t.Parallel()
	server, err := broker.StartServer(broker.ServerConfig{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	conn, err := broker.Connect(broker.Config{Server: server, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.AskGenerator(t.Context(), "a.b", nil); !errors.Is(err, broker.ErrUnavailable) {
		t.Errorf("asked a generator that there is not: %v", err)
	}
	soon, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := conn.CallGenerators(soon, func(answer []byte) bool { t.Errorf("%q answers", answer); return true }); err != nil {
		t.Error(err)
	}
	stop, err := conn.HearGenerator("a.b", func() []byte { return []byte("here") }, func(question []byte) []byte { return append(question, '!') })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if err := conn.CallGenerators(t.Context(), func(answer []byte) bool { return string(answer) == "here" }); err != nil {
		t.Error(err)
	}
	if answer, err := conn.AskGenerator(t.Context(), "a.b", []byte("well")); err != nil || string(answer) != "well!" {
		t.Errorf("answered %q, %v", answer, err)
	}
	if conn.MaxPayload() != 8<<20 {
		t.Errorf("the server takes %d bytes", conn.MaxPayload())
	}
}

// TestGeneratorsAnswerInboxesOnly: nobody can have a generator write to a subject of the fleet.
func TestGeneratorsAnswerInboxesOnly(t *testing.T) {
	t.Parallel()
	server, err := broker.StartServer(broker.ServerConfig{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	conn, err := broker.Connect(broker.Config{Server: server, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stop, err := conn.HearGenerator("a", func() []byte { return []byte("here") }, func(question []byte) []byte { return question })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	nc, err := nats.Connect("", nats.InProcessServer(server))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	stolen, err := nc.SubscribeSync("cf.report")
	if err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{protocol.BenchRoll, protocol.BenchAsk + protocol.Token("a")} {
		if err := nc.PublishRequest(subject, "cf.report", []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	for _, subject := range []string{protocol.BenchRoll, protocol.BenchAsk + protocol.Token("a")} { // each is answered after what came before it
		if _, err := nc.RequestWithContext(t.Context(), subject, nil); err != nil {
			t.Fatal(err)
		}
	}
	if msg, err := stolen.NextMsg(0); err == nil {
		t.Errorf("%q came to a subject of the fleet", msg.Data)
	}
}

// TestGeneratorsNeedLittle: the permissions that docs/operations.md names suffice for those who load a store.
func TestGeneratorsNeedLittle(t *testing.T) {
	t.Parallel()
	subjects := &server.SubjectPermission{Allow: []string{"cf.bench.>", "_INBOX.>"}}
	ns, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
		Users: []*server.User{{Username: "bench", Password: "pw", Permissions: &server.Permissions{Publish: subjects, Subscribe: subjects}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	defer func() {
		ns.Shutdown()
		ns.WaitForShutdown()
	}()
	if !ns.ReadyForConnections(time.Minute) {
		t.Fatal("the server is not ready")
	}
	conn, err := broker.Connect(broker.Config{URL: "nats://bench:pw@" + ns.Addr().String(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stop, err := conn.HearGenerator("a", func() []byte { return []byte("here") }, func(question []byte) []byte { return question })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if err := conn.CallGenerators(t.Context(), func(answer []byte) bool { return string(answer) == "here" }); err != nil {
		t.Error(err)
	}
	if answer, err := conn.AskGenerator(t.Context(), "a", []byte("well")); err != nil || string(answer) != "well" {
		t.Errorf("answered %q, %v", answer, err)
	}
}

// TestAddressesStayOut of errors: they may have a password.
func TestAddressesStayOut(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"nats://user:S3cret%zz@127.0.0.1:1", "nats://user:S3cret/x@127.0.0.1:1", "nats://user:S3cret#x@127.0.0.1:1", "nats://user:S3cret x@[::1"} {
		conn, err := broker.Connect(broker.Config{URL: address, Logger: slog.New(slog.DiscardHandler)})
		if err == nil {
			conn.Close()
		}
		if err == nil || strings.Contains(err.Error(), "S3cret") {
			t.Errorf("%s: %v", address, err)
		}
	}
}
