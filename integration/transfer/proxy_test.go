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

// proxyTo puts a proxy in front of a server.
func proxyTo(t *testing.T, url string) *toxiproxy.Proxy {
	t.Helper()
	api := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	proxy := toxiproxy.NewProxy(api, t.Name(), "127.0.0.1:0", strings.TrimPrefix(url, "http://"))
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Stop)
	return proxy
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
			proxy := proxyTo(t, server)
			env := []string(nil)
			if side == "store" {
				env = append(env, "S3_ENDPOINT=http://"+proxy.Listen)
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
						items[i].src = mixtest.FromURL("http://" + proxy.Listen + "/" + items[i].id)
					}
				}
				id := f.submit(t, "attempts=20", items...)
				for i := range items {
					f.stored(t, id, i, 2)
				}
				if _, err := proxy.Toxics.AddToxicJson(strings.NewReader(fmt.Sprintf(toxic, stream))); err != nil {
					t.Fatal(err)
				}
				healed := time.NewTimer(3 * time.Second)
				<-healed.C
				if err := proxy.Toxics.RemoveToxic(t.Context(), "f"); err != nil {
					t.Fatal(err)
				}
				receipts := f.check(t, id, items...)
				for i := range items {
					n, given = n+1, given+f.file(items[i]).given.Load()
					if got := f.file(items[i]).given.Load(); got > 2*size {
						t.Errorf("%s: the source gave %d bytes of a file of %d, in %d attempts", items[i].id, got, int64(size), len(receipts[i].Attempts))
					}
				}
			}
			t.Logf("%d items, %d faults (connections to the %s), 0 lost; %d bytes given of %d", n, len(faults), side, given, int64(n)*size)
		})
	}
}
