package bench

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sourcegraph/conc/pool"
)

// sandboxUploads is where the upload sessions of the benchmark's sandbox are, in the API.
const sandboxUploads = "/v1/sandboxes/" + sandboxID + "/uploads"

// uploader uploads files into a sandbox through upload sessions. As "copyfleet upload" does, it sends each part with its SHA-256, which the
// server compares.
type uploader struct {
	url, key    string
	client      *http.Client
	connections int // parts that it sends at once
	file        *os.File
	size        int64
	kind        string // of the session: see [asFile] and [asTree]
	sent        atomic.Int64
}

const (
	asFile = `"kind":"file","source_kind":"restartable_file"`
	asTree = `"kind":"directory_tar","source_kind":"directory_archive","archive_format":"tar"`
)

// newUploader uploads a file to the API at a URL, from so many connections.
func newUploader(b *testing.B, url, key, path string, size int64, kind string, connections int) *uploader {
	b.Helper()
	file, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = file.Close() })
	transport := &http.Transport{MaxIdleConnsPerHost: 8}
	b.Cleanup(transport.CloseIdleConnections)
	return &uploader{
		url: url, key: key, client: &http.Client{Transport: transport}, connections: connections, file: file, size: size, kind: kind,
	}
}

// session is what a client looks at in an upload session.
type session struct {
	ID        string `json:"upload_id"`
	Status    string `json:"status"`
	PartSize  int64  `json:"part_size"`
	PartCount int    `json:"part_count"`
	Missing   []struct {
		First int `json:"first"`
		Last  int `json:"last"`
	} `json:"missing_parts"`
}

// create begins a session for a path in the sandbox.
func (u *uploader) create(ctx context.Context, path string) (*session, error) {
	ask := fmt.Sprintf(`{%s,"target_path":%q,"content_length":%d,"checksum_algorithm":"sha256"}`, u.kind, "/"+path, u.size)
	header := http.Header{"Idempotency-Key": {path}, "Content-Type": {"application/json"}}
	var made struct {
		Session session `json:"session"`
	}
	err := u.call(ctx, http.MethodPost, "", header, strings.NewReader(ask), int64(len(ask)), &made)
	return &made.Session, err
}

// show asks how far a session is.
func (u *uploader) show(ctx context.Context, id string) (*session, error) {
	now := &session{}
	return now, u.call(ctx, http.MethodGet, "/"+id, nil, nil, 0, now)
}

// send sends the parts that a session misses, and returns the first error.
func (u *uploader) send(ctx context.Context, s *session) error {
	sending := pool.New().WithErrors().WithFirstError().WithMaxGoroutines(u.connections)
	for _, gap := range s.Missing {
		for n := gap.First; n <= gap.Last; n++ {
			sending.Go(func() error { return u.put(ctx, s, n) })
		}
	}
	return sending.Wait()
}

// put sends one part.
func (u *uploader) put(ctx context.Context, s *session, n int) error {
	first := int64(n) * s.PartSize
	length := min(s.PartSize, u.size-first)
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(u.file, first, length)); err != nil {
		return err
	}
	header := http.Header{"X-Checksum-Sha256": {hex.EncodeToString(sum.Sum(nil))}}
	body := countedReader{io.NewSectionReader(u.file, first, length), &u.sent}
	return u.call(ctx, http.MethodPut, "/"+s.ID+"/parts/"+strconv.Itoa(n), header, body, length, &session{})
}

// upload stages all of the content: what remains is to complete the session.
func (u *uploader) upload(ctx context.Context, path string) (*session, error) {
	s, err := u.create(ctx, path)
	if err != nil {
		return nil, err
	}
	return s, u.send(ctx, s)
}

// complete has the session published, and returns when it is.
func (u *uploader) complete(ctx context.Context, id string) error {
	var done struct {
		Session session `json:"session"`
		Bytes   int64   `json:"published_bytes"`
	}
	if err := u.call(ctx, http.MethodPost, "/"+id+"/complete", nil, nil, 0, &done); err != nil {
		return err
	}
	if done.Session.Status != "completed" || done.Bytes == 0 {
		return fmt.Errorf("the upload is %s, with %d bytes", done.Session.Status, done.Bytes)
	}
	return nil
}

func (u *uploader) call(ctx context.Context, method, path string, header http.Header, body io.Reader, length int64, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, u.url+sandboxUploads+path, body)
	if err != nil {
		return err
	}
	if header != nil {
		req.Header = header
	}
	req.ContentLength = length
	req.Header.Set("Authorization", "Bearer "+u.key)
	resp, err := u.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusCreated {
		return fmt.Errorf("%s %s answered %s: %s", method, path, resp.Status, answer)
	}
	return json.Unmarshal(answer, into)
}

// countedReader counts what is read of a body.
type countedReader struct {
	io.Reader

	read *atomic.Int64
}

func (r countedReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.read.Add(int64(n))
	return n, err
}
