package worker

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage/egress"
	httpstore "github.com/copyfleet/copyfleet/storage/http"
	"github.com/copyfleet/copyfleet/storage/sandbox"
)

// bench is a copier with real drivers: directories, and sockets on loopback.
type bench struct {
	*testing.T
	copier *copier
	dir    string // of sandbox s of org ORG
	client *httpstore.Client
}

func newBench(t *testing.T) *bench {
	t.Helper()
	root := t.TempDir()
	sandboxes, err := sandbox.Open(root, sandbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	client := httpstore.NewClient(httpstore.Options{Guard: egress.New([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})})
	t.Cleanup(func() { client.Close(); sandboxes.Close() })
	return &bench{
		T: t, dir: filepath.Join(root, "ORG", "s"), client: client,
		copier: &copier{drivers: Drivers{Sandboxes: sandboxes, HTTP: client}, spoolDir: t.TempDir(), spoolLimit: 1 << 20},
	}
}

// serve runs a server until the end of the test.
func (b *bench) serve(h http.HandlerFunc) string {
	srv := httptest.NewServer(h)
	b.Cleanup(srv.Close)
	return srv.URL
}

func (b *bench) file(name string) ([]byte, bool) {
	data, err := os.ReadFile(filepath.Join(b.dir, name))
	return data, err == nil
}

func inSandbox(path string) protocol.Location {
	return protocol.Location{Type: protocol.SandboxFile, Sandbox: "s", Path: path}
}

func TestExpectationsAreHeld(t *testing.T) {
	t.Parallel()
	data := []byte("what was promised")
	sha, sum := sha256.Sum256(data), md5.Sum(data)
	right := protocol.Expect{Size: new(int64(len(data))), SHA256: hex.EncodeToString(sha[:]), MD5: hex.EncodeToString(sum[:])}
	wrong := strings.Repeat("0", 64)
	for _, row := range []struct {
		name   string
		expect protocol.Expect
		code   string
	}{
		{"nothing", protocol.Expect{}, ""},
		{"all of it", right, ""},
		{"a shorter one", protocol.Expect{Size: new(int64(3))}, "source_size_mismatch"},
		{"a longer one", protocol.Expect{Size: new(int64(1000))}, "source_size_mismatch"},
		{"an empty one", protocol.Expect{Size: new(int64(0))}, "source_size_mismatch"},
		{"another sha256", protocol.Expect{SHA256: wrong}, "source_sha256_mismatch"},
		{"another md5", protocol.Expect{Size: right.Size, SHA256: right.SHA256, MD5: wrong[:32]}, "source_md5_mismatch"},
	} {
		for _, chunked := range []bool{false, true} {
			for _, upload := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/chunked=%t/upload=%t", row.name, chunked, upload), func(t *testing.T) {
					t.Parallel()
					expectOnce(t, data, row.expect, row.code, chunked, upload)
				})
			}
		}
	}
}

func expectOnce(t *testing.T, data []byte, expect protocol.Expect, code string, chunked, upload bool) {
	b := newBench(t)
	var received atomic.Int32
	base := b.serve(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			if body, err := io.ReadAll(r.Body); err == nil && bytes.Equal(body, data) {
				received.Add(1)
				w.WriteHeader(http.StatusCreated)
			}
			return
		}
		if chunked {
			w.(http.Flusher).Flush()
		}
		_, _ = w.Write(data)
	})
	tr := transfer{
		org: "ORG", src: protocol.Location{Type: protocol.HTTPGet, URL: base + "/f"}, dest: inSandbox("/out/f"),
		temp: "t1", fence: func() error { return nil }, expect: expect,
	}
	status := http.StatusOK
	if upload {
		tr.dest, status = protocol.Location{Type: protocol.HTTPPut, URL: base + "/up"}, http.StatusCreated
	}
	got, err := b.copier.copy(t.Context(), tr)
	content, visible := b.file("out/f")
	visible = visible || received.Load() > 0
	if code == "" {
		if err != nil || !visible || got.status != status || !upload && !bytes.Equal(content, data) {
			t.Fatalf("err %v, visible %t, status %d, content %q", err, visible, got.status, content)
		}
		if want := !chunked || expect.Given(); got.verified != want {
			t.Errorf("verified %t, want %t", got.verified, want)
		}
		return
	}
	if err == nil || visible {
		t.Fatalf("err %v, visible %t: nothing must be", err, visible)
	}
	failure, _ := explain(err)
	if failure.Class != protocol.Corrupt || failure.Code != code {
		t.Errorf("class %s, code %s, want %s: %v", failure.Class, failure.Code, code, err)
	}
	if !strings.HasPrefix(failure.Host, "127.0.0.1:") || !strings.HasPrefix(failure.Message, "Failed to download file: ") {
		t.Errorf("host %q, message %q", failure.Host, failure.Message)
	}
	if !chunked && strings.Contains(code, "size") && got.read != 0 {
		t.Errorf("%d bytes were moved although the size was known to be wrong", got.read)
	}
	if files, _ := filepath.Glob(filepath.Join(b.dir, "out", ".copyfleet-*")); len(files) > 0 {
		t.Errorf("left behind: %v", files)
	}
}

