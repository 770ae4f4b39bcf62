package hostile

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

// visitors is a web server that remembers who came.
type visitors struct {
	*httptest.Server

	mu    sync.Mutex
	asked []*http.Request
}

// listenAt starts a server at an address of the loopback network.
func listenAt(t *testing.T, host string, handler http.HandlerFunc) *visitors {
	t.Helper()
	v := &visitors{}
	v.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v.mu.Lock()
		v.asked = append(v.asked, r.Clone(t.Context()))
		v.mu.Unlock()
		handler(w, r)
	}))
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	_ = v.Listener.Close()
	v.Listener = l
	v.Start()
	t.Cleanup(func() { v.CloseClientConnections(); v.Close() })
	return v
}

func (v *visitors) visits() []*http.Request {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.asked
}

func (v *visitors) port() string { return v.URL[strings.LastIndex(v.URL, ":")+1:] }

func give(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("content")) }

// chain redirects /n/… to /n-1/…, and /0/… to what ends maps the rest to.
func chain(ends map[string]string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		n, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		left, err := strconv.Atoi(n)
		if err != nil {
			http.NotFound(w, r)
			return
		}
		to := fmt.Sprintf("/%d/%s", left-1, name)
		if left == 0 {
			to = ends[name]
		}
		w.Header().Set("Location", to)
		w.WriteHeader(http.StatusFound)
	}
}

// TestRedirectsToForbiddenAddresses lets a fleet that may dial 127.0.0.1 be led elsewhere.
func TestRedirectsToForbiddenAddresses(t *testing.T) {
	t.Parallel()
	forbidden := listenAt(t, "127.0.0.2", give)
	allowed := listenAt(t, "127.0.0.1", give)
	ends := map[string]string{
		"plain": forbidden.URL + "/x", "mapped": "http://[::ffff:127.0.0.2]:" + forbidden.port() + "/x", "zero": "http://0.0.0.0:" + forbidden.port() + "/x",
		"numeric": "http://2130706434:" + forbidden.port() + "/x", "hex": "http://0x7f.0.0.2:" + forbidden.port() + "/x",
		"link-local": "http://169.254.169.254/latest/meta-data", "private": "http://10.0.0.1/", "ipv6": "http://[fd00::1]/",
		"userinfo": "http://a:b@127.0.0.2:" + forbidden.port() + "/x", "file": "file:///etc/passwd", "gopher": "gopher://127.0.0.1/x", "nowhere": "",
		"allowed": allowed.URL + "/x",
	}
	hops := listenAt(t, "127.0.0.1", chain(ends))
	f, _ := up(t, "EGRESS_ALLOW=127.0.0.1/32")
	var batch mixtest.Batch
	add := func(hop int, name string, fails protocol.Class) {
		id := fmt.Sprintf("%s-%d", name, hop)
		batch = append(batch, mixtest.Copy{
			ID: id, Src: mixtest.FromURL(fmt.Sprintf("%s/%d/%s", hops.URL, hop, name)), Dest: mixtest.ToSandbox("/" + id), Content: []byte("content"), Fails: fails,
		})
	}
	for _, name := range []string{"plain", "mapped", "zero", "link-local", "private", "ipv6"} {
		add(0, name, protocol.ForbiddenAddress)
		add(3, name, protocol.ForbiddenAddress)
	}
	for _, name := range []string{"numeric", "hex", "userinfo", "file", "gopher", "nowhere"} {
		add(1, name, protocol.Invalid)
	}
	add(4, "allowed", "") // five redirects
	add(5, "allowed", protocol.Invalid)
	called, err := f.API.Copy(t.Context(), f.Sandbox, nil, batch.Files())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range f.Check(t, called.Batch(), batch, limit) {
		if len(r.Attempts) != 1 {
			t.Errorf("%s was tried %d times: it can only fail again", r.ID, len(r.Attempts))
		}
	}
	if n := len(forbidden.visits()); n != 0 {
		t.Errorf("the forbidden address was reached %d times", n)
	}
}

