package s3server

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
)

// do sends a request over a connection of its own and returns status and body.
func do(t *testing.T, method, target string, header map[string]string, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
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

func TestPresigned(t *testing.T) {
	c := client(t, startServer(t, nil))
	u, err := c.PresignHeader(t.Context(), http.MethodPut, "bucket", "k", time.Minute, url.Values{}, http.Header{"Content-Type": {"text/x-test"}})
	if err != nil {
		t.Fatal(err)
	}
	if status, body := do(t, http.MethodPut, u.String(), map[string]string{"Content-Type": "image/png"}, "wrong"); status != http.StatusForbidden {
		t.Errorf("PUT with another type than the signed one: %d %s", status, body)
	}
	if status, body := do(t, http.MethodPut, u.String(), map[string]string{"Content-Type": "text/x-test"}, "right"); status != http.StatusOK {
		t.Fatalf("presigned PUT: %d %s", status, body)
	}
	if u, err = c.PresignedGetObject(t.Context(), "bucket", "k", time.Minute, url.Values{"response-content-disposition": {"attachment"}}); err != nil {
		t.Fatal(err)
	}
	if status, body := do(t, http.MethodGet, u.String(), nil, ""); status != http.StatusOK || body != "right" {
		t.Errorf("presigned GET: %d %q", status, body)
	}
	query := u.Query()
	query.Set("X-Amz-Signature", strings.Repeat("0", 64))
	u.RawQuery = query.Encode()
	if status, _ := do(t, http.MethodGet, u.String(), nil, ""); status != http.StatusForbidden {
		t.Errorf("GET with a wrong signature: %d", status)
	}
}

func TestPostPolicy(t *testing.T) {
	c := client(t, startServer(t, nil))
	policy := minio.NewPostPolicy()
	if err := errors.Join(policy.SetBucket("bucket"), policy.SetKey("posted"), policy.SetExpires(time.Now().Add(time.Minute)),
		policy.SetContentLengthRange(3, 5)); err != nil {
		t.Fatal(err)
	}
	u, form, err := c.PresignedPostPolicy(t.Context(), policy)
	if err != nil {
		t.Fatal(err)
	}
	for content, allowed := range map[string]bool{"12": false, "1234": true, "123456": false} {
		var buf bytes.Buffer
		w := multipart.NewWriter(&buf)
		for name, value := range form {
			_ = w.WriteField(name, value)
		}
		file, _ := w.CreateFormFile("file", "name")
		_, _ = io.WriteString(file, content)
		_ = w.Close()
		status, body := do(t, http.MethodPost, u.String(), map[string]string{"Content-Type": w.FormDataContentType()}, buf.String())
		if ok := status >= 200 && status < 300; ok != allowed {
			t.Errorf("POST of %d bytes: %d %s", len(content), status, body)
		}
	}
	if got, _ := get(t, c, "posted"); got != "1234" {
		t.Errorf("posted %q", got)
	}
}

func TestMultipart(t *testing.T) {
	c := client(t, startServer(t, nil))
	part := bytes.Repeat([]byte("0123456789abcdef"), 5<<20/16)
	id, err := c.NewMultipartUpload(t.Context(), "bucket", "big", minio.PutObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var parts []minio.CompletePart
	for n := 1; n <= 3; n++ {
		data := append([]byte{byte(n)}, part...)
		p, err := c.PutObjectPart(t.Context(), "bucket", "big", id, n, bytes.NewReader(data), int64(len(data)), minio.PutObjectPartOptions{})
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, minio.CompletePart{PartNumber: n, ETag: p.ETag})
	}
	if _, err := c.StatObject(t.Context(), "bucket", "big", minio.StatObjectOptions{}); err == nil {
		t.Error("the object is visible before its upload is complete")
	}
	if _, err := c.CompleteMultipartUpload(t.Context(), "bucket", "big", id, parts, minio.PutObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	got, _ := get(t, c, "big")
	want := sha256.New()
	for n := 1; n <= 3; n++ {
		want.Write([]byte{byte(n)})
		want.Write(part)
	}
	if sha256.Sum256([]byte(got)) != [32]byte(want.Sum(nil)) {
		t.Errorf("the parts came together as %d other bytes", len(got))
	}
	if id, err = c.NewMultipartUpload(t.Context(), "bucket", "never", minio.PutObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := c.AbortMultipartUpload(t.Context(), "bucket", "never", id); err != nil {
		t.Errorf("abort: %v", err)
	}
}

func TestConditionalPut(t *testing.T) {
	c := client(t, startServer(t, nil))
	const writers = 8
	var done sync.WaitGroup
	errs := make([]error, writers)
	for i := range writers {
		done.Go(func() {
			opts := minio.PutObjectOptions{DisableMultipart: true}
			opts.SetMatchETagExcept("*") // If-None-Match
			_, errs[i] = c.Client.PutObject(t.Context(), "bucket", "once", strings.NewReader("x"), 1, opts)
		})
	}
	done.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else if code := minio.ToErrorResponse(err).Code; code != minio.PreconditionFailed {
			t.Errorf("a writer that lost is told %v", err)
		}
	}
	if won != 1 {
		t.Errorf("%d writers of %d made what may be made once", won, writers)
	}
}

func TestCopyAndDelete(t *testing.T) {
	c := client(t, startServer(t, nil))
	put(t, c, "from", "content")
	if _, err := c.Client.CopyObject(t.Context(), minio.CopyDestOptions{Bucket: "bucket", Object: "dir/to"}, minio.CopySrcOptions{Bucket: "bucket", Object: "from"}); err != nil {
		t.Fatalf("CopyObject: %v", err)
	}
	if got, info := get(t, c, "dir/to"); got != "content" || info.ContentType != "text/x-test" {
		t.Errorf("copied as %q of type %q", got, info.ContentType)
	}
	if err := c.RemoveObject(t.Context(), "bucket", "from", minio.RemoveObjectOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := c.StatObject(t.Context(), "bucket", "from", minio.StatObjectOptions{}); minio.ToErrorResponse(err).Code != minio.NoSuchKey {
		t.Errorf("a deleted object is told as %v", err)
	}
	if err := c.RemoveBucket(t.Context(), "bucket"); minio.ToErrorResponse(err).StatusCode != http.StatusConflict {
		t.Errorf("a bucket with objects was removed: %v", err)
	}
}

func TestNames(t *testing.T) {
	c := client(t, startServer(t, nil))
	long := strings.Repeat("x", 255)
	for i, key := range []string{
		"a b", "a+b", "a%20b", "%", "a%2Fb", "ü", "漢字/🙂", "'\"<>&", "\\", "a?b=c#d", "~", "...", "..a/b..", " lead", "trail ", ".hidden", long,
		strings.Repeat("z", 255) + "/" + strings.Repeat("y", 255) + "/" + strings.Repeat("w", 255) + "/" + strings.Repeat("v", 255), "*", "a:b", "a;b", "@", "=", ",",
	} {
		content := fmt.Sprintf("content %d", i)
		put(t, c, key, content)
		if got, _ := get(t, c, key); got != content {
			t.Errorf("%q holds %q, want %q", key, got, content)
		}
	}
	put(t, c, long, "over a name that has no room for a suffix")
}

// TestRefusedNames is about keys that a path cannot tell from others. They must not act on those.
func TestRefusedNames(t *testing.T) {
	c := client(t, startServer(t, nil))
	put(t, c, "a/b", "untouched")
	put(t, c, "file", "untouched")
	for _, key := range []string{
		strings.Repeat("x", 256), "file/below", "a", "a//b", "/a/b", "./a/b", "a/./b", "a/x/../b", "x/../a/b", "a/b/.", "//", ".sgwtmp/x",
	} {
		var failed []error
		_, err := c.Client.PutObject(t.Context(), "bucket", key, strings.NewReader("x"), 1, minio.PutObjectOptions{})
		failed = append(failed, err)
		_, err = c.Client.CopyObject(t.Context(), minio.CopyDestOptions{Bucket: "bucket", Object: key}, minio.CopySrcOptions{Bucket: "bucket", Object: "file"})
		failed = append(failed, err)
		_, err = c.Client.CopyObject(t.Context(), minio.CopyDestOptions{Bucket: "bucket", Object: "copy"}, minio.CopySrcOptions{Bucket: "bucket", Object: key})
		failed = append(failed, err)
		_, err = c.StatObject(t.Context(), "bucket", key, minio.StatObjectOptions{})
		failed = append(failed, err)
		for i, err := range failed {
			if err == nil {
				t.Errorf("%q: %s succeeded", key, []string{"PUT", "COPY to", "COPY from", "HEAD"}[i])
			}
		}
		_ = c.RemoveObject(t.Context(), "bucket", key, minio.RemoveObjectOptions{}) // S3 may call it a success
	}
	for _, key := range []string{"a/b", "file"} {
		if got, _ := get(t, c, key); got != "untouched" {
			t.Errorf("%q became %q", key, got)
		}
	}
}

// TestSilent runs a server in a process of its own and looks at what it printed.
func TestSilent(t *testing.T) {
	for _, mode := range []string{"", childBroken} {
		stdout, stderr, err := runChild(t, mode)
		if err != nil {
			t.Fatalf("%v\n%s\n%s", err, stdout, stderr)
		}
		if stdout != "" {
			t.Errorf("with %q the server printed:\n%s", mode, stdout)
		}
		// The library writes about broken requests, and cannot be told not to; see the package comment.
		if mode == "" && stderr != "" {
			t.Errorf("the server wrote to standard error:\n%s", stderr)
		}
		if strings.Contains(stderr, "Signature") || strings.Contains(stderr, accessKey) || strings.Contains(stderr, secretKey) {
			t.Errorf("credentials on standard error:\n%s", stderr)
		}
	}
}

// breakUpload announces more bytes than it sends.
func breakUpload(u *url.URL) error {
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: %s\r\nContent-Length: 100000\r\n\r\nshort", u.RequestURI(), u.Host)
	return errors.Join(err, conn.(*net.TCPConn).CloseWrite(), drain(conn), conn.Close())
}

func drain(conn net.Conn) error {
	_, err := io.Copy(io.Discard, conn)
	return err
}
