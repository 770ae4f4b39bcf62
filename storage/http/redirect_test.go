package httpstore

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/hostilehttp"
	"github.com/copyfleet/copyfleet/storage"
)

func TestRedirectIsRefused(t *testing.T) {
	t.Parallel()
	tests := []struct {
		location string
		code     string
		class    storage.Class
		message  string
	}{
		{"file:///etc/passwd", "source_redirect", storage.Invalid, "the server redirected to a URL that is neither http nor https"},
		{"ftp://127.0.0.1/", "source_redirect", storage.Invalid, "the server redirected to a URL that is neither"},
		{"//user:" + secret + "@127.0.0.1/", "source_redirect", storage.Invalid, "the server redirected to a URL that has userinfo"},
		{"http://[fe80::1%25eth0]/", "source_redirect", storage.Invalid, "the server redirected to a URL that has a zone"},
		{"http://2130706433/", "source_redirect", storage.Invalid, "the server redirected to a URL that has a numeric host"},
		{"http://0x7f.1/", "source_redirect", storage.Invalid, "the server redirected to a URL that has a numeric host"},
		{"http://%zz" + query, "source_redirect", storage.Invalid, "the server redirected to a URL that cannot be parsed"},
		{"/" + strings.Repeat("a", 9000), "source_redirect", storage.Invalid, "the server redirected to a URL that is longer"},
		{"http:///x", "source_redirect", storage.Invalid, "the server redirected to a URL that names no host"},
		{"http://169.254.169.254/latest/" + query, "forbidden_address", storage.ForbiddenAddress, "the address 169.254.169.254 is not public"},
		{"http://[::ffff:169.254.169.254]/" + query, "forbidden_address", storage.ForbiddenAddress, "the address 169.254.169.254 is not public"},
		{"http://[::1]:1/" + query, "forbidden_address", storage.ForbiddenAddress, "the address ::1 is not public"},
		{"/loop" + query, "source_redirect_limit", storage.Invalid, "the server redirected more than 5 times"},
		{"", "source_redirect", storage.Invalid, "the server redirected to a URL that it did not name"},
	}
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, tt := range tests {
			t.Run(fmt.Sprintf("%d %.20s", status, tt.location), func(t *testing.T) {
				t.Parallel()
				url := hostile(t, func(p *hostilehttp.Peer) {
					for p.Request().URL != nil && p.Say("HTTP/1.1 %d X\r\nContent-Length: 5\r\nLocation: %s\r\n\r\n12345", status, tt.location) {
					}
				})
				_, _, err := readAll(t, testClient(t, nil).Get(url+"/start"+query, nil))
				failure{tt.class, tt.code, tt.message, 0}.check(t, err)
			})
		}
	}
}

// Exactly five redirects are followed.
func TestRedirectLimit(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var n int
		fmt.Sscanf(r.URL.Path, "/%d", &n)
		if n == 0 {
			fmt.Fprint(w, "there")
			return
		}
		http.Redirect(w, r, fmt.Sprintf("/%d", n-1), http.StatusFound)
	}))
	defer server.Close()
	client := testClient(t, nil)
	if got, _, err := readAll(t, client.Get(server.URL+"/5", nil)); err != nil || got != "there" {
		t.Errorf("after 5 redirects: %q, %v", got, err)
	}
	_, _, err := readAll(t, client.Get(server.URL+"/6", nil))
	failure{storage.Invalid, "source_redirect_limit", "", 0}.check(t, err)
}

// A caller's headers stay with the origin they were meant for, and do not come back with it.
func TestRedirectHeaders(t *testing.T) {
	t.Parallel()
	type hop struct{ key, agent, referer, encoding string }
	var seen [4]hop
	note := func(i int, r *http.Request) {
		seen[i] = hop{r.Header.Get("X-Key"), r.UserAgent(), r.Referer(), r.Header.Get("Accept-Encoding")}
	}
	var first, second *httptest.Server
	second = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		note(2, r)
		http.Redirect(w, r, first.URL+"/back", http.StatusTemporaryRedirect)
	}))
	defer second.Close()
	first = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/":
			note(0, r)
			http.Redirect(w, r, "same", http.StatusFound)
		case "/same":
			note(1, r)
			http.Redirect(w, r, second.URL, http.StatusMovedPermanently)
		default:
			note(3, r)
		}
	}))
	defer first.Close()

	headers := map[string]string{"X-Key": secret, "User-Agent": "caller", "Accept-Encoding": "br"}
	if _, _, err := readAll(t, testClient(t, nil).Get(first.URL+"/"+query, headers)); err != nil {
		t.Fatal(err)
	}
	with, without := hop{secret, "caller", "", "br"}, hop{"", "copyfleet", "", "identity"}
	if want := [4]hop{with, with, without, without}; seen != want {
		t.Errorf("the hops saw %+v, want %+v", seen, want)
	}
}
