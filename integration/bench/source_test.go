package bench

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
)

// fileSize is the size of each file, in bytes. Small files show what the machinery around them costs.
const fileSize = 4 << 10

// source serves files from memory. No two are alike, so that one in the place of another is noticed.
type source struct {
	url   string
	files [][]byte
}

func newSource(b *testing.B, n int) *source {
	b.Helper()
	s := &source{files: contents(n)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i, err := strconv.Atoi(r.URL.Path[1:])
		if err != nil || i < 0 || i >= len(s.files) {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.Itoa(fileSize))
		_, _ = w.Write(s.files[i])
	}))
	b.Cleanup(server.Close)
	s.url = server.URL
	return s
}

func contents(n int) [][]byte {
	files := make([][]byte, n)
	for i := range files {
		random := rand.NewChaCha8([32]byte{byte(i), byte(i >> 8), byte(i >> 16)})
		files[i] = make([]byte, fileSize)
		_, _ = random.Read(files[i])
	}
	return files
}

func (s *source) at(i int) string { return s.url + "/" + strconv.Itoa(i) }

// fileName is the name of file i, wherever it is copied to.
func fileName(i int) string { return fmt.Sprintf("f%06d", i) }