// TestEndlessSourceIsCutOff: a source without a length that goes on beyond what was expected is not read to its end, which never comes.
func TestEndlessSourceIsCutOff(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	url := b.serve(func(w http.ResponseWriter, r *http.Request) {
		block := make([]byte, 32<<10)
		for r.Context().Err() == nil {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	})
	got, err := b.copier.copy(t.Context(), transfer{
		org: "ORG", src: protocol.Location{Type: protocol.HTTPGet, URL: url}, dest: inSandbox("/f"), temp: "t1",
		fence: func() error { return nil }, expect: protocol.Expect{Size: new(int64(100 << 10))},
	})
	failure, _ := explain(err)
	if _, visible := b.file("f"); visible || failure.Code != "source_size_mismatch" {
		t.Fatalf("visible %t, error %v", visible, err)
	}
	if got.read > 1<<20 {
		t.Errorf("%d bytes were read to find out", got.read)
	}
}

func TestFailuresNameTheirHost(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	base := b.serve(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Method == http.MethodPut || r.URL.Path == "/gone" {
			w.WriteHeader(http.StatusGone)
		}
	})
	host := strings.TrimPrefix(base, "http://")
	get := func(path string) protocol.Location {
		return protocol.Location{Type: protocol.HTTPGet, URL: base + path + "?token=s3cret"}
	}
	if err := os.MkdirAll(filepath.Join(b.dir, "dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name      string
		src, dest protocol.Location
		host      string
		status    int
	}{
		{"the source", get("/gone"), inSandbox("/x"), host, 410},
		{"the destination", get("/"), protocol.Location{Type: protocol.HTTPPut, URL: base + "/up?sig=s3cret"}, host, 410},
		{"a sandbox that is read", inSandbox("/none"), inSandbox("/x"), "sandbox s", 0},
		{"a sandbox that is written", get("/"), inSandbox("/dir"), "sandbox s", 200},
	} {
		got, err := b.copier.copy(t.Context(), transfer{org: "ORG", src: row.src, dest: row.dest, temp: "t1", fence: func() error { return nil }})
		res := result{copied: got}
		res.failure, _ = explain(err)
		if res.failure.Host != row.host || res.status() != row.status {
			t.Errorf("%s: host %q, status %d, want %q, %d: %v", row.name, res.failure.Host, res.status(), row.host, row.status, err)
		}
		if strings.Contains(fmt.Sprintf("%+v", res.failure), "s3cret") {
			t.Errorf("%s: a secret is in %+v", row.name, res.failure)
		}
	}
	if got := hostOf(protocol.Location{Type: protocol.Object, Bucket: "b", Key: "k"}); got != "s3://b" {
		t.Errorf("an object's host is %q", got)
	}
}

// TestWhatASourceSaysOfItselfIsHeld: a digest that comes with the content is compared before anything is visible, and vouches for a
// source that tells no length.
func TestWhatASourceSaysOfItselfIsHeld(t *testing.T) {
	t.Parallel()
	const text = "123456789"
	sha, err := hex.DecodeString(shaOf(text))
	if err != nil {
		t.Fatal(err)
	}
	right, wrong := "sha-256=:"+base64.StdEncoding.EncodeToString(sha)+":", "sha-256=:"+base64.StdEncoding.EncodeToString(make([]byte, 32))+":"
	for _, row := range []struct {
		name, header, value string
		digest              protocol.Digest
		code                string
		verified            bool
	}{
		{"nothing", "X-Nothing", "x", "", "", false},
		{"crc64nvme", "X-Amz-Checksum-Crc64nvme", "rosUhgp5mIg=", protocol.DigestNone, "", true},
		{"another crc64nvme", "X-Amz-Checksum-Crc64nvme", "rosUhgp5mIk=", "", "source_checksum_mismatch", false},
		{"crc32c", "X-Amz-Checksum-Crc32c", "4waSgw==", "", "", true},
		{"another crc32c", "X-Amz-Checksum-Crc32c", "4waShA==", "", "source_checksum_mismatch", false},
		{"sha256", "Repr-Digest", right, "", "", true},
		{"sha256 that nobody computes", "Repr-Digest", right, protocol.DigestNone, "", false},
		{"another sha256", "Repr-Digest", wrong, "", "source_checksum_mismatch", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			url := b.serve(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set(row.header, row.value)
				w.(http.Flusher).Flush() // no length
				_, _ = io.WriteString(w, text)
			})
			got, err := b.copier.copy(t.Context(), transfer{
				org: "ORG", src: httpGet(url), dest: inSandbox("/f"), temp: "t1", fence: allowed, digest: row.digest,
			})
			if codeOf(err) != row.code || got.verified != row.verified {
				t.Errorf("%v, verified %v", err, got.verified)
			}
			if _, visible := b.file("f"); visible != (err == nil) {
				t.Errorf("visible %v: %v", visible, err)
			}
		})
	}
}
