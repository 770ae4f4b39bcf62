package aggregator

import (
	"log/slog"
	"testing"

	"github.com/copyfleet/copyfleet/internal/broker"
)

// connected starts a broker of the test's own, and returns a connection to it.
func connected(t testing.TB) *broker.Conn {
	t.Helper()
	server, err := broker.StartServer(broker.ServerConfig{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
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
