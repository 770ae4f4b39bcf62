package httpstore

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/storagetest"
)

// shelf is a well-behaved server of files: it publishes what came whole and nothing else.
type shelf struct {
	mu    sync.Mutex
	files map[string][]byte
	next  atomic.Int64
}

func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var data []byte
	var err error
	switch r.Method {
	case http.MethodPut:
		data, err = io.ReadAll(r.Body)
	case http.MethodPost:
		data, err = fileOf(r)
	default:
		s.serve(w, r)
		return
	}
	if err != nil {
		http.Error(w, "short", http.StatusBadRequest)
		return
	}
	s.put(r.URL.Path, data)
}

// fileOf reads a form whose last part must be the file.
func fileOf(r *http.Request) ([]byte, error) {
	form, err := r.MultipartReader()
	if err != nil {
		return nil, err
	}
	for {
		part, err := form.NextPart()
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(part)
		if err != nil {
			return nil, err
		}
		if part.FileName() == "" {
			continue
		}
		if _, err := form.NextPart(); err != io.EOF {
			return nil, fmt.Errorf("after the file: %w", err)
		}
		return data, nil
	}
}

func (s *shelf) serve(w http.ResponseWriter, r *http.Request) {
	data, ok := s.get(r.URL.Path)
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("ETag", fmt.Sprintf(`"%x"`, sha256.Sum256(data)))
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

func (s *shelf) put(path string, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[path] = data
}

func (s *shelf) get(path string) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.files[path]
	return data, ok
}

// path returns one that was not used before.
func (s *shelf) path() string { return "/" + strconv.FormatInt(s.next.Add(1), 10) }

func TestConformance(t *testing.T) {
	t.Parallel()
	s := &shelf{files: map[string][]byte{}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	client := testClient(t, nil)

	target := func(path string, to func(url string) storage.Destination) storagetest.Target {
		u := url.URL{Path: path}
		return storagetest.Target{
			Destination: func() storage.Destination { return to(server.URL + u.EscapedPath() + query) },
			Read:        func(*testing.T) ([]byte, bool) { return s.get(path) },
		}
	}
	destination := func(t *testing.T, to func(url string) storage.Destination) {
		storagetest.Run(t, storagetest.Harness{
			Features:  storagetest.Features{Destination: true, NeedsSize: true},
			NewTarget: func(*testing.T) storagetest.Target { return target(s.path(), to) },
			NamedTarget: func(_ *testing.T, name string) storagetest.Target {
				return target(s.path()+"/"+name, to)
			},
		})
	}
	t.Run("Get", func(t *testing.T) {
		storagetest.Run(t, storagetest.Harness{
			Features: storagetest.Features{Source: true, Ranges: true},
			NewRanger: func(_ *testing.T, data []byte) (storage.Ranger, func([]byte)) {
				path := s.path()
				s.put(path, data)
				ranger, _ := client.Get(server.URL+path+query, nil).(storage.Ranger)
				return ranger, func(data []byte) { s.put(path, data) }
			},
			NewSource: func(_ *testing.T, data []byte) storage.Source {
				path := s.path()
				s.put(path, data)
				return client.Get(server.URL+path+query, nil)
			},
			Missing: func(*testing.T) storage.Source { return client.Get(server.URL+"/missing"+query, nil) },
		})
	})
	t.Run("Put", func(t *testing.T) {
		destination(t, func(url string) storage.Destination { return client.Put(url, nil) })
	})
	t.Run("PostForm", func(t *testing.T) {
		destination(t, func(url string) storage.Destination {
			return client.PostForm(url, map[string]string{"b": "1", "a": "2"}, "file", "name", nil)
		})
	})
}
