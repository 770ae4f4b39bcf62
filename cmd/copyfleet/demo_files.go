package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strconv"
)

// demoFiles is a small web server with real files.
type demoFiles struct {
	base    string
	content map[string][]byte
	server  *http.Server
	done    chan struct{}
}

var demoSizes = map[string]int{
	"/file1.txt": 4 << 10, "/file2.json": 64 << 10, "/file3.csv": 1 << 20, "/input-data.csv": 8 << 20, "/empty.txt": 0,
}

func serveDemoFiles(ctx context.Context) (*demoFiles, error) {
	listener, err := listenLoopback(ctx)
	if err != nil {
		return nil, err
	}
	f := &demoFiles{base: "http://" + listener.Addr().String(), content: map[string][]byte{}, done: make(chan struct{})}
	for name, size := range demoSizes {
		f.content[name] = demoContent(name, size)
	}
	f.server = &http.Server{Handler: f, ReadHeaderTimeout: readHeaderTimeout, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	go func() {
		defer close(f.done)
		_ = f.server.Serve(listener) // ends with close
	}()
	return f, nil
}

// demoContent is what a file holds: the same at every run, and nothing that compresses.
func demoContent(name string, size int) []byte {
	seed := sha256.Sum256([]byte(name))
	content := make([]byte, size)
	_, _ = rand.NewChaCha8(seed).Read(content) // never fails
	return content
}

// ServeHTTP implements http.Handler.
func (f *demoFiles) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	content, ok := f.content[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(content)))
	_, _ = w.Write(content) // the reader is gone
}

func (f *demoFiles) url(name string) string { return f.base + name }

// sum is the digest that a copy of the file must have.
func (f *demoFiles) sum(name string) string { return digest(f.content[name]) }

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

func (f *demoFiles) close() {
	_ = f.server.Close() // nothing is written any more
	<-f.done
}
