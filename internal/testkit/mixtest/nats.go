package mixtest

import (
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/copyfleet/copyfleet/protocol"
)

// JetStream connects to the NATS of a fleet of roles, to look behind the API and to put in its way what a broken network
// would. The connection ends with the test.
func (f *Fleet) JetStream(t testing.TB) jetstream.JetStream {
	t.Helper()
	return Connect(t, f.NATS)
}

// answers is how long a server may take for an answer: what it stores is synced, and the disk may be busy.
const answers = 2 * time.Minute

// Connect connects to a NATS. The connection ends with the test.
func Connect(t testing.TB, url string, options ...nats.Option) jetstream.JetStream {
	t.Helper()
	conn, err := nats.Connect(url, append([]nats.Option{nats.Timeout(answers)}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn, jetstream.WithDefaultTimeout(answers))
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// NATSDir is where the nats-server of a fleet of roles keeps its data.
func (f *Fleet) NATSDir() string { return f.natsDir }

// Consumer is the name of the consumer that delivers the org's items, in each lane.
func (f *Fleet) Consumer() string {
	return protocol.DefaultPool + "-" + strconv.Itoa(protocol.ShardOf(protocol.OrgID(f.API.Org)))
}

// Records returns the values of a KV bucket by key.
func (f *Fleet) Records(t testing.TB, bucket string) map[string][]byte {
	t.Helper()
	kv, err := f.JetStream(t).KeyValue(t.Context(), bucket)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := kv.ListKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	records := map[string][]byte{}
	for key := range keys.Keys() {
		if entry, err := kv.Get(t.Context(), key); err == nil {
			records[key] = entry.Value()
		}
	}
	return records
}
