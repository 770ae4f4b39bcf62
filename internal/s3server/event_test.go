package s3server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
)

// ear is a listener that keeps what it is told.
type ear struct {
	mu      sync.Mutex
	records []record
	came    chan struct{} // of size 1
	refuse  func() error  // nil: nothing is refused
}

func listenTo(t *testing.T, s *Server, skip func(bucket, key string) bool, refuse func() error) *ear {
	e := &ear{came: make(chan struct{}, 1), refuse: refuse}
	t.Helper()
	s.Tell(t.Context(), Listener{Skip: skip, Publish: e.publish})
	return e
}

func (e *ear) publish(_ context.Context, raw []byte) error {
	if e.refuse != nil {
		if err := e.refuse(); err != nil {
			return err
		}
	}
	var n struct {
		Records []record `json:"Records"`
	}
	if err := json.Unmarshal(raw, &n); err != nil {
		return err
	}
	e.mu.Lock()
	e.records = append(e.records, n.Records...)
	e.mu.Unlock()
	select {
	case e.came <- struct{}{}:
	default:
	}
	return nil
}

// wait returns the events once there are n.
func (e *ear) wait(t *testing.T, n int) []record {
	t.Helper()
	limit := time.After(4 * time.Minute)
	for {
		e.mu.Lock()
		got := slices.Clone(e.records)
		e.mu.Unlock()
		if len(got) >= n {
			return got
		}
		select {
		case <-e.came:
		case <-limit:
			t.Fatalf("%d events came, want %d", len(got), n)
		}
	}
}

// told is what an event says, in short.
func told(r *record) string {
	size := int64(-1)
	if r.S3.Object.Size != nil {
		size = *r.S3.Object.Size
	}
	return fmt.Sprintf("%s %s %s %d %s %s", r.Name, r.S3.Bucket.Name, r.S3.Object.Key, size, r.S3.Object.ETag, r.S3.Object.Metadata["X-Amz-Meta-copyfleet-trail"])
}

const odd = "a b/ü+%2F&=" // a key that is another one if it is decoded once too often

// TestEvents makes objects in every way, and removes them.
func TestEvents(t *testing.T) {
	s := startServer(t, nil)
	c := client(t, s)
	e := listenTo(t, s, func(bucket, key string) bool { return bucket == "bucket" && strings.HasPrefix(key, "kept/") }, nil)
	opts := minio.PutObjectOptions{ContentType: "text/x-test", UserMetadata: map[string]string{"copyfleet-trail": "ORG/rule"}}
	up, err := c.Client.PutObject(t.Context(), "bucket", odd, strings.NewReader("abc"), 3, opts)
	fatal(t, err)
	put(t, c, "kept/x", "nobody hears of it")
	_, err = c.CopyObject(t.Context(), "bucket", odd, "bucket", "copy", nil, minio.CopySrcOptions{}, minio.PutObjectOptions{})
	fatal(t, err)
	id, err := c.NewMultipartUpload(t.Context(), "bucket", "parts", opts)
	fatal(t, err)
	part, err := c.PutObjectPart(t.Context(), "bucket", "parts", id, 1, strings.NewReader("part"), 4, minio.PutObjectPartOptions{})
	fatal(t, err)
	whole, err := c.CompleteMultipartUpload(t.Context(), "bucket", "parts", id, []minio.CompletePart{{PartNumber: 1, ETag: part.ETag}}, minio.PutObjectOptions{})
	fatal(t, err)
	form := postForm(t, c, "form", "12345")
	fatal(t, c.RemoveObject(t.Context(), "bucket", "copy", minio.RemoveObjectOptions{}))
	keys := make(chan minio.ObjectInfo, 1)
	keys <- minio.ObjectInfo{Key: "parts"}
	close(keys)
	for failed := range c.RemoveObjects(t.Context(), "bucket", keys, minio.RemoveObjectsOptions{}) {
		t.Fatal(failed.Err)
	}
	if _, err := c.Client.PutObject(t.Context(), "bucket", "odd//key", strings.NewReader("x"), 1, opts); err == nil {
		t.Fatal("a key that the server does not take was taken")
	}
	put(t, c, "last", "x")

	got := e.wait(t, 7)
	trail := " ORG/rule"
	want := []string{
		createdPut + " bucket " + url.QueryEscape(odd) + " 3 " + up.ETag + trail,
		createdCopy + " bucket copy 3 " + up.ETag + trail,
		createdMultipart + " bucket parts 4 " + strings.Trim(whole.ETag, `"`) + trail,
		createdPost + " bucket form 5 " + form + " ",
		removed + " bucket copy -1  ",
		removed + " bucket parts -1  ",
		createdPut + " bucket last 1 9dd4e461268c8034f5c8564e155c67a6 ",
	}
	for i := range got {
		if say := told(&got[i]); i >= len(want) || say != want[i] {
			t.Errorf("event %d says %q, want %q", i, say, want[min(i, len(want)-1)])
		}
		if i > 0 && got[i-1].S3.Object.Sequencer >= got[i].S3.Object.Sequencer {
			t.Errorf("event %d has the sequencer %s, the one before it %s", i, got[i].S3.Object.Sequencer, got[i-1].S3.Object.Sequencer)
		}
		if got[i].Time.IsZero() || strings.HasPrefix(got[i].Name, "s3:ObjectCreated") && got[i].S3.Object.Metadata == nil {
			t.Errorf("event %d does not tell its time or the metadata: %+v", i, got[i])
		}
	}
	if n := s.Dropped(); n != 0 {
		t.Errorf("%d events were dropped", n)
	}
}

