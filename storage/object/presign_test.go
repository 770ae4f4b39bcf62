package object_test

import (
	"bytes"
	"context"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/object"
)

// send uses a presigned URL as any other program would.
func send(t *testing.T, p object.Presigned, header map[string]string, body io.Reader) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), p.Method, p.URL, body)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	resp, err := oneRequest().RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

// post sends a form with a file as its last part.
func post(t *testing.T, p object.Presigned, change map[string]string, file string) (int, string) {
	t.Helper()
	form := maps.Clone(p.Form)
	maps.Copy(form, change)
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for name, value := range form {
		w.WriteField(name, value)
	}
	part, err := w.CreateFormFile("file", "name")
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(part, file)
	w.Close()
	return send(t, p, map[string]string{"Content-Type": w.FormDataContentType()}, &body)
}

func presign(t *testing.T, s *object.Store, req object.Request) object.Presigned {
	t.Helper()
	before := time.Now()
	p, err := s.Presign(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if end := p.ExpiresAt.Sub(before); p.Method != req.Method || end < req.Expires-time.Second || end > req.Expires+time.Minute {
		t.Errorf("a URL to %s for %s is told as one to %s for %s", req.Method, req.Expires, p.Method, end)
	}
	return p
}

func TestPresignGetAndPut(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		s, bucket := e.store(t, nil), e.newBucket(t)
		const key = "dir/a b+c%.txt"
		put := presign(t, s, object.Request{Method: http.MethodPut, Bucket: bucket, Key: key, Expires: time.Minute, ContentType: "text/x-test"})
		for name, header := range map[string]map[string]string{"another": {"Content-Type": "image/png"}, "no": nil} {
			if status, body := send(t, put, header, strings.NewReader("wrong")); status < 400 || status > 499 {
				t.Errorf("PUT with %s type than the signed one: %d %s", name, status, body)
			}
		}
		if status, body := send(t, put, put.Headers, strings.NewReader("right")); status != http.StatusOK {
			t.Fatalf("PUT: %d %s", status, body)
		}
		get := presign(t, s, object.Request{Method: http.MethodGet, Bucket: bucket, Key: key, Expires: time.Minute})
		if status, body := send(t, get, nil, nil); status != http.StatusOK || body != "right" {
			t.Errorf("GET: %d %q", status, body)
		}
		other := get
		other.URL = strings.Replace(get.URL, "dir/", "other/", 1)
		if status, _ := send(t, other, nil, nil); status != http.StatusForbidden {
			t.Errorf("GET of another key than the signed one: %d", status)
		}
		free := presign(t, s, object.Request{Method: http.MethodPut, Bucket: bucket, Key: "any", Expires: time.Minute})
		if status, body := send(t, free, map[string]string{"Content-Type": "image/png"}, strings.NewReader("x")); status != http.StatusOK {
			t.Errorf("PUT where any type will do: %d %s", status, body)
		}
	})
}

func TestPresignPost(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		s, bucket := e.store(t, nil), e.newBucket(t)
		p := presign(t, s, object.Request{
			Method: http.MethodPost, Bucket: bucket, Key: "posted", Expires: time.Minute, ContentType: "text/x-test", MinSize: 3, MaxSize: 5,
		})
		for _, c := range []struct {
			name   string
			change map[string]string
			file   string
		}{
			{"too few bytes", nil, "12"},
			{"too many bytes", nil, "123456"},
			{"another type", map[string]string{"Content-Type": "image/png"}, "1234"},
			{"another key", map[string]string{"key": "other"}, "1234"},
		} {
			if status, body := post(t, p, c.change, c.file); status < 400 || status > 499 {
				t.Errorf("%s: %d %s", c.name, status, body)
			}
		}
		if _, ok := e.peek(t, bucket, "posted"); ok {
			t.Error("a refused form is visible")
		}
		for _, file := range []string{"123", "12345"} {
			if status, body := post(t, p, nil, file); status < 200 || status > 299 {
				t.Fatalf("POST of %d bytes: %d %s", len(file), status, body)
			}
			if got, ok := e.peek(t, bucket, "posted"); !ok || string(got) != file {
				t.Errorf("the form of %q made %q (%t)", file, got, ok)
			}
		}
	})
}

// TestPresignExpires waits for the end of a URL's life, which is told in whole seconds.
func TestPresignExpires(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		s, bucket := e.store(t, nil), e.newBucket(t)
		e.seed(t, bucket, "k", []byte("content"))
		p := presign(t, s, object.Request{Method: http.MethodGet, Bucket: bucket, Key: "k", Expires: time.Second})
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
		defer cancel()
		for tick := time.Tick(100 * time.Millisecond); ; {
			status, body := send(t, p, nil, nil)
			if status == http.StatusForbidden && time.Now().Before(p.ExpiresAt) {
				t.Fatalf("the URL ended before %s: %s", p.ExpiresAt, body)
			}
			if status == http.StatusForbidden {
				return
			}
			select {
			case <-tick:
			case <-ctx.Done():
				t.Fatalf("a URL for a second still answers %d", status)
			}
		}
	})
}

func TestPresignRefuses(t *testing.T) {
	t.Parallel()
	s := endpoint{"http://127.0.0.1:1", "access-key", "secret-key"}.store(t, nil) // none of it connects
	good := object.Request{Method: http.MethodPut, Bucket: "bucket", Key: "key", Expires: time.Minute}
	if _, err := s.Presign(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*object.Request){
		"a method that is none of ours": func(r *object.Request) { r.Method = http.MethodDelete },
		"no time":                       func(r *object.Request) { r.Expires = 0 },
		"less than a second":            func(r *object.Request) { r.Expires = time.Second - 1 },
		"more than seven days":          func(r *object.Request) { r.Expires = 7*24*time.Hour + 1 },
		"no key":                        func(r *object.Request) { r.Key = "" },
		"no bucket":                     func(r *object.Request) { r.Bucket = "" },
		"another path as a bucket":      func(r *object.Request) { r.Bucket = "a/../b" },
		"sizes the wrong way round":     func(r *object.Request) { r.Method, r.MinSize, r.MaxSize = http.MethodPost, 5, 3 },
		"a negative size":               func(r *object.Request) { r.Method, r.MinSize = http.MethodPost, -1 },
	} {
		req := good
		change(&req)
		p, err := s.Presign(t.Context(), req)
		if err == nil {
			t.Errorf("%s: a URL was made", name)
		} else if got := storage.ClassOf(err); got != storage.Invalid {
			t.Errorf("%s: class %d, want Invalid: %v", name, got, err)
		}
		if p.URL != "" {
			t.Errorf("%s: a URL comes with the error", name)
		}
		expectNoSecret(t, err)
	}
}
