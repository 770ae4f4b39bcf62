package resume

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/egress"
	httpstore "github.com/copyfleet/copyfleet/storage/http"
	"github.com/copyfleet/copyfleet/storage/storagetest"
)

// through puts a proxy in front of a server that closes each connection after so many bytes, and returns its URL.
func through(t *testing.T, server *httptest.Server, limit int) string {
	t.Helper()
	api := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	proxy := toxiproxy.NewProxy(api, t.Name(), "127.0.0.1:0", strings.TrimPrefix(server.URL, "http://"))
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Stop)
	toxic := fmt.Sprintf(`{"type":"limit_data","attributes":{"bytes":%d}}`, limit)
	if _, err := proxy.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
		t.Fatal(err)
	}
	return "http://" + proxy.Listen
}

// TestOverCutConnections copies over real connections that are cut again and again.
func TestOverCutConnections(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	data := storagetest.Data(size, 1)
	for _, limit := range []int{300_000, 1_000_000} { // bytes that a connection lives for
		t.Run(strconv.Itoa(limit), func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("ETag", `"v1"`)
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
			}))
			t.Cleanup(server.Close)
			client := httpstore.NewClient(httpstore.Options{Guard: egress.New([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})})
			t.Cleanup(client.Close)
			resumes := 0
			object, err := Open(t.Context(), client.Get(through(t, server, limit), nil), Options{Resumed: func(_ int64, cause error) {
				if resumes++; storage.ClassOf(cause) != storage.Interrupted {
					t.Errorf("it broke off with %v", cause)
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
			defer object.Body.Close()
			hash := sha256.New()
			n, err := io.Copy(hash, object.Body)
			if err != nil || n != size || [32]byte(hash.Sum(nil)) != sha256.Sum256(data) {
				t.Errorf("%d of %d bytes after %d continuations, %v", n, size, resumes, err)
			}
			if resumes < size/limit {
				t.Errorf("it went on %d times, want %d", resumes, size/limit)
			}
		})
	}
}