func fatal(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// postForm writes an object as a browser does, and returns its ETag.
func postForm(t *testing.T, c *minio.Core, key, content string) string {
	t.Helper()
	policy := minio.NewPostPolicy()
	fatal(t, errors.Join(policy.SetBucket("bucket"), policy.SetKey(key), policy.SetExpires(time.Now().Add(time.Hour))))
	u, fields, err := c.PresignedPostPolicy(t.Context(), policy)
	fatal(t, err)
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for name, value := range fields {
		fatal(t, w.WriteField(name, value))
	}
	file, err := w.CreateFormFile("file", "f")
	fatal(t, err)
	_, err = io.WriteString(file, content)
	fatal(t, errors.Join(err, w.Close()))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, u.String(), &body)
	fatal(t, err)
	req.Header.Set("Content-Type", w.FormDataContentType())
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	fatal(t, err)
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusBadRequest {
		t.Fatalf("the form is answered with %d", resp.StatusCode)
	}
	return strings.Trim(resp.Header.Get("ETag"), `"`)
}

// TestSequencersGrowOverRestarts: also if the clock was set back meanwhile, for which the reserved sequence stands.
func TestSequencersGrowOverRestarts(t *testing.T) {
	dir := t.TempDir()
	last := ""
	for range 3 {
		s := startServer(t, func(cfg *Config) { cfg.Dir = dir })
		e := listenTo(t, s, nil, nil)
		c := coreOf(t, s)
		if last == "" {
			fatal(t, c.MakeBucket(t.Context(), "bucket", minio.MakeBucketOptions{}))
		}
		put(t, c, "k", "x")
		put(t, c, "k", "y")
		for _, r := range e.wait(t, 2) {
			if r.S3.Object.Sequencer <= last {
				t.Errorf("the sequencer %s comes after %s", r.S3.Object.Sequencer, last)
			}
			last = r.S3.Object.Sequencer
		}
		fatal(t, s.Close())
		// As if all had happened a year later.
		later := []byte(fmt.Sprintf("%x\n", time.Now().AddDate(1, 0, 0).UnixNano()))
		fatal(t, os.WriteFile(filepath.Join(dir, sequenceFile), later, 0o600))
	}
}

// TestEventsAreToldAgain refuses some, and is told all in their order, those that wait when the server is closed included.
func TestEventsAreToldAgain(t *testing.T) {
	s := startServer(t, nil)
	s.events.end = 4 * time.Minute // a busy machine may need more than it is given by default
	c := client(t, s)
	tries := 0
	e := listenTo(t, s, nil, func() error {
		if tries++; tries%2 == 1 {
			return errors.New("not now")
		}
		return nil
	})
	const n = 5
	for i := range n {
		put(t, c, fmt.Sprint("k", i), "x")
	}
	fatal(t, s.Close())
	for i, r := range e.wait(t, n) {
		if want := fmt.Sprint("k", i); r.S3.Object.Key != want {
			t.Errorf("event %d is of %s, want %s", i, r.S3.Object.Key, want)
		}
	}
}

// TestNobodyWaitsForAListener has one that takes nothing: what exceeds the bounds is dropped and counted, and objects are written all the same.
func TestNobodyWaitsForAListener(t *testing.T) {
	s := startServer(t, nil)
	c := client(t, s)
	listenTo(t, s, nil, func() error { return errors.New("never") })
	long := strings.Repeat("x", 4<<10)
	for range mostBytes/len(long) + mostWaiting/100 {
		s.events.tell(&change{name: createdPut, bucket: "bucket", key: long})
	}
	if s.events.bytes > mostBytes || len(s.events.waiting) > mostWaiting || s.Dropped() == 0 {
		t.Errorf("%d events of %d bytes wait, %d were dropped", len(s.events.waiting), s.events.bytes, s.Dropped())
	}
	waited := len(s.events.waiting)
	dropped := s.Dropped()
	put(t, c, "k", "x")
	fatal(t, s.Close())
	if got := s.Dropped(); got < dropped+uint64(waited) {
		t.Errorf("%d events were dropped, want those that waited at the end too: at least %d", got, dropped+uint64(waited))
	}
}
