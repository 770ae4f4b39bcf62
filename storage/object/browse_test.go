package object_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sync/errgroup"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/object"
)

func TestStat(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		s, bucket := e.store(t, nil), e.newBucket(t)
		opts := minio.PutObjectOptions{UserMetadata: map[string]string{"Copyfleet-Trail": "ORG/rule", "color": "blue"}}
		up, err := e.raw(t).Client.PutObject(t.Context(), bucket, "a b", strings.NewReader("abc"), 3, opts)
		if err != nil {
			t.Fatal(err)
		}
		e.seed(t, bucket, "bare", nil)
		got, err := s.Stat(t.Context(), bucket, "a b", "")
		if err != nil {
			t.Fatal(err)
		}
		if got.Key != "a b" || got.ETag != up.ETag || got.Size != 3 || got.Version != "" || time.Since(got.Modified).Abs() > time.Hour ||
			got.Metadata[storage.TrailName] != "ORG/rule" || got.Metadata["color"] != "blue" {
			t.Errorf("Stat is %+v", got)
		}
		if got, err := s.Stat(t.Context(), bucket, "bare", ""); err != nil || got.Metadata == nil {
			t.Errorf("what has no metadata is told as %+v, %v", got, err)
		}
		_, err = s.Stat(t.Context(), bucket, "none", "")
		refused{storage.NotFound, "source_object_not_found"}.check(t, err, bucket, "none")
		_, err = s.Stat(t.Context(), "no-such-bucket-here", "k", "")
		refused{storage.NotFound, "bucket_not_found"}.check(t, err, "no-such-bucket-here", "k")
		if err := s.Reserve(bucket, "kept"); err != nil {
			t.Fatal(err)
		}
		_, err = s.Stat(t.Context(), bucket, "kept/k", "")
		refused{storage.Denied, object.CodeReserved}.check(t, err, bucket, "kept/k")
	})
}

// TestStatOfVersion looks at a version that is not the newest. The embedded S3 has no versions.
func TestStatOfVersion(t *testing.T) {
	t.Parallel()
	e := minioEndpoint(t)
	s, bucket := e.store(t, nil), e.newBucket(t)
	if err := e.raw(t).EnableVersioning(t.Context(), bucket); err != nil {
		t.Fatal(err)
	}
	var versions []string
	for size := range 2 {
		up, err := e.raw(t).Client.PutObject(t.Context(), bucket, "k", bytes.NewReader(make([]byte, size)), int64(size), minio.PutObjectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		versions = append(versions, up.VersionID)
	}
	for size, version := range versions {
		got, err := s.Stat(t.Context(), bucket, "k", version)
		if err != nil || got.Size != int64(size) || got.Version != version || version == "" {
			t.Errorf("version %q is %+v, %v", version, got, err)
		}
	}
}

// TestList lists more than a page. What is reserved is not told.
func TestList(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		s, bucket := e.store(t, nil), e.newBucket(t)
		want := []string{"p/ü &+%20", "p/dir/x"}
		for i := range 1100 {
			want = append(want, fmt.Sprintf("p/%04d", i))
		}
		var group errgroup.Group
		group.SetLimit(8)
		for _, key := range append([]string{"other", "p/kept/x"}, want...) {
			group.Go(func() error {
				_, err := e.raw(t).Client.PutObject(t.Context(), bucket, key, strings.NewReader("x"), 1, minio.PutObjectOptions{})
				return err //nolint:wrapcheck // of a test
			})
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		if err := s.Reserve(bucket, "p/kept"); err != nil {
			t.Fatal(err)
		}
		var got []string
		err := s.List(t.Context(), bucket, "p/", func(o object.Info) bool {
			if o.ETag == "" || o.Size != 1 || o.Modified.IsZero() {
				t.Errorf("an object is told as %+v", o)
			}
			got = append(got, o.Key)
			return true
		})
		slices.Sort(want)
		slices.Sort(got)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%d keys are listed, want %d: %v", len(got), len(want), err)
		}
		visited := 0
		if err := s.List(t.Context(), bucket, "p/", func(object.Info) bool { visited++; return visited < 3 }); err != nil || visited != 3 {
			t.Errorf("visited %d, %v", visited, err)
		}
		visited = 0
		ctx, cancel := context.WithCancel(t.Context())
		err = s.List(ctx, bucket, "p/", func(object.Info) bool { visited++; cancel(); return true })
		if !errors.Is(err, context.Canceled) || visited > 1000 {
			t.Errorf("a list that is canceled visited %d, and ends with %v", visited, err)
		}
		err = s.List(t.Context(), "no-such-bucket-here", "", func(object.Info) bool { return true })
		refused{storage.NotFound, "bucket_not_found"}.check(t, err, "no-such-bucket-here", "")
	})
}

// TestListWithoutEnd lists at a store that gives the same page again and again.
func TestListWithoutEnd(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) > 20 {
			t.Error("the list goes on for ever")
			w.WriteHeader(http.StatusForbidden)
			return
		}
		fmt.Fprint(w, `<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>`+
			`<Contents><Key>a</Key></Contents><Contents><Key>b</Key></Contents></ListBucketResult>`)
	}))
	t.Cleanup(server.Close)
	e := endpoint{server.URL, "access", "secret-key"}
	err := e.store(t, nil).List(t.Context(), "bucket", "", func(object.Info) bool { return true })
	refused{storage.Unavailable, "list_not_ended"}.check(t, err, "bucket", "")
}
