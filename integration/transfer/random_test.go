package transfer

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

// every asks for large and small files from and to each kind of place, in one batch.
func (f *fleet) every(t *testing.T, size int64) []item {
	t.Helper()
	var items []item
	for n := range 2 {
		c := content{uint64(n + 1), size + int64(n)}
		items = append(items, f.pair(fmt.Sprint("large", n), served{content: c, rate: 12 * mib})...)
	}
	for n, to := range []map[string]any{mixtest.ToSandbox("/out/from-object.bin"), f.ToObject("by-the-store.bin"), f.ToObject("by-a-worker.bin")} {
		c := content{uint64(10 + n), size + int64(n)}
		key := fmt.Sprint("given/", n)
		if _, err := f.client(t).PutObject(t.Context(), f.Bucket, key, c.reader(), c.size, minio.PutObjectOptions{}); err != nil {
			t.Fatal(err)
		}
		i := item{id: fmt.Sprint("object", n), src: f.ToObject(key), dest: to, content: c}
		if n == 2 { // the store knows no SHA-256 of what was put in parts
			i.more = map[string]any{"sha256": c.sha256()}
		}
		items = append(items, i)
	}
	for n := range 24 {
		name := fmt.Sprint("small", n)
		c := content{uint64(100 + n), int64(n * 5000)}
		f.give("/"+name, served{content: c})
		to := []map[string]any{mixtest.ToSandbox("/out/" + name), f.ToObject(name), putTo(f.sink.URL + "/" + name)}[n%3]
		items = append(items, item{id: name, src: f.from("/" + name), dest: to, content: c})
	}
	return items
}

// victims are what may be killed at once, in the order in which it is to be started again.
var victims = []string{"nats-server", "store", "api", "aggregator", "worker"}

// strike kills one or two of the fleet's processes, a worker more often than others, and starts them again.
func (f *fleet) strike(t *testing.T, random *rand.Rand) string {
	t.Helper()
	struck := map[string]bool{}
	for range 1 + random.IntN(2) {
		struck[append(victims, "worker", "worker")[random.IntN(len(victims)+2)]] = true
	}
	worker := random.IntN(len(f.workers))
	for name := range struck {
		switch name {
		case "nats-server":
			f.nats.Kill9(t)
		case "store":
			f.minio.Kill()
		case "api":
			f.api.Kill9(t)
		case "aggregator":
			f.aggregator.Kill9(t)
		case "worker":
			f.workers[worker].Kill9(t)
			f.workers = append(f.workers[:worker], f.workers[worker+1:]...)
		}
	}
	var names []string
	for _, name := range victims {
		if !struck[name] {
			continue
		}
		names = append(names, name)
		switch name {
		case "nats-server":
			f.nats = f.StartNATS(t)
		case "store":
			f.minio.Start()
		case "api":
			f.api = f.Start(t, name)
		case "aggregator":
			f.aggregator = f.Start(t, name)
		case "worker":
			f.startWorker(t)
		}
	}
	return strings.Join(names, " and ")
}

// TestEverythingKilledAtRandomMoments kills whatever runs, again and again, while large and small files are moved.
func TestEverythingKilledAtRandomMoments(t *testing.T) {
	t.Parallel()
	const strikes = 8
	random := chance(t)
	// The broker may be away when the records of a file are to be removed that has arrived: they are swept.
	f := newFleet(t, miniotest.Start(t), 2, append(slices.Clip(small), "PARTS_AFTER=5s")...)
	f.unread = true
	items := f.every(t, 48*mib)
	id := f.submit(t, "attempts=20", items...)
	for range strikes {
		f.moves(t, id, int64(random.IntN(24*mib)))
		t.Log("killed: ", f.strike(t, random))
	}
	f.API.WaitFinal(t, id, settles)
	receipts, err := f.API.Receipts(t.Context(), id)
	if err != nil || len(receipts) != len(items) {
		t.Fatalf("%d receipts of %d items, %v", len(receipts), len(items), err)
	}
	given := 0
	for n, i := range items {
		r := &receipts[n]
		if r.State == protocol.ItemFailed && r.Failure.Class == protocol.Lost { // it ran at three of the kills, and is taken for their cause
			given++
			if size, sum := f.arrived(t, i); size >= 0 && (size != i.content.size || sum != i.content.sha256()) {
				t.Errorf("item %s failed, and its destination holds %d bytes, %s", i.id, size, sum)
			}
			continue
		}
		f.checkItem(t, r, i)
	}
	f.nothingLeft(t, items...)
	if t.Failed() {
		for n := range items {
			if plan, found := f.plan(t, id, n); found {
				t.Errorf("item %s: %+v; %+v", items[n].id, plan, receipts[n])
			}
		}
	}
	t.Logf("%d items, %d faults (whatever runs killed at random moments), 0 lost; %d given up after three crashes; %d bytes not moved again",
		len(items), strikes, given, resumed(receipts))
}
