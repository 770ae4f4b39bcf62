package main

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/producer/uploads"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/object"
	"github.com/copyfleet/copyfleet/worker"
)

var _ worker.TreeDriver = (*object.Sandboxes)(nil)

// stagedAt opens the staging bucket of an S3 as api does.
func stagedAt(t *testing.T, f s3Flags) (staged, *object.Store) {
	t.Helper()
	f.Region, f.StagingBucket = "us-east-1", "copyfleet-staging"
	objects, client, err := f.objects(f.Endpoint, false, workerFlags{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		objects.Close()
		client.Close()
	})
	bucket, err := f.staging(objects)
	if err != nil {
		t.Fatal(err)
	}
	return staged{bucket}, objects
}

// TestStaged keeps parts in a MinIO, from the first one to the end of the session.
func TestStaged(t *testing.T) {
	t.Parallel()
	server := miniotest.Shared(t)
	s, _ := stagedAt(t, s3Flags{endpointFlags: endpointFlags{Endpoint: server.Endpoint, AccessKey: server.AccessKey, SecretKey: server.SecretKey}})
	const key = "ORG-a/SBX-1/UPL-1"
	multipart, err := s.Begin(t.Context(), key, 6, 5)
	if err != nil {
		t.Fatal(err)
	}
	part, err := s.PutPart(t.Context(), key, multipart, 0, 5, strings.NewReader("first"))
	if err != nil || part.ETag == "" || strings.Contains(part.ETag, `"`) {
		t.Fatalf("%+v, %v", part, err)
	}
	refusal := &uploads.Refusal{Code: uploads.RefusedChecksum}
	_, err = s.PutPart(t.Context(), key, multipart, 0, 5, io.MultiReader(strings.NewReader("oth"), iotest.ErrReader(refusal)))
	expectBody(t, err, refusal)
	_, err = s.PutPart(t.Context(), key, multipart, 0, 5, strings.NewReader("oth"))
	expectBody(t, err, io.ErrUnexpectedEOF)
	lister := s.bucket.Destination(s.Bucket(), key).(storage.PartLister)
	if parts, err := lister.ListParts(t.Context(), multipart); err != nil || len(parts) != 1 || parts[0].Number != 1 || parts[0].ETag != part.ETag {
		t.Errorf("what is stored is %+v, %v, want %+v: a body that breaks off changed it", parts, err, part)
	}
	if _, err := s.Begin(t.Context(), key, 6, 5); err != nil { // the answer is lost
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Clean(t.Context(), key, multipart, true); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.PutPart(t.Context(), key, multipart, 0, 5, strings.NewReader("first")); !errors.Is(err, uploads.ErrStagedGone) {
		t.Errorf("a part of what was cleaned up: %v", err)
	}
	for content, size := range map[string]int64{"": 0, "known": 5, "not known": -1} {
		if n, err := s.PutWhole(t.Context(), key, size, strings.NewReader(content)); err != nil || n != int64(len(content)) {
			t.Errorf("%q: %d bytes, %v", content, n, err)
		}
	}
	_, err = s.PutWhole(t.Context(), key, -1, io.MultiReader(strings.NewReader("x"), iotest.ErrReader(refusal)))
	expectBody(t, err, refusal)
	if o, err := s.bucket.Source(s.Bucket(), key).Open(t.Context()); err != nil || o.Size < 0 {
		t.Errorf("the object is not there: %v", err)
	} else {
		o.Body.Close()
	}
	if err := s.Clean(t.Context(), key, "", true); err != nil {
		t.Fatal(err)
	}
	if _, err := s.bucket.Source(s.Bucket(), key).Open(t.Context()); storage.ClassOf(err) != storage.NotFound {
		t.Errorf("the object is left: %v", err)
	}
}

// expectBody looks whether an error of the body is told as such.
func expectBody(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%v does not say %v", err, want)
	}
	for _, blamed := range []error{uploads.ErrStagedGone, uploads.ErrStagingAway, uploads.ErrStagingRefuses, uploads.ErrStagingIsFull} {
		if errors.Is(err, blamed) {
			t.Errorf("the store is blamed for the body: %v", err)
		}
	}
}

// TestStagedRefused asks stores that do not take what they are given.
func TestStagedRefused(t *testing.T) {
	t.Parallel()
	server := miniotest.Shared(t)
	wrong, _ := stagedAt(t, s3Flags{endpointFlags: endpointFlags{Endpoint: server.Endpoint, AccessKey: server.AccessKey, SecretKey: "wrong-secret"}})
	away, _ := stagedAt(t, s3Flags{endpointFlags: endpointFlags{Endpoint: "http://127.0.0.1:1", AccessKey: "k", SecretKey: "nobodys-secret"}})
	for _, c := range []struct {
		s    staged
		want error
	}{{wrong, uploads.ErrStagingRefuses}, {away, uploads.ErrStagingAway}} {
		_, begin := c.s.Begin(t.Context(), "k", 6, 5)
		_, part := c.s.PutPart(t.Context(), "k", "plain.x", 0, 1, strings.NewReader("x"))
		_, whole := c.s.PutWhole(t.Context(), "k", 1, strings.NewReader("x"))
		for i, err := range []error{begin, part, whole, c.s.Clean(t.Context(), "k", "plain.x", true)} {
			if !errors.Is(err, c.want) || storage.ClassOf(err) == storage.Internal {
				t.Errorf("call %d: %v, want %v with its cause", i, err, c.want)
			}
			if text := err.Error(); strings.Contains(text, "secret") || strings.Contains(text, "X-Amz") {
				t.Errorf("call %d shows a secret: %s", i, text)
			}
		}
	}
}

func TestStagingErrors(t *testing.T) {
	t.Parallel()
	of := func(class storage.Class, code string, status int) error {
		return &storage.Error{Class: class, Code: code, Status: status}
	}
	for _, c := range []struct{ err, want error }{
		{of(storage.Conflict, storage.CodeUploadGone, 0), uploads.ErrStagedGone},
		{of(storage.NoSpace, "dest_http_507", 507), uploads.ErrStagingIsFull},
		{of(storage.Unavailable, "s3_XMinioStorageFull", http.StatusInsufficientStorage), uploads.ErrStagingIsFull},
		{of(storage.Throttled, "s3_SlowDown", 503), uploads.ErrStagingAway},
		{of(storage.Corrupt, "checksum_mismatch", 400), uploads.ErrStagingAway},
		{of(storage.Denied, "s3_AccessDenied", 403), uploads.ErrStagingRefuses},
		{io.ErrClosedPipe, uploads.ErrStagingAway},
	} {
		if err := stagingError(t.Context(), c.err); !errors.Is(err, c.want) || !errors.Is(err, c.err) {
			t.Errorf("%v is %v, want %v", c.err, err, c.want)
		}
	}
	if err := stagingError(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

// TestStagingBucketIsKept refuses sandboxes in the bucket of uploads, and a bucket that is none.
func TestStagingBucketIsKept(t *testing.T) {
	t.Parallel()
	_, objects := stagedAt(t, s3Flags{endpointFlags: endpointFlags{Endpoint: "http://127.0.0.1:1", AccessKey: "k", SecretKey: "s"}})
	if _, err := reserveSandboxes("s3://copyfleet-staging/boxes", objects); err == nil || !strings.Contains(err.Error(), "uploads") {
		t.Errorf("sandboxes among the uploads: %v", err)
	}
	if _, err := (s3Flags{StagingBucket: "No Bucket"}).staging(objects); err == nil || !strings.Contains(err.Error(), "--staging-bucket") {
		t.Errorf("a bucket that is none: %v", err)
	}
}
