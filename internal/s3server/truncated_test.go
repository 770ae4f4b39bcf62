package s3server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/versity/versitygw/s3err"
)

// TestTruncated ends connections in order in the middle of a body, as the kernel does for a client that was killed. What
// arrived must not become an object or a part.
func TestTruncated(t *testing.T) {
	c := client(t, startServer(t, nil))
	put(t, c, "old", "old content")
	id, err := c.NewMultipartUpload(t.Context(), "bucket", "parts", minio.PutObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	part := url.Values{"partNumber": {"1"}, "uploadId": {id}}
	const announced = 1 << 20
	for _, sent := range []int{0, 1, 5000, 64 << 10, announced / 2, announced - 1} {
		for _, target := range []struct {
			key   string
			query url.Values
		}{{"new", nil}, {"old", nil}, {"parts", part}} {
			u, err := c.Presign(t.Context(), http.MethodPut, "bucket", target.key, time.Minute, target.query)
			if err != nil {
				t.Fatal(err)
			}
			status, err := sendPart("PUT", u, "", announced, strings.Repeat("x", sent))
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(status, " 200 ") {
				t.Errorf("%s: %d of %d bytes were answered with %q", target.key, sent, announced, status)
			}
		}
		if got, _ := get(t, c, "old"); got != "old content" {
			t.Fatalf("%d of %d bytes took the place of the old content: %d bytes", sent, announced, len(got))
		}
		if _, err := c.StatObject(t.Context(), "bucket", "new", minio.StatObjectOptions{}); minio.ToErrorResponse(err).Code != minio.NoSuchKey {
			t.Fatalf("%d of %d bytes became an object: %v", sent, announced, err)
		}
		if list, err := c.ListObjectParts(t.Context(), "bucket", "parts", id, 0, 10); err != nil || len(list.ObjectParts) > 0 {
			t.Fatalf("%d of %d bytes became a part: %+v, %v", sent, announced, list.ObjectParts, err)
		}
	}
}

// TestTruncatedForm does the same in the middle of a form's file, and sends a form that has something behind its end.
func TestTruncatedForm(t *testing.T) {
	c := client(t, startServer(t, nil))
	policy := minio.NewPostPolicy()
	if err := errors.Join(policy.SetBucket("bucket"), policy.SetKey("posted"), policy.SetExpires(time.Now().Add(time.Minute))); err != nil {
		t.Fatal(err)
	}
	u, fields, err := c.PresignedPostPolicy(t.Context(), policy)
	if err != nil {
		t.Fatal(err)
	}
	file := strings.Repeat("x", 1<<20)
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	for name, value := range fields {
		_ = w.WriteField(name, value)
	}
	part, _ := w.CreateFormFile("file", "name")
	head := form.Len()
	_, _ = io.WriteString(part, file)
	_ = w.Close()
	for _, sent := range []int{1, 100, 5000, 64 << 10, len(file) / 2, len(file), form.Len() - head - 1} {
		status, err := sendPart("POST", u, "Content-Type: "+w.FormDataContentType()+"\r\n", form.Len(), form.String()[:head+sent])
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(status, " 20") {
			t.Errorf("%d bytes of a file of %d were answered with %q", sent, len(file), status)
		}
		if _, err := c.StatObject(t.Context(), "bucket", "posted", minio.StatObjectOptions{}); minio.ToErrorResponse(err).Code != minio.NoSuchKey {
			t.Fatalf("%d bytes of a file of %d became an object: %v", sent, len(file), err)
		}
	}
	form.WriteString("something behind the end")
	if status, body := do(t, http.MethodPost, u.String(), map[string]string{"Content-Type": w.FormDataContentType()}, form.String()); status > 299 {
		t.Fatalf("a whole form: %d %s", status, body)
	}
	if got, _ := get(t, c, "posted"); got != file {
		t.Errorf("a file of %d bytes became one of %d", len(file), len(got))
	}
}

// sendPart sends a part of a body and returns the first line of the answer, "" if there was none.
func sendPart(method string, u *url.URL, header string, announced int, sent string) (string, error) {
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: %s\r\n%sContent-Length: %d\r\n\r\n%s", method, u.RequestURI(), u.Host, header, announced, sent)
	if err := errors.Join(err, conn.(*net.TCPConn).CloseWrite()); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(conn)
	line, _, _ := strings.Cut(string(answer), "\r\n")
	return line, err
}

// sized is the file of a form.
type sized struct{ io.Reader }

func (sized) Length() int64 { return 0 }

func TestWhole(t *testing.T) {
	size := int64(5)
	for name, c := range map[string]struct {
		body  io.Reader
		size  *int64
		whole bool
	}{
		"all of it":              {strings.NewReader("12345"), &size, true},
		"less":                   {strings.NewReader("1234"), &size, false},
		"of unknown size":        {strings.NewReader("1234"), nil, true},
		"a form below its limit": {sized{strings.NewReader("1234")}, &size, true},
		"broken off":             {io.MultiReader(strings.NewReader("1234"), iotest.ErrReader(io.ErrUnexpectedEOF)), nil, false},
		"a form broken off":      {sized{iotest.ErrReader(io.ErrUnexpectedEOF)}, &size, false},
	} {
		_, err := io.ReadAll(newWhole(c.body, c.size))
		if c.whole != (err == nil) {
			t.Errorf("%s: %v", name, err)
		}
		if known, ok := errors.AsType[s3err.S3Error](err); err != nil && (!ok || errors.Is(known, io.ErrUnexpectedEOF)) {
			t.Errorf("%s: the library would take %v for the end", name, err)
		}
	}
	if newWhole(nil, &size) != nil {
		t.Error("no body became one")
	}
}
