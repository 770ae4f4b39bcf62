package object_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/object"
)

// raw is a client of its own, for what the tests set up and look at.
func (e endpoint) raw(t *testing.T) *minio.Core {
	t.Helper()
	u, err := url.Parse(e.url)
	if err != nil {
		t.Fatal(err)
	}
	c, err := minio.NewCore(u.Host, &minio.Options{
		Creds: credentials.NewStaticV4(e.accessKey, e.secretKey, ""), Region: "us-east-1", Transport: oneRequest(), MaxRetries: 3,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// newName is a bucket's name that nobody has used.
func newName() string { return "test-" + strings.ToLower(rand.Text()[:16]) }

func (e endpoint) newBucket(t *testing.T) string {
	t.Helper()
	name := newName()
	if err := e.raw(t).MakeBucket(t.Context(), name, minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	return name
}

func (e endpoint) seed(t *testing.T, bucket, key string, data []byte) {
	t.Helper()
	opts := minio.PutObjectOptions{ContentType: "text/x-test"}
	if _, err := e.raw(t).Client.PutObject(t.Context(), bucket, key, bytes.NewReader(data), int64(len(data)), opts); err != nil {
		t.Fatalf("seed %q: %v", key, err)
	}
}

// peek returns what anybody sees at a key now.
func (e endpoint) peek(t *testing.T, bucket, key string) ([]byte, bool) {
	t.Helper()
	body, _, _, err := e.raw(t).GetObject(t.Context(), bucket, key, minio.GetObjectOptions{})
	if err != nil {
		if code := minio.ToErrorResponse(err).Code; code != minio.NoSuchKey {
			t.Errorf("look at %q: %v", key, err)
		}
		return nil, false
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	if err != nil {
		t.Errorf("look at %q: %v", key, err)
	}
	return data, true
}

func content(text string) storage.Content {
	return storage.Content{Body: strings.NewReader(text), Size: int64(len(text)), ContentType: "text/x-test"}
}

// open opens an object and closes it at once if that succeeded.
func open(t *testing.T, s *object.Store, bucket, key string) error {
	t.Helper()
	o, err := s.Source(bucket, key).Open(t.Context())
	if err == nil {
		o.Body.Close()
	}
	return err
}

// refused is what an error must be.
type refused struct {
	class storage.Class
	code  string // "": any
}

func (want refused) check(t *testing.T, err error, bucket, key string) *storage.Error {
	t.Helper()
	e, ok := errors.AsType[*storage.Error](err)
	if !ok {
		t.Fatalf("error %v (%T) has no class", err, err)
	}
	if e.Class != want.class || want.code != "" && e.Code != want.code {
		t.Errorf("class %d, code %s, want class %d, code %s: %v", e.Class, e.Code, want.class, want.code, err)
	}
	if subject := "s3://" + bucket + "/" + key; bucket != "" && e.Subject != subject {
		t.Errorf("subject %q, want %q", e.Subject, subject)
	}
	expectNoSecret(t, err)
	return e
}

// expectNoSecret looks for what a signed URL is made of, in every form in which an error may be printed.
func expectNoSecret(t *testing.T, err error) {
	t.Helper()
	for _, e := range tree(err) {
		if _, ok := e.(*url.Error); ok { //nolint:errorlint // the tree has been walked
			t.Errorf("the error holds a url.Error, which prints a whole URL: %v", e)
		}
		for _, text := range []string{e.Error(), fmt.Sprintf("%+v", e), fmt.Sprintf("%#v", e)} {
			for _, secret := range []string{"X-Amz", "x-amz", "Signature=", "AWS4-HMAC", embeddedAccessKey, embeddedSecretKey, "miniotest"} {
				if strings.Contains(text, secret) {
					t.Errorf("%T shows %q: %s", e, secret, text)
				}
			}
		}
	}
}

// tree returns an error with all that it wraps.
func tree(err error) []error {
	if err == nil {
		return nil
	}
	all := []error{err}
	switch e := err.(type) { //nolint:errorlint // it walks the tree itself
	case interface{ Unwrap() error }:
		all = append(all, tree(e.Unwrap())...)
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			all = append(all, tree(inner)...)
		}
	}
	return all
}
