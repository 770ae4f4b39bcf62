package httpstore

import (
	"strings"
	"testing"
)

func TestParseURL(t *testing.T) {
	t.Parallel()
	tests := []struct {
		raw     string
		origin  string // "" if it is refused
		problem string // a part of the problem
	}{
		{"http://example.com", "http://example.com:80", ""},
		{"HTTPS://Example.COM/a?b#c", "https://example.com:443", ""},
		{"http://example.com:8080/", "http://example.com:8080", ""},
		{"http://example.com:080/", "http://example.com:080", ""},
		{"http://127.0.0.1:9000/", "http://127.0.0.1:9000", ""}, // the guard decides about addresses
		{"http://[::1]:9000/", "http://::1:9000", ""},
		{"http://[2001:DB8:0::1]/", "http://2001:db8::1:80", ""},
		{"http://bücher.example/", "http://xn--bcher-kva.example:80", ""},
		{"http://under_score.example/", "http://under_score.example:80", ""},
		{"http://localhost/", "http://localhost:80", ""},
		{"http://minio-1/", "http://minio-1:80", ""},
		{"http://a1.2b/", "http://a1.2b:80", ""},
		{"http://0xg/", "http://0xg:80", ""},
		{"http://example.com./", "http://example.com.:80", ""},

		{"", "", "neither http nor https"},
		{"example.com/a", "", "neither http nor https"},
		{"file:///etc/passwd", "", "neither http nor https"},
		{"ftp://example.com/", "", "neither http nor https"},
		{"javascript:alert(1)", "", "neither http nor https"},
		{"http:", "", "names no host"},
		{"http:example.com", "", "names no host"},
		{"http:///path", "", "names no host"},
		{"http://:80/", "", "names no host"},
		{"http://user@example.com/", "", "userinfo"},
		{"http://user:pass@example.com/", "", "userinfo"},
		{"http://@example.com/", "", "userinfo"},
		{"http://[fe80::1%25eth0]/", "", "zone"},
		{"http://[fe80::1%25]/", "", ""},
		{"http://example.com:/", "", "empty port"},
		{"http://example.com:0/", "", "port"},
		{"http://example.com:65536/", "", "port"},
		{"http://example.com:http/", "", "parsed"},
		{"http://2130706433/", "", "numeric"},
		{"http://0x7f000001/", "", "numeric"},
		{"http://0x7f.1/", "", "numeric"},
		{"http://127.1/", "", "numeric"},
		{"http://127.0.1/", "", "numeric"},
		{"http://0177.0.0.1/", "", "numeric"},
		{"http://127.0.0.01/", "", "numeric"},
		{"http://127.0.0.0x1/", "", "numeric"},
		{"http://127.0.0.1./", "", "numeric"},
		{"http://0x/", "", "numeric"},
		{"http://1.2.3.4.5/", "", "numeric"},
		{"http://256.0.0.1/", "", "numeric"},
		{"http://example.1/", "", "numeric"},
		{"http://１２７.0.0.1/", "", "another form"},
		{"http://127。0。0。1/", "", "another form"},
		{"http://[::ffff:127.0.0.1/", "", "parsed"},
		{"http://[v1.x]/", "", ""},
		{"http://a..b./", "", ""},
		{"http://.a/", "", ""},
		{"http://./", "", ""},
		{"http://exa mple.com/", "", "parsed"},
		{"http://exa%6dple.com/", "", "parsed"},
		{"http://example.com/\r\nX: 1", "", "parsed"},
		{"http://example.com/\x7f", "", "parsed"},
		{"http://a..b/", "", ""},
		{"http://example.com/%zz", "", "parsed"},
		{"http://example.com/" + strings.Repeat("a", 8<<10), "", "longer"},
		{"http://example.com/" + strings.Repeat("ü", 3000), "", "longer"}, // beyond 8 KiB once it is encoded
	}
	for _, tt := range tests {
		got, problem := parseURL(tt.raw)
		if (problem == "") != (tt.origin != "") || got.origin != tt.origin || !strings.Contains(problem, tt.problem) {
			t.Errorf("parseURL(%.60q) = %q, problem %q, want %q, %q", tt.raw, got.origin, problem, tt.origin, tt.problem)
		}
	}
}

func TestRedacted(t *testing.T) {
	t.Parallel()
	tests := []struct{ raw, want string }{
		{"https://example.com/a/b%2Fc?sig=" + secret + "#" + secret, "https://example.com/a/b%2Fc"},
		{"http://example.com", "http://example.com"},
		{"http://[::1]:80/ü", "http://[::1]:80/%C3%BC"},
		{"http://e/" + strings.Repeat("a", 2000), "http://e/" + strings.Repeat("a", maxSubject-9) + "..."},
	}
	for _, tt := range tests {
		to, problem := parseURL(tt.raw)
		if problem != "" {
			t.Fatalf("%q: %s", tt.raw, problem)
		}
		if got := redacted(to.url); got != tt.want {
			t.Errorf("redacted(%.60q) = %.60q, want %.60q", tt.raw, got, tt.want)
		}
	}
}

func TestParseHeaders(t *testing.T) {
	t.Parallel()
	many := map[string]string{}
	for i := range 65 {
		many["X-"+strings.Repeat("a", i)] = ""
	}
	tests := []struct {
		given   map[string]string
		problem string
	}{
		{nil, ""},
		{map[string]string{"x-amz-acl": "private", "Range": "bytes=0-"}, ""},
		{map[string]string{"X-A": ""}, ""},
		{map[string]string{"X-A": strings.Repeat("a", 16<<10-3)}, ""},
		{map[string]string{"X-A": strings.Repeat("a", 16<<10-2)}, "larger than 16 KiB"},
		{many, "more than 64"},
		{map[string]string{"": "x"}, "not a token"},
		{map[string]string{"X A": "x"}, "not a token"},
		{map[string]string{"X:A": "x"}, "not a token"},
		{map[string]string{"X-A\r\nY": "x"}, "not a token"},
		{map[string]string{"X-A": "x\ny"}, "value for X-A"},
		{map[string]string{"X-A": "x\x00"}, "value for X-A"},
		{map[string]string{"x-a": "1", "X-A": "2"}, "X-A twice"},
		{map[string]string{"host": "x"}, "Host"},
		{map[string]string{"CONTENT-LENGTH": "1"}, "Content-Length"},
		{map[string]string{"transfer-encoding": "chunked"}, "Transfer-Encoding"},
		{map[string]string{"connection": "close"}, "Connection"},
		{map[string]string{"keep-alive": "1"}, "Keep-Alive"},
		{map[string]string{"te": "trailers"}, "Te"},
		{map[string]string{"trailer": "X"}, "Trailer"},
		{map[string]string{"upgrade": "h2c"}, "Upgrade"},
		{map[string]string{"expect": "x"}, "Expect"},
		{map[string]string{"proxy-authorization": "x"}, "Proxy-Authorization"},
		{map[string]string{"Proxy-Anything": "x"}, "Proxy-Anything"},
		{map[string]string{"http2-settings": "x"}, "Http2-Settings"},
	}
	for _, tt := range tests {
		header, problem := parseHeaders(tt.given)
		if (problem == "") != (tt.problem == "") || !strings.Contains(problem, tt.problem) {
			t.Errorf("parseHeaders(%.60q): problem %q, want %q", tt.given, problem, tt.problem)
		}
		if problem == "" && len(header) != len(tt.given) {
			t.Errorf("parseHeaders(%.60q) = %v", tt.given, header)
		}
	}
}