// TestRedirectsAndCredentials checks that what a caller gave for one origin reaches no other one.
func TestRedirectsAndCredentials(t *testing.T) {
	t.Parallel()
	f, _ := up(t)
	other := listenAt(t, "127.0.0.1", give)
	first := listenAt(t, "127.0.0.1", func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/same":
			http.Redirect(w, r, "/arrived", http.StatusFound)
		case "/other":
			http.Redirect(w, r, other.URL+"/arrived", http.StatusTemporaryRedirect)
		default:
			give(w, r)
		}
	})
	back := listenAt(t, "127.0.0.1", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, first.URL+"/returned", http.StatusFound)
	})
	headers := map[string]any{"Authorization": "Bearer t", "X-Api-Key": "k", "X-Amz-Security-Token": "s", "Cookie": "c=1"}
	from := func(url string) map[string]any {
		return map[string]any{"type": "httpGetLocation", "url": url + "?X-Amz-Signature=q", "headers": headers}
	}
	batch := mixtest.Batch{
		{ID: "same", Src: from(first.URL + "/same"), Dest: mixtest.ToSandbox("/same"), Content: []byte("content")},
		{ID: "other", Src: from(first.URL + "/other"), Dest: mixtest.ToSandbox("/other"), Content: []byte("content")},
		{ID: "back", Src: from(back.URL + "/"), Dest: mixtest.ToSandbox("/back"), Content: []byte("content")},
	}
	called, err := f.API.Copy(t.Context(), f.Sandbox, nil, batch.Files())
	if err != nil {
		t.Fatal(err)
	}
	f.Check(t, called.Batch(), batch, limit)
	carries := func(r *http.Request) int {
		n := 0
		for name := range headers {
			if r.Header.Get(name) != "" {
				n++
			}
		}
		return n
	}
	seen := map[string]*http.Request{}
	for _, r := range append(first.visits(), other.visits()...) {
		seen[r.URL.Path+"@"+r.Host] = r
	}
	at := func(path string, v *visitors) *http.Request {
		t.Helper()
		r := seen[path+"@"+strings.TrimPrefix(v.URL, "http://")]
		if r == nil {
			t.Fatalf("nobody came to %s of %s", path, v.URL)
		}
		return r
	}
	if n := carries(at("/arrived", first)); n != len(headers) {
		t.Errorf("within its origin a redirect keeps %d of %d headers", n, len(headers))
	}
	for _, r := range []*http.Request{at("/arrived", other), at("/returned", first)} {
		if carries(r) != 0 || r.Header.Get("Referer") != "" || r.URL.RawQuery != "" {
			t.Errorf("to %s came %s with %v", r.Host, r.URL, r.Header)
		}
	}
}

// TestUploadsFollowNoRedirect checks it for each status: a 302 would become a GET that reports success.
func TestUploadsFollowNoRedirect(t *testing.T) {
	t.Parallel()
	f, _ := up(t)
	target := listenAt(t, "127.0.0.1", give)
	receiver := listenAt(t, "127.0.0.1", func(w http.ResponseWriter, r *http.Request) {
		status, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
		w.Header().Set("Location", target.URL+"/x")
		w.WriteHeader(status)
	})
	f.FromSandbox(t, "/a", []byte("content"))
	var batch mixtest.Batch
	for _, status := range []int{301, 302, 303, 307, 308} {
		url := fmt.Sprintf("%s/%d", receiver.URL, status)
		batch = append(batch,
			mixtest.Copy{ID: fmt.Sprint("put-", status), Src: mixtest.ToSandbox("/a"), Dest: map[string]any{"type": "httpPutLocation", "url": url}, Fails: protocol.Invalid},
			mixtest.Copy{ID: fmt.Sprint("form-", status), Src: mixtest.ToSandbox("/a"), Dest: map[string]any{"type": "httpPostFormLocation", "url": url, "form": map[string]any{}}, Fails: protocol.Invalid})
	}
	called, err := f.API.Copy(t.Context(), f.Sandbox, nil, batch.Files())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range f.Check(t, called.Batch(), batch, limit) {
		if r.Failure != nil && r.Failure.Code != "http_redirect" {
			t.Errorf("%s: %+v", r.ID, r.Failure)
		}
	}
	if n := len(target.visits()); n != 0 {
		t.Errorf("an upload followed a redirect %d times", n)
	}
}
