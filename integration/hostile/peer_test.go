package hostile

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

// raw is a server that answers each connection with the bytes that the path asks for.
func raw(t *testing.T, answers map[string]func(net.Conn)) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closing := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				go func() { <-closing; _ = conn.Close() }()
				req, err := http.ReadRequest(bufio.NewReader(conn))
				if err == nil && answers[req.URL.Path] != nil {
					answers[req.URL.Path](conn)
				}
			}()
		}
	}()
	t.Cleanup(func() { close(closing); _ = l.Close(); <-ended })
	return "http://" + l.Addr().String()
}

func says(text string) func(net.Conn) {
	return func(c net.Conn) { _, _ = io.WriteString(c, text) }
}

// refuses answers at once and then reads on, so that the answer arrives however much is still being sent.
func refuses(status string) func(net.Conn) {
	return func(c net.Conn) {
		says("HTTP/1.1 " + status + "\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")(c) // each connection takes one request
		hang(c)
	}
}

// hang reads until the peer gives up.
func hang(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// TestPeersThatMisbehave copies from and to servers that do not keep the rules, and checks the text, the class and that
// nothing half-done stays.
func TestPeersThatMisbehave(t *testing.T) {
	t.Parallel()
	f, _ := up(t, "HEADER_TIMEOUT=5s", "IDLE_TIMEOUT=5s", "ACK_WAIT=30s") // shorter, and a busy machine is taken for a slow peer
	url := raw(t, map[string]func(net.Conn){
		"/short":    says("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this"),
		"/hang":     hang,
		"/stall":    func(c net.Conn) { says("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")(c); hang(c) },
		"/garbage":  says("this is no HTTP\r\n\r\n"),
		"/500":      refuses("500 Internal Server Error"),
		"/403":      refuses("403 Forbidden"),
		"/413":      refuses("413 Content Too Large"),
		"/302":      refuses("302 Found\r\nLocation: /elsewhere"),
		"/partial":  says("HTTP/1.1 206 Partial Content\r\nContent-Length: 1\r\n\r\nx"),
		"/tofile":   says("HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n"),
		"/metadata": says("HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest\r\nContent-Length: 0\r\n\r\n"),
		"/gone":     func(net.Conn) {},
	})
	f.FromSandbox(t, "/src", make([]byte, 2<<20))
	get := func(path string) map[string]any { return mixtest.FromURL(url + path) }
	put := func(path string) map[string]any { return map[string]any{"type": "httpPutLocation", "url": url + path} }
	src := mixtest.ToSandbox("/src")
	rows := []struct {
		src, dest map[string]any
		class     protocol.Class
		text      string
	}{
		{get("/short"), nil, protocol.Interrupted, "Failed to download file: "},
		{get("/hang"), nil, protocol.Timeout, "Network timeout"},
		{get("/stall"), nil, protocol.Timeout, "Network timeout"},
		{get("/garbage"), nil, "", "Failed to download file: "},
		{get("/gone"), nil, "", "Failed to download file: "},
		{get("/500"), nil, protocol.Unavailable, "Failed to download file: 500 Internal Server Error"},
		{get("/403"), nil, protocol.Denied, "Failed to download file: 403 Forbidden"},
		{get("/partial"), nil, protocol.Invalid, "Failed to download file: 206 Partial Content"},
		{get("/tofile"), nil, protocol.Invalid, "Failed to download file: "},
		{get("/metadata"), nil, protocol.ForbiddenAddress, "Failed to download file: "},
		{mixtest.FromURL("http://10.255.255.1/"), nil, protocol.ForbiddenAddress, "Failed to download file: "},
		{mixtest.FromURL("http://127.0.0.1:1/"), nil, protocol.Unavailable, "Failed to download file: "},
		{src, put("/403"), protocol.Denied, "Failed to upload file: 403 Forbidden"},
		{src, put("/404"), "", "Failed to upload file: "},
		{src, put("/413"), protocol.TooLarge, "Failed to upload file: 413 "},
		{src, put("/500"), protocol.Unavailable, "Failed to upload file: 500 Internal Server Error"},
		{src, put("/302"), protocol.Invalid, "Failed to upload file: 302 Found"},
		{src, put("/gone"), "", "Failed to upload file: "},
		{src, put("/hang"), protocol.Timeout, "Network timeout"},
	}
	var batch mixtest.Batch
	for i, row := range rows {
		if row.dest == nil {
			row.dest = mixtest.ToSandbox(fmt.Sprintf("/out/%d", i))
		}
		batch = append(batch, mixtest.Copy{ID: fmt.Sprint(i), Src: row.src, Dest: row.dest})
	}
	answer, err := f.API.Copy(t.Context(), f.Sandbox, nil, batch.Files())
	if err != nil || answer.Status != http.StatusOK {
		t.Fatalf("status %d, %v: %s", answer.Status, err, answer.Body)
	}
	receipts, err := f.API.Receipts(t.Context(), answer.Batch())
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range receipts {
		if r.State != protocol.ItemFailed || !strings.HasPrefix(r.Failure.Message, rows[i].text) || rows[i].class != "" && r.Failure.Class != rows[i].class {
			t.Errorf("%v to %v: %s, %+v", rows[i].src, rows[i].dest, r.State, r.Failure)
		}
	}
	if entries, err := os.ReadDir(f.OnDisk("/out")); err == nil && len(entries) > 0 {
		t.Errorf("left behind: %v", entries)
	}
	f.CheckNothingHidden(t)
}

// TestSandboxThatMisbehaves copies from and to what is no regular file.
func TestSandboxThatMisbehaves(t *testing.T) {
	t.Parallel()
	f, _ := up(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	secret := filepath.Join(t.TempDir(), "secret")
	must(os.WriteFile(secret, []byte("outside"), 0o600))
	f.FromSandbox(t, "/file", []byte("x"))
	must(syscall.Mkfifo(f.OnDisk("/fifo"), 0o600))
	must(os.Symlink(secret, f.OnDisk("/link")))
	must(os.Symlink(filepath.Dir(secret), f.OnDisk("/dirlink")))
	must(os.Mkdir(f.OnDisk("/dir"), 0o700))
	at := mixtest.ToSandbox
	var batch mixtest.Batch
	for i, pair := range [][2]string{
		{"/fifo", "/a"}, {"/file", "/fifo"}, {"/link", "/b"}, {"/dirlink/secret", "/c"}, {"/file", "/dirlink/written"},
		{"/dir", "/d"}, {"/file", "/dir"}, {"/file", "/file/below"}, {"/missing", "/e"},
	} {
		batch = append(batch, mixtest.Copy{ID: fmt.Sprint(i), Src: at(pair[0]), Dest: at(pair[1])})
	}
	answer, err := f.API.Copy(t.Context(), f.Sandbox, nil, batch.Files())
	if err != nil || answer.Status != http.StatusOK {
		t.Fatalf("status %d, %v", answer.Status, err)
	}
	var body struct {
		Results []struct {
			Success bool   `json:"success"`
			Error   string `json:"error"`
		} `json:"results"`
	}
	must(json.Unmarshal(answer.Body, &body))
	for i, r := range body.Results {
		if r.Success || r.Error == "" {
			t.Errorf("%v to %v: %+v", batch[i].Src, batch[i].Dest, r)
		}
	}
	for _, name := range []string{"/a", "/b", "/c", "/d", "/e"} {
		if _, err := os.Lstat(f.OnDisk(name)); err == nil {
			t.Errorf("%s came into being", name)
		}
	}
	if _, err := os.Lstat(filepath.Join(filepath.Dir(secret), "written")); err == nil {
		t.Error("a file came into being outside the sandbox")
	}
	f.CheckNothingHidden(t)
}

// TestGuardOfAWorker runs a worker without an allowance for loopback.
func TestGuardOfAWorker(t *testing.T) {
	t.Parallel()
	f, _ := up(t, "EGRESS_ALLOW=192.0.2.0/24")
	batch := mixtest.Batch{{ID: "x", Src: mixtest.FromURL(f.Give("/x", []byte("x"))), Dest: mixtest.ToSandbox("/x"), Fails: protocol.ForbiddenAddress}}
	answer, err := f.API.Copy(t.Context(), f.Sandbox, nil, batch.Files())
	if err != nil {
		t.Fatal(err)
	}
	f.Check(t, answer.Batch(), batch, limit)
	if f.Asked("/x") != 0 {
		t.Error("the forbidden address was reached")
	}
}

func TestBytesAreStoredAsSent(t *testing.T) {
	t.Parallel()
	f, _ := up(t)
	zipped := "\x1f\x8b\x08no gzip at all"
	url := raw(t, map[string]func(net.Conn){
		"/gz": says(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s", len(zipped), zipped)),
	})
	batch := mixtest.Batch{{ID: "gz", Src: mixtest.FromURL(url + "/gz"), Dest: mixtest.ToSandbox("/gz"), Content: []byte(zipped)}}
	answer, err := f.API.Copy(t.Context(), f.Sandbox, nil, batch.Files())
	if err != nil {
		t.Fatal(err)
	}
	f.Check(t, answer.Batch(), batch, limit)
}
