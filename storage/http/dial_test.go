package httpstore

import (
	"context"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/copyfleet/copyfleet/internal/testkit/hostilehttp"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/egress"
)

// trust returns a pool with the certificate of server.
func trust(server *httptest.Server) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	return pool
}

// resolver runs a DNS server that knows hosts and returns a resolver that asks it. A host without addresses
// does not exist; one that is not listed gets no answer.
func resolver(t *testing.T, hosts map[string][]string) *net.Resolver {
	t.Helper()
	return resolverBy(t, func(host string) ([]string, bool) { addresses, known := hosts[host]; return addresses, known })
}

// resolverBy is a resolver whose DNS server may change its mind.
func resolverBy(t *testing.T, hosts func(host string) (addresses []string, known bool)) *net.Resolver {
	t.Helper()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			if reply := resolve(buf[:n], hosts); reply != nil {
				_, _ = server.WriteTo(reply, from)
			}
		}
	}()
	var (
		mu    sync.Mutex
		conns []net.Conn
		over  bool
	)
	t.Cleanup(func() {
		server.Close()
		<-done
		mu.Lock()
		defer mu.Unlock()
		over = true
		for _, c := range conns { // a lookup outlives who asked for it, and would wait for seconds
			c.Close()
		}
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		if over {
			return nil, net.ErrClosed
		}
		c, err := new(net.Dialer).DialContext(ctx, "udp", server.LocalAddr().String())
		if err == nil {
			conns = append(conns, c)
		}
		return c, err
	}}
}

// resolve answers one query.
func resolve(query []byte, hosts func(string) ([]string, bool)) []byte {
	var m dnsmessage.Message
	if m.Unpack(query) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	addresses, known := hosts(strings.TrimSuffix(q.Name.String(), "."))
	if !known {
		return nil
	}
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	if len(addresses) == 0 {
		m.RCode = dnsmessage.RCodeNameError
	}
	for _, text := range addresses {
		addr := netip.MustParseAddr(text)
		header := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 1}
		if addr.Is4() && q.Type == dnsmessage.TypeA {
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: addr.As4()}})
		}
		if addr.Is6() && q.Type == dnsmessage.TypeAAAA {
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: addr.As16()}})
		}
	}
	reply, err := m.Pack()
	if err != nil {
		return nil
	}
	return reply
}

func TestGuardJudgesResolvedAddresses(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	closed := closedPort(t)

	// Of all loopback only 127.0.0.1 may be dialed.
	names := resolver(t, map[string][]string{
		"one.test": {"127.0.0.1"}, "forbidden.test": {"127.0.0.2"}, "all.test": {"127.0.0.2", "127.0.0.3", "::1"},
		"mixed.test": {"::1", "127.0.0.2", "127.0.0.1"}, "mapped.test": {"::ffff:127.0.0.2"}, "missing.test": {},
	})
	client := testClient(t, func(o *Options) {
		o.Guard = egress.New([]netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")})
		o.Resolver = names
	})
	forbidden := failure{storage.ForbiddenAddress, "forbidden_address", "the address ", 0}
	tests := []struct {
		host string
		want *failure
	}{
		{"one.test:" + port, nil},
		{"mixed.test:" + port, nil}, // the public one of several is found
		{"forbidden.test:" + port, &forbidden},
		{"all.test:" + port, &forbidden},
		{"mapped.test:" + port, &forbidden},
		{"127.0.0.2:" + port, &forbidden},
		{"[::1]:" + port, &forbidden},
		{"one.test:" + closed, &failure{storage.Unavailable, "source_connect_refused", "the connection was refused", 0}},
		{"mixed.test:" + closed, &failure{storage.Unavailable, "source_connect", "no connection to the public addresses", 0}},
		{"missing.test:" + port, &failure{storage.Unavailable, "source_dns_not_found", "the host name has no address", 0}},
	}
	for _, tt := range tests {
		_, _, err := readAll(t, client.Get("http://"+tt.host+"/p"+query, nil))
		if tt.want == nil {
			if err != nil {
				t.Errorf("%s: %v", tt.host, err)
			}
			continue
		}
		e := tt.want.check(t, err)
		if e.Class == storage.ForbiddenAddress && !strings.Contains(e.Hint, "--egress-allow") {
			t.Errorf("%s: hint is %q", tt.host, e.Hint)
		}
	}
}

func TestNoGuardDialsAnything(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	if _, _, err := readAll(t, testClient(t, func(o *Options) { o.Guard = nil }).Get(server.URL, nil)); err != nil {
		t.Error(err)
	}
}

func TestResolverThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	names := resolver(t, nil)
	client := testClient(t, func(o *Options) { o.Resolver, o.ConnectTimeout = names, 100*time.Millisecond })
	_, _, err := readAll(t, client.Get("http://silent.test/"+query, nil))
	failure{storage.Timeout, "source_dns_timeout", "Network timeout: no answer about the host name within 100ms", 0}.check(t, err)
}

// A listener whose queue of connections is full drops further ones: the connection is neither made nor refused.
func TestConnectTimeout(t *testing.T) {
	t.Parallel()
	address := fullListener(t)
	client := testClient(t, func(o *Options) { o.ConnectTimeout = 200 * time.Millisecond })
	_, _, err := readAll(t, client.Get("http://"+address+"/"+query, nil))
	failure{storage.Timeout, "source_connect_timeout", "Network timeout: no connection within 200ms", 0}.check(t, err)
	_, err = client.Put("http://"+address+"/"+query, nil).Put(t.Context(), content("x", nil))
	failure{storage.Timeout, "dest_connect_timeout", "Network timeout: no connection within 200ms", 0}.check(t, err)
}

func TestTLS(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	silent := hostile(t, func(p *hostilehttp.Peer) { p.Hang() })
	plain := hostile(t, func(p *hostilehttp.Peer) { p.Say("%s", hostilehttp.Answer("400 Bad Request")) })
	rude := hostile(t, func(p *hostilehttp.Peer) { p.R.ReadByte(); p.Reset() })
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	names := resolver(t, map[string][]string{"other.test": {"127.0.0.1"}})

	trusting := func(o *Options) { o.RootCAs, o.Resolver = trust(server), names }
	tests := []struct {
		name string
		url  string
		edit func(o *Options)
		want *failure
	}{
		{"trusted", server.URL, trusting, nil},
		{"unknown authority", server.URL, nil, &failure{storage.Invalid, "source_tls", "the server's certificate was not accepted", 0}},
		{"other name", "https://other.test:" + port, trusting, &failure{storage.Invalid, "source_tls", "the server's certificate", 0}},
		{"silent", silent, func(o *Options) { o.TLSTimeout = 100 * time.Millisecond },
			&failure{storage.Timeout, "source_tls_timeout", "Network timeout: no TLS handshake within 100ms", 0}},
		{"plain HTTP", plain, nil, &failure{storage.Unavailable, "source_tls", "the server does not speak TLS", 0}},
		{"reset", rude, nil, &failure{storage.Unavailable, "source_tls", "the TLS handshake failed", 0}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			url := strings.Replace(tt.url, "http://", "https://", 1)
			_, _, err := readAll(t, testClient(t, tt.edit).Get(url+"/"+query, nil))
			if tt.want != nil {
				tt.want.check(t, err)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}
