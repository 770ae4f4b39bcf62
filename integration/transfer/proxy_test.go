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
	w := &wire{listen: "127.0.0.1:0", server: strings.TrimPrefix(url, "http://")}
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

// faults are what connections meet for a while. %s is the direction in which the bytes of files go.
var faults = map[string]string{
	"reset":         `{"name":"f","type":"reset_peer","stream":"%s","attributes":{"timeout":300}}`,
	"slow":          `{"name":"f","type":"bandwidth","stream":"%s","attributes":{"rate":500}}`,
	"silent":        `{"name":"f","type":"timeout","stream":"%s","attributes":{"timeout":1500}}`,
	"cut at a byte": `{"name":"f","type":"limit_data","stream":"%s","attributes":{"bytes":1500000}}`,
	"in slices":     `{"name":"f","type":"slicer","stream":"%s","attributes":{"average_size":1000,"size_variation":900,"delay":10}}`,
}

// TestConnectionsThatBreak lets the connections to the sources, or to the store, be reset, slow, silent or cut while files are moved.
func TestConnectionsThatBreak(t *testing.T) {
	t.Parallel()
	for _, side := range []string{"source", "store"} {
		t.Run(side, func(t *testing.T) {
			t.Parallel()
			minio := miniotest.Shared(t)
			f := newFleet(t, minio, 0, small...)
			server, stream := f.source.URL, "downstream"
			if side == "store" {
				server, stream = minio.Endpoint, "upstream"
			}
			proxy := wireTo(t, server)
			env := []string(nil)
			if side == "store" {
				env = append(env, "S3_ENDPOINT=http://"+proxy.listen)
			}
			for range 2 {
				f.startWorker(t, env...)
			}
			const size = 40 * mib
			n, given := 0, int64(0)
			for name, toxic := range faults {
				items := f.pair(strings.ReplaceAll(name, " ", "-"), served{content: content{uint64(len(name)), size}, rate: 16 * mib})
				for i := range items {
					if side == "source" {
						items[i].src = mixtest.FromURL("http://" + proxy.listen + "/" + items[i].id)
					}
				}
				proxy.become(t, fmt.Sprintf(toxic, stream))
				id := f.submit(t, "attempts=20", items...)
				healed := time.NewTimer(3 * time.Second)
				<-healed.C
				proxy.become(t, "")
				receipts := f.check(t, id, items...)
				t.Logf("%s: %d and %d attempts", name, len(receipts[0].Attempts), len(receipts[1].Attempts))
				for i := range items {
					n, given = n+1, given+f.file(items[i]).given.Load()
					// What a silent connection swallowed was given, too.
					if got := f.file(items[i]).given.Load(); got > 3*size {
						t.Errorf("%s: the source gave %d bytes of a file of %d, in %d attempts", items[i].id, got, int64(size), len(receipts[i].Attempts))
					}
				}
			}
			t.Logf("%d items, %d faults (connections to the %s), 0 lost; %d bytes given of %d", n, len(faults), side, given, int64(n)*size)
		})
	}
}
