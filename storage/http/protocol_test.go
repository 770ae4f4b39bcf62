package httpstore

import (
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/copyfleet/copyfleet/storage"
)

// TestSpeaksHTTP1 meets servers that would rather speak HTTP/2: bulk goes by HTTP/1.1, and says so in the handshake.
func TestSpeaksHTTP1(t *testing.T) {
	t.Parallel()
	for name, speaks := range map[string][]string{
		"prefers HTTP/2": {"h2", "http/1.1"}, "only HTTP/1.1": {"http/1.1"}, "does not say": nil, "something else": {"h3"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var offered, spoken []string
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				spoken = append(spoken, r.Proto)
				_, _ = io.Copy(w, r.Body)
			}))
			server.EnableHTTP2 = slices.Contains(speaks, "h2")
			server.TLS = &tls.Config{NextProtos: speaks, GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
				mu.Lock()
				defer mu.Unlock()
				offered = append(offered, hello.SupportedProtos...)
				chosen := server.TLS.Clone()
				chosen.NextProtos, chosen.GetConfigForClient = speaks, nil // as it was meant: the test server adds its own
				return chosen, nil
			}}
			server.StartTLS()
			t.Cleanup(server.Close)
			transport, _ := server.Client().Transport.(*http.Transport)
			client := testClient(t, func(o *Options) { o.RootCAs = transport.TLSClientConfig.RootCAs })
			_, _, err := readAll(t, client.Get(server.URL, nil))
			if len(speaks) > 0 && !slices.Contains(speaks, "http/1.1") {
				if e, ok := errors.AsType[*storage.Error](err); !ok || e.Code != "source_tls" {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := client.Put(server.URL, nil).Put(t.Context(), storage.Content{Body: strings.NewReader("1234"), Size: 4}); err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if slices.ContainsFunc(offered, func(p string) bool { return p != "http/1.1" }) || len(offered) == 0 {
				t.Errorf("the client offered %q", offered)
			}
			if slices.ContainsFunc(spoken, func(p string) bool { return p != "HTTP/1.1" }) || len(spoken) != 2 {
				t.Errorf("they spoke %q", spoken)
			}
		})
	}
}
