package happy

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// store is the storage of the published page: it gives files, takes uploads, and remembers headers and form fields.
type store struct {
	URL string

	mu    sync.Mutex
	files map[string]string
	sent  map[string]http.Header
	forms map[string]map[string]string
}

func newStore(t *testing.T, files map[string]string) *store {
	t.Helper()
	s := &store{files: files, sent: map[string]http.Header{}, forms: map[string]map[string]string{}}
	s.URL = serve(t, s.ServeHTTP)
	return s
}

// serve runs a web server until the end of the test.
func serve(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return server.URL
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent[r.URL.Path] = r.Header
	switch r.Method {
	case http.MethodGet:
		content, ok := s.files[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, content)
	case http.MethodPut:
		content, err := io.ReadAll(r.Body)
		if err != nil || r.ContentLength != int64(len(content)) {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		s.files[r.URL.Path] = string(content)
	case http.MethodPost:
		s.takeForm(w, r)
	}
}

func (s *store) takeForm(w http.ResponseWriter, r *http.Request) {
	form := map[string]string{}
	reader, err := r.MultipartReader()
	for err == nil {
		part, next := reader.NextPart()
		if next != nil {
			break
		}
		content, _ := io.ReadAll(part)
		form[strings.TrimSuffix(part.FormName()+" "+part.FileName(), " ")] = string(content)
	}
	s.forms[r.URL.Path] = form
	w.WriteHeader(http.StatusNoContent)
}
