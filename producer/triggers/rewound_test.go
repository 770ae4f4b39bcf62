package triggers

import (
	"fmt"
	"log/slog"
	"testing"

	"github.com/nats-io/nats.go"           //nolint:depguard // deletes a stream as an operator would
	"github.com/nats-io/nats.go/jetstream" //nolint:depguard // as above

	"github.com/copyfleet/copyfleet/internal/broker"
)

// TestStreamThatIsMadeAnewIsRead deletes the stream of events while they are decided on: what comes after is copied, though the journal names later sequences, and
// what was copied before is not.
func TestStreamThatIsMadeAnewIsRead(t *testing.T) {
	t.Parallel()
	server, err := broker.StartServer(broker.ServerConfig{Dir: t.TempDir(), Listen: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	s := newStage(t, copyRule)
	s.conn = connect(t, server)
	s.desk.all = true
	s.run()
	for i := range 5 {
		s.put(fmt.Sprint(i), i+1, "")
	}
	until(t, "five copies", func() bool { return s.counts("copy").Copies == 5 })
	nc, err := nats.Connect(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(t.Context(), "CF_EVENTS"); err != nil {
		t.Fatal(err)
	}
	if err := s.conn.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.put("4", 5, "")
	s.put("5", 6, "")
	until(t, "a sixth copy and a duplicate", func() bool { c := s.counts("copy"); return c.Copies == 6 && c.Duplicates == 1 })
}
