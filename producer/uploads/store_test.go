package uploads

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
)

// store is a staging storage in a real MinIO. What the binary has of it is in cmd/copyfleet.
type store struct {
	core   minio.Core
	bucket string
}

func newStore(t *testing.T) *store {
	t.Helper()
	server := miniotest.Shared(t)
	at, err := url.Parse(server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	core, err := minio.NewCore(at.Host, &minio.Options{Creds: credentials.NewStaticV4(server.AccessKey, server.SecretKey, "")})
	if err != nil {
		t.Fatal(err)
	}
	return &store{core: *core, bucket: server.NewBucket(t)}
}

func (s *store) Bucket() string { return s.bucket }

func (s *store) Begin(ctx context.Context, key string, _, _ int64) (string, error) {
	return s.core.NewMultipartUpload(ctx, s.bucket, key, minio.PutObjectOptions{}) //nolint:wrapcheck // a test
}

func (s *store) PutPart(ctx context.Context, key, multipart string, number int, size int64, body io.Reader) (StagedPart, error) {
	part, err := s.core.PutObjectPart(ctx, s.bucket, key, multipart, number+1, body, size, minio.PutObjectPartOptions{})
	if minio.ToErrorResponse(err).Code == minio.NoSuchUpload {
		return StagedPart{}, errors.Join(ErrStagedGone, err)
	}
	return StagedPart{ETag: part.ETag}, err //nolint:wrapcheck // a test
}

func (s *store) PutWhole(ctx context.Context, key string, size int64, body io.Reader) (int64, error) {
	info, err := s.core.Client.PutObject(ctx, s.bucket, key, body, size, minio.PutObjectOptions{PartSize: 5 << 20})
	return info.Size, err //nolint:wrapcheck // a test
}

func (s *store) Clean(ctx context.Context, key, multipart string, all bool) error {
	if multipart != "" {
		if err := s.core.AbortMultipartUpload(ctx, s.bucket, key, multipart); err != nil && minio.ToErrorResponse(err).Code != minio.NoSuchUpload {
			return err //nolint:wrapcheck // a test
		}
	}
	if !all {
		return nil
	}
	return s.core.RemoveObject(ctx, s.bucket, key, minio.RemoveObjectOptions{}) //nolint:wrapcheck // a test
}

// parts are the numbers and ETags of what is staged.
func (s *store) parts(t *testing.T, session *Session) map[int]string {
	t.Helper()
	list, err := s.core.ListObjectParts(t.Context(), s.bucket, session.Key, session.Multipart, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	got := map[int]string{}
	for _, p := range list.ObjectParts {
		got[p.PartNumber-1] = p.ETag
	}
	return got
}

// TestPartsInARealStore sends good and bad bodies to a store that has an opinion of its own about what it was promised.
func TestPartsInARealStore(t *testing.T) {
	t.Parallel()
	s := newStage(t, Config{})
	minioStore := newStore(t)
	s.svc.staging, s.svc.smallest = minioStore, 1<<20
	const size = 1 << 20
	made := s.create(request("k", 3*size))
	first := content(1, size)
	s.put(made, 1, first)
	before := minioStore.parts(t, made)
	for _, number := range []int{0, 1} {
		for what, bad := range map[string]Part{
			"short":      {Body: partOf(0, content(2, size-1)).Body},
			"long":       {Body: partOf(0, content(2, size+1)).Body},
			"broken off": {Body: broken{partOf(0, content(2, size-1)).Body}},
			"other":      {Body: partOf(0, content(2, size)).Body, SHA256: sha(first)},
		} {
			bad.Number, bad.Length = number, size
			if _, err := s.svc.PutPart(t.Context(), name(made), bad); !refused(err, RefusedLength) && !refused(err, RefusedChecksum) && !errors.Is(err, errHungUp) {
				t.Errorf("%s: %v", what, err)
			}
			if after := minioStore.parts(t, made); len(after) != 1 || after[1] != before[1] {
				t.Fatalf("a body that is %s left %v, before it was %v", what, after, before)
			}
		}
	}
	s.put(made, 1, content(3, size))
	if after := minioStore.parts(t, made); len(after) != 1 || after[1] == before[1] {
		t.Errorf("other bytes did not replace the part: %v", after)
	}
	if _, err := s.svc.Abort(t.Context(), name(made)); err != nil {
		t.Fatal(err)
	}
	s.sweep()
	if _, err := minioStore.core.ListObjectParts(t.Context(), minioStore.bucket, made.Key, made.Multipart, 0, 100); minio.ToErrorResponse(err).Code != minio.NoSuchUpload {
		t.Errorf("after the sweep the upload is there: %v", err)
	}
}

// TestDirectContentInARealStore has a body that ends early leave no object.
func TestDirectContentInARealStore(t *testing.T) {
	t.Parallel()
	s := newStage(t, Config{})
	minioStore := newStore(t)
	s.svc.staging = minioStore
	data := content(0, 6<<20)
	for i, exact := range []bool{true, false} {
		bad := direct(fmt.Sprint(i), data)
		bad.Body, bad.Exact = broken{partOf(0, data[:len(data)-1]).Body}, exact
		if _, err := s.svc.Direct(t.Context(), bad); !errors.Is(err, errHungUp) {
			t.Errorf("exact %v: %v", exact, err)
		}
		for object := range minioStore.core.Client.ListObjects(t.Context(), minioStore.bucket, minio.ListObjectsOptions{Recursive: true}) {
			t.Errorf("exact %v: a broken body left %s, %v", exact, object.Key, object.Err)
		}
	}
	got := s.direct(direct("good", data))
	info, err := minioStore.core.StatObject(t.Context(), minioStore.bucket, got.Key, minio.StatObjectOptions{})
	if err != nil || info.Size != int64(len(data)) {
		t.Errorf("%+v, %v", info, err)
	}
}
