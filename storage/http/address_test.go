package httpstore

import (
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/testkit/hostilehttp"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/egress"
	"github.com/copyfleet/copyfleet/storage/resume"
)

// canary listens at an address that nobody may reach, on a port of the caller's choice ("0": any), and fails the test if somebody does.
func canary(t *testing.T, host, port string) string {
	t.Helper()
	address := hostilehttp.ServeAt(t, net.JoinHostPort(host, port), func(*hostilehttp.Peer) { t.Errorf("the forbidden address %s was reached", host) })
	_, port, _ = net.SplitHostPort(address)
	return port
}

// only127001 lets a client dial nothing of loopback but 127.0.0.1.
func only127001(o *Options) {
	o.Guard = egress.New([]netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")})
}

// spellings are hosts that no client may reach, with what is said about them. Those of loopback lead to canaries, where they lead anywhere.
var spellings = []struct {
	host  string
	class storage.Class
}{
	{"127.0.0.2", storage.ForbiddenAddress}, {"0.0.0.0", storage.ForbiddenAddress}, {"[::]", storage.ForbiddenAddress}, {"[::1]", storage.ForbiddenAddress},
	{"127.255.255.254", storage.ForbiddenAddress},
	// IPv4 in other clothes.
	{"2130706434", storage.Invalid}, {"0x7f000002", storage.Invalid}, {"0X7F000002", storage.Invalid}, {"017700000002", storage.Invalid},
	{"0177.0.0.2", storage.Invalid}, {"0x7f.0.0.2", storage.Invalid}, {"127.0x0.0.2", storage.Invalid}, {"127.2", storage.Invalid}, {"127.0.2", storage.Invalid},
	{"0", storage.Invalid}, {"127.0.0.2.", storage.Invalid}, {"127.0.0.002", storage.Invalid}, {"127.0.0.258", storage.Invalid},
	{"１２７.０.０.２", storage.Invalid}, {"①②⑦.0.0.2", storage.Invalid}, {"127。0。0。2", storage.Invalid}, {"127.0.0.%32", storage.Invalid}, {"127.0.0.2%00", storage.Invalid},
	{"127.0.0.1@127.0.0.2", storage.Invalid}, {"127.0.0.1%40127.0.0.2", storage.Invalid}, {`127.0.0.1\@127.0.0.2`, storage.Invalid},
	// IPv4 in IPv6.
	{"[::ffff:127.0.0.2]", storage.ForbiddenAddress}, {"[::ffff:7f00:2]", storage.ForbiddenAddress}, {"[0:0:0:0:0:ffff:7f00:0002]", storage.ForbiddenAddress},
	{"[::127.0.0.2]", storage.ForbiddenAddress}, {"[::ffff:0:127.0.0.2]", storage.ForbiddenAddress},
	{"[64:ff9b::127.0.0.2]", storage.ForbiddenAddress}, {"[64:ff9b:1::127.0.0.2]", storage.ForbiddenAddress}, // NAT64
	{"[2002:7f00:2::1]", storage.ForbiddenAddress},                       // 6to4
	{"[2001:0:7f00:2::1]", storage.ForbiddenAddress},                     // Teredo, by its server
	{"[2001::80ff:fffd]", storage.ForbiddenAddress},                      // Teredo, by its client
	{"[::1%25lo]", storage.Invalid}, {"[fe80::1%25lo]", storage.Invalid}, // zones
	{"[::ffff:127.0.0.2%25lo]", storage.Invalid}, {"[::1", storage.Invalid}, {"::1", storage.Invalid}, {"[127.0.0.2]", storage.Invalid},
	// What is not public.
	{"10.0.0.1", storage.ForbiddenAddress}, {"172.16.0.1", storage.ForbiddenAddress}, {"192.168.0.1", storage.ForbiddenAddress},
	{"100.64.0.1", storage.ForbiddenAddress}, {"169.254.169.254", storage.ForbiddenAddress}, {"192.0.0.192", storage.ForbiddenAddress},
	{"198.18.0.1", storage.ForbiddenAddress}, {"224.0.0.1", storage.ForbiddenAddress}, {"240.0.0.1", storage.ForbiddenAddress}, {"255.255.255.255", storage.ForbiddenAddress},
	{"[fd00:ec2::254]", storage.ForbiddenAddress}, {"[fe80::1]", storage.ForbiddenAddress}, {"[fec0::1]", storage.ForbiddenAddress}, {"[ff02::1]", storage.ForbiddenAddress},
	{"[2001:db8::1]", storage.ForbiddenAddress}, {"[100::1]", storage.ForbiddenAddress}, {"[::ffff:169.254.169.254]", storage.ForbiddenAddress},
	{"[::ffff:a9fe:a9fe]", storage.ForbiddenAddress}, {"[2002:a9fe:a9fe::1]", storage.ForbiddenAddress}, {"[64:ff9b::a9fe:a9fe]", storage.ForbiddenAddress},
}

// TestSpellingsOfAddresses gives every spelling to every call that dials, and to redirects of a source and of a range.
func TestSpellingsOfAddresses(t *testing.T) {
	t.Parallel()
	port := canary(t, "127.0.0.2", "0")
	canary(t, "::1", port)
	canary(t, "127.255.255.254", port)
	hop := "http://" + hostilehttp.Serve(t, func(p *hostilehttp.Peer) {
		for {
			req := p.Request()
			if req.URL == nil || !p.Say("HTTP/1.1 302 X\r\nContent-Length: 0\r\nLocation: %s\r\n\r\n", req.Header.Get("X-To")) {
				return
			}
		}
	})
	client := testClient(t, only127001)
	mark := storage.Mark{ETag: `"v1"`, Size: 10}
	for _, tt := range spellings {
		t.Run(tt.host, func(t *testing.T) {
			t.Parallel()
			url := "http://" + tt.host + ":" + port + "/" + query
			calls := map[string]func() error{
				"get":  func() error { _, _, err := readAll(t, client.Get(url, nil)); return err },
				"stat": func() error { _, err := client.Get(url, nil).(*get).Stat(t.Context()); return err },
				"range": func() error {
					_, _, err := openRange(t, client.Get(url, nil), mark, 4, storage.UnknownSize)
					return err
				},
				"put": func() error { _, err := client.Put(url, nil).Put(t.Context(), content("data", nil)); return err },
				"form": func() error {
					_, err := client.PostForm(url, nil, "", "", nil).Put(t.Context(), content("data", nil))
					return err
				},
				"notify": func() error { _, err := client.Notify(t.Context(), url, nil, []byte("{}")); return err },
			}
			if !strings.ContainsAny(tt.host, "\\") { // which would not be valid in a header
				to := map[string]string{"X-To": url}
				calls["redirect"] = func() error { _, _, err := readAll(t, client.Get(hop+query, to)); return err }
				calls["redirected range"] = func() error {
					_, _, err := openRange(t, client.Get(hop+query, to), mark, 4, storage.UnknownSize)
					return err
				}
			}
			for name, call := range calls {
				err := call()
				if storage.ClassOf(err) != tt.class {
					t.Errorf("%s: class %d, want %d: %v", name, storage.ClassOf(err), tt.class, err)
				}
				checkDiscreet(t, err)
			}
		})
	}
}

// TestNamesThatMove asks a DNS server that says 127.0.0.1 first, and 127.0.0.2, where a canary sits, from some moment on. What is dialed
// then is refused, whatever was said before.
func TestNamesThatMove(t *testing.T) {
	t.Parallel()
	for _, moving := range []string{"127.0.0.2", "::1", "::ffff:127.0.0.2"} {
		for _, what := range []string{"open", "redirect", "range", "resume", "put", "notify"} {
			t.Run(what+" to "+moving, func(t *testing.T) {
				t.Parallel()
				moved := &atomic.Bool{}
				server := hostilehttp.Serve(t, func(p *hostilehttp.Peer) {
					if req := p.Request(); req.URL.Path == "/hop" {
						moved.Store(true)
						p.Say("%s", hostilehttp.Answer("302 Found", "Location: /there", "Connection: close"))
						return
					}
					moved.Store(true)
					p.Say("HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Length: 10\r\n\r\n0123")
				})
				_, port, _ := net.SplitHostPort(server)
				canary(t, "127.0.0.2", port)
				canary(t, "::1", port)
				names := resolverBy(t, func(string) ([]string, bool) {
					if moved.Load() {
						return []string{moving}, true
					}
					return []string{"127.0.0.1"}, true
				})
				client := testClient(t, func(o *Options) { only127001(o); o.Resolver = names })
				client.dialer.names.now = func() time.Time { // what was found is too old once the name has moved
					if moved.Load() {
						return time.Now().Add(2 * nameLife)
					}
					return time.Now()
				}
				err := moves(t, client, what, "http://moves.test:"+port)
				if !moved.Load() {
					t.Errorf("the first address was not reached: %v", err)
				}
				failure{storage.ForbiddenAddress, "forbidden_address", "the address ", 0}.check(t, err)
			})
		}
	}
}

// moves reaches a name while it is allowed and then does something that dials it anew.
func moves(t *testing.T, client *Client, what, url string) error {
	t.Helper()
	source := client.Get(url+"/"+query, nil)
	switch what {
	case "redirect":
		_, _, err := readAll(t, client.Get(url+"/hop"+query, nil))
		return err
	case "resume":
		object, err := resume.Open(t.Context(), source, resume.Options{Resumed: func(int64, error) { t.Error("it went on") }})
		if err != nil {
			t.Fatal(err)
		}
		defer object.Body.Close()
		var got [20]byte
		for n := 0; ; {
			more, err := object.Body.Read(got[n:])
			if n += more; err != nil {
				if n != 4 {
					t.Errorf("%d bytes were read", n)
				}
				return err
			}
		}
	}
	if _, _, err := readAll(t, source); storage.ClassOf(err) != storage.Interrupted {
		t.Fatalf("the first visit: %v", err)
	}
	var err error
	switch what {
	case "open":
		_, _, err = readAll(t, source)
	case "range":
		_, _, err = openRange(t, source, storage.Mark{ETag: `"v1"`, Size: 10}, 4, storage.UnknownSize)
	case "put":
		_, err = client.Put(url+"/"+query, nil).Put(t.Context(), content("data", nil))
	case "notify":
		_, err = client.Notify(t.Context(), url+"/"+query, nil, []byte("{}"))
	}
	return err
}

// Of several addresses the forbidden ones are left out, in whatever order they come.
func TestNamesOfBothKinds(t *testing.T) {
	t.Parallel()
	server := hostilehttp.Serve(t, func(p *hostilehttp.Peer) { p.Request(); p.Say("%s", hostilehttp.Answer("200 OK", "Connection: close")) })
	_, port, _ := net.SplitHostPort(server)
	canary(t, "127.0.0.2", port)
	canary(t, "::1", port)
	names := resolver(t, map[string][]string{
		"a.test": {"127.0.0.1", "127.0.0.2", "::1"}, "b.test": {"127.0.0.2", "127.0.0.1", "::1"}, "c.test": {"::1", "::ffff:127.0.0.2", "127.0.0.1"},
	})
	client := testClient(t, func(o *Options) { only127001(o); o.Resolver = names })
	for _, host := range []string{"a.test", "b.test", "c.test"} {
		for range 5 {
			if _, _, err := readAll(t, client.Get("http://"+host+":"+port+"/", nil)); err != nil {
				t.Errorf("%s: %v", host, err)
			}
		}
	}
}
