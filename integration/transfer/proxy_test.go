package transfer

import (
	"fmt"
	"strings"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
)

// wire is a proxy in front of a server, always at the same address.
type wire struct {
	listen, server string
	proxy          *toxiproxy.Proxy
}

func wireTo(t *testing.T, url string) *wire {
	t.Helper()
	w := &wire{listen: "127.0.0.1:0", server: strings.TrimPrefix(strings.TrimPrefix(url, "http://"), "nats://")}
	w.become(t, "")
	t.Cleanup(func() { w.proxy.Stop() })
	return w
}

// become cuts all connections, and lets those that come then meet a fault; "": none. A fault cannot be put into connections that
// are busy: toxiproxy waits for them.
func (w *wire) become(t *testing.T, fault string) {
	t.Helper()
	if w.proxy != nil {
		w.proxy.Stop()
	}
	api := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	var err error
	if !mixtest.Until(comes, func() bool {
		w.proxy = toxiproxy.NewProxy(api, t.Name(), w.listen, w.server)
		if err = w.proxy.Start(); err != nil || fault == "" {
			return err == nil
		}
		_, err = w.proxy.Toxics.AddToxicJson(strings.NewReader(fault))
		return err == nil
	}) {
		t.Fatal(err)
	}
	w.listen = w.proxy.Listen
}

// heal ends a fault for the connections that come then.
func (w *wire) heal(t *testing.T) {
	t.Helper()
	w.become(t, "")
}

// suffer has connections meet a fault; those of the server are refused if it is down.
func (w *wire) suffer(t *testing.T, fault, stream string) {
	t.Helper()
	if fault == down {
		w.proxy.Stop()
		return
	}
	w.become(t, strings.ReplaceAll(fault, "%s", stream))
}

// down is the fault that nothing listens any more.
const down = "down"

// faults are what connections meet for a while. %s is the direction in which the bytes of files go.
var faults = map[string]string{
	"reset":         `{"name":"f","type":"reset_peer","stream":"%s","attributes":{"timeout":300}}`,
	"slow":          `{"name":"f","type":"bandwidth","stream":"%s","attributes":{"rate":500}}`,
	"silent":        `{"name":"f","type":"timeout","stream":"%s","attributes":{"timeout":1500}}`,
	"cut at a byte": `{"name":"f","type":"limit_data","stream":"%s","attributes":{"bytes":1500000}}`,
	"late":          `{"name":"f","type":"latency","stream":"%s","attributes":{"latency":700,"jitter":300}}`,
	"slow to close": `{"name":"f","type":"slow_close","stream":"%s","attributes":{"delay":2500}}`,
	"down":          down,
	"in slices":     `{"name":"f","type":"slicer","stream":"%s","attributes":{"average_size":1000,"size_variation":900,"delay":10}}`,
}

// TestConnectionsThatBreak lets the connections of the workers to the sources, to the store, or to the broker, be reset, slow, late, silent, cut, or
// refused, while large files and small ones are moved.
func TestConnectionsThatBreak(t *testing.T) {
	t.Parallel()
	for _, side := range []string{"source", "store", "broker"} {
		t.Run(side, func(t *testing.T) {
			t.Parallel()
			minio := miniotest.Shared(t)
			f := newFleet(t, minio, 0, small...)
			var proxy *wire
			var env []string
			stream := "upstream"
			switch side {
			case "source":
				proxy, stream = wireTo(t, f.source.URL), "downstream"
			case "store":
				proxy, f.unread = wireTo(t, minio.Endpoint), true
				env = []string{"S3_ENDPOINT=http://" + proxy.listen}
			case "broker":
				proxy = wireTo(t, f.NATS)
				env = []string{"NATS_URL=nats://" + proxy.listen}
			}
			for range 2 {
				f.startWorker(t, env...)
			}
			n, given, size := 0, int64(0), int64(0)
			for name, toxic := range faults {
				items := f.broken(name)
				for i := range items {
					if side == "source" {
						items[i].src = mixtest.FromURL("http://" + proxy.listen + "/" + items[i].id)
					}
				}
				if side != "broker" {
					proxy.suffer(t, toxic, stream)
				}
				id := f.submit(t, "attempts=20", items...)
				if side == "broker" { // the fault finds items on their way
					f.moves(t, id, 4*mib)
					proxy.suffer(t, toxic, stream)
				}
				healed := time.NewTimer(3 * time.Second)
				<-healed.C
				proxy.heal(t)
				f.check(t, id, items...)
				for i := range items {
					n, given, size = n+1, given+f.file(items[i]).given.Load(), size+items[i].content.size
					// What a silent connection swallowed was given, too.
					if got := f.file(items[i]).given.Load(); items[i].content.size > mib && got > 3*items[i].content.size {
						t.Errorf("%s: the source gave %d bytes of a file of %d", items[i].id, got, items[i].content.size)
					}
				}
			}
			t.Logf("%d items, %d faults (connections to the %s), 0 lost; %d bytes given of %d", n, len(faults), side, given, size)
		})
	}
}

// broken are files to be moved while connections break: two large ones and some small.
func (f *fleet) broken(fault string) []item {
	name := strings.ReplaceAll(fault, " ", "-")
	items := f.pair(name, served{content: content{uint64(len(name)), 40 * mib}, rate: 16 * mib})
	for n := range 3 {
		items = append(items, f.pair(fmt.Sprint(name, n), served{content: content{uint64(n), 10_000}})...)
	}
	return items
}
