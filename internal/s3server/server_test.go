package s3server

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
)

func TestRestartKeepsObjects(t *testing.T) {
	for _, place := range []string{"attributes", "files"} {
		t.Run(place, func(t *testing.T) {
			dir := t.TempDir()
			if place == "files" {
				if err := os.Mkdir(filepath.Join(dir, metadataDir), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			s := startServer(t, func(cfg *Config) { cfg.Dir = dir })
			put(t, client(t, s), "a/b.txt", "content")
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = startServer(t, func(cfg *Config) { cfg.Dir = dir })
			c := existing(t, s)
			if got, info := get(t, c, "a/b.txt"); got != "content" || info.ContentType != "text/x-test" || info.ETag == "" {
				t.Errorf("after a restart the object is %q of type %q with ETag %q", got, info.ContentType, info.ETag)
			}
			if file, err := os.ReadFile(filepath.Join(dir, bucketsDir, "bucket", "a", "b.txt")); err != nil || string(file) != "content" {
				t.Errorf("the file below the directory is %q, %v", file, err)
			}
			_, err := os.Stat(filepath.Join(dir, metadataDir))
			if kept := err == nil; kept != (place == "files") {
				t.Errorf("metadata have a directory: %t", kept)
			}
		})
	}
}

func TestOnlyOneServerAProcess(t *testing.T) {
	s := startServer(t, nil)
	before, _ := os.Getwd()
	second, err := Start(t.Context(), Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", AccessKey: "a", SecretKey: "b"})
	if !errors.Is(err, ErrRunning) {
		t.Fatalf("a second Start = %v, %v, want ErrRunning", second, err)
	}
	if after, _ := os.Getwd(); after != before {
		t.Errorf("a refused Start changed the current directory to %s", after)
	}
	if c := client(t, s); c == nil {
		t.Error("the first server is gone")
	}
}

func TestTakenPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	before, _ := os.Getwd()
	s, err := Start(t.Context(), Config{Dir: t.TempDir(), Listen: l.Addr().String(), AccessKey: "a", SecretKey: "b"})
	if err == nil {
		_ = s.Close()
		t.Fatal("Start on a taken port succeeded")
	}
	for _, want := range []string{l.Addr().String(), "--s3-listen"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
	if after, _ := os.Getwd(); after != before {
		t.Errorf("a Start that failed left the current directory at %s", after)
	}
	startServer(t, nil) // a Start that failed is no server
}

// TestPortTakenInBetween is about the moment between our look at the port and the library's.
func TestPortTakenInBetween(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, bindErr := net.Listen("tcp", l.Addr().String())
	s := &Server{addr: l.Addr().String(), err: bindErr}
	if err := s.endedAtOnce(); !errors.Is(err, errPortTaken) || !strings.Contains(err.Error(), "--s3-listen") {
		t.Errorf("a port that was taken in between is told as %v", err)
	}
	if !picksPort("127.0.0.1:0") || picksPort("127.0.0.1:1") {
		t.Error("only port 0 is for the system to choose, and to be tried again")
	}
}

// TestAnotherServer is about an address where somebody else answers.
func TestAnotherServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	other := &http.Server{Handler: http.NotFoundHandler()}
	served := make(chan error, 1)
	go func() { served <- other.Serve(l) }()
	defer func() { _ = other.Close(); <-served }()
	s := &Server{addr: l.Addr().String()}
	if err := s.ask(t.Context(), s.URL()+healthPath()); err == nil || !strings.Contains(err.Error(), "another server") {
		t.Errorf("another server's answer is taken as %v", err)
	}
}

func TestRefusedConfigurations(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	good := Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", AccessKey: "a", SecretKey: "b"}
	for name, change := range map[string]func(*Config){
		"no directory":       func(c *Config) { c.Dir = "" },
		"a file":             func(c *Config) { c.Dir = file },
		"no access key":      func(c *Config) { c.AccessKey = "" },
		"no secret key":      func(c *Config) { c.SecretKey = "" },
		"no port":            func(c *Config) { c.Listen = "127.0.0.1" },
		"a path":             func(c *Config) { c.Listen = "./socket" },
		"no address of ours": func(c *Config) { c.Listen = "192.0.2.1:0" },
	} {
		cfg := good
		change(&cfg)
		if s, err := Start(t.Context(), cfg); err == nil {
			t.Errorf("%s: accepted", name)
			_ = s.Close()
		}
	}
}

func TestCanceledStart(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if s, err := Start(ctx, Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", AccessKey: "a", SecretKey: "b"}); !errors.Is(err, context.Canceled) {
		t.Errorf("a canceled Start = %v, %v", s, err)
	}
	// Canceled at any moment, it either runs or leaves nothing behind, which the goroutines at the end would show.
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); cancel() }()
		if s, err := Start(ctx, Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", AccessKey: "a", SecretKey: "b"}); err == nil {
			if err := s.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}
		<-done
	}
	startServer(t, nil)
}

func TestCloseTwiceAndRelativeDirectory(t *testing.T) {
	t.Chdir(t.TempDir())
	before, _ := os.Getwd()
	for range 2 {
		s := startServer(t, func(cfg *Config) { cfg.Dir = "relative" })
		if err := errors.Join(s.Close(), s.Close()); err != nil {
			t.Fatal(err)
		}
		if after, _ := os.Getwd(); after != before {
			t.Fatalf("Close left the current directory at %s", after)
		}
	}
	if _, err := os.Stat(filepath.Join("relative", bucketsDir)); err != nil {
		t.Errorf("a relative directory was not taken from where Start was called: %v", err)
	}
}

func TestDialable(t *testing.T) {
	for listen, want := range map[string]string{
		"127.0.0.1:1": "127.0.0.1:1", "0.0.0.0:1": "127.0.0.1:1", "[::]:1": "127.0.0.1:1", ":1": "127.0.0.1:1", "[::1]:1": "[::1]:1",
	} {
		if got := dialable(listen); got != want {
			t.Errorf("dialable(%q) = %q, want %q", listen, got, want)
		}
	}
}

// existing is client for a server that has the bucket.
func existing(t *testing.T, s *Server) *minio.Core {
	t.Helper()
	c := coreOf(t, s)
	if exists, err := c.BucketExists(t.Context(), "bucket"); err != nil || !exists {
		t.Fatalf("the bucket exists: %t, %v", exists, err)
	}
	return c
}

func put(t *testing.T, c *minio.Core, key, content string) {
	t.Helper()
	opts := minio.PutObjectOptions{ContentType: "text/x-test"}
	if _, err := c.Client.PutObject(t.Context(), "bucket", key, strings.NewReader(content), int64(len(content)), opts); err != nil {
		t.Fatalf("put %q: %v", key, err)
	}
}

func get(t *testing.T, c *minio.Core, key string) (string, minio.ObjectInfo) {
	t.Helper()
	body, info, _, err := c.GetObject(t.Context(), "bucket", key, minio.GetObjectOptions{})
	if err != nil {
		t.Fatalf("get %q: %v", key, err)
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	if err != nil {
		t.Fatalf("read %q: %v", key, err)
	}
	return string(data), info
}
