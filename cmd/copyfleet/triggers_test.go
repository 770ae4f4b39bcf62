package main

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/producer/triggers"
	"github.com/copyfleet/copyfleet/storage/object"
)

// TestBuckets looks at the objects of a MinIO as rules do.
func TestBuckets(t *testing.T) {
	t.Parallel()
	server := miniotest.Shared(t)
	_, store := stagedAt(t, s3Flags{endpointFlags: endpointFlags{Endpoint: server.Endpoint, AccessKey: server.AccessKey, SecretKey: server.SecretKey}})
	b := buckets{store}
	const bucket = "rules-look-at-this"
	if err := store.EnsureBucket(t.Context(), bucket); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"raw/a b", "raw/c", "other"} {
		signed, err := store.Presign(t.Context(), object.Request{Method: http.MethodPut, Bucket: bucket, Key: key, Expires: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, signed.URL, strings.NewReader("abc"))
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Fatal(res.Status)
		}
	}
	found, err := b.Stat(t.Context(), bucket, "raw/a b", "")
	if err != nil || found.Key != "raw/a b" || found.Size != 3 || found.ETag == "" || found.Modified.IsZero() || found.Metadata == nil {
		t.Errorf("%+v, %v", found, err)
	}
	for _, at := range [][2]string{
		{bucket, "none"}, {"no-such-bucket-here", "k"}, {"copyfleet-staging", "k"}, {bucket, "a\x00"}, {bucket, "../a"}, {bucket, "a//b"}, {"No_Bucket", "k"},
	} {
		if _, err := b.Stat(t.Context(), at[0], at[1], ""); !errors.Is(err, triggers.ErrNoObject) {
			t.Errorf("%v: %v", at, err)
		}
	}
	_, stranger := stagedAt(t, s3Flags{endpointFlags: endpointFlags{Endpoint: server.Endpoint, AccessKey: server.AccessKey, SecretKey: "wrong-secret-key"}})
	if _, err := (buckets{stranger}).Stat(t.Context(), bucket, "raw/c", ""); !errors.Is(err, triggers.ErrDenied) {
		t.Errorf("with another key: %v", err)
	}
	list := func(bucket string, most int) (keys []string, err error) {
		err = b.List(t.Context(), bucket, "raw/", func(o triggers.Object) bool {
			keys = append(keys, o.Key)
			return len(keys) < most
		})
		return keys, err
	}
	if keys, err := list(bucket, 9); err != nil || !slices.Equal(keys, []string{"raw/a b", "raw/c"}) {
		t.Errorf("%v, %v", keys, err)
	}
	if keys, err := list(bucket, 1); err != nil || len(keys) != 1 {
		t.Errorf("%v, %v", keys, err)
	}
	if _, err := list("no-such-bucket-here", 9); !errors.Is(err, triggers.ErrNoBucket) {
		t.Errorf("a bucket that is not there: %v", err)
	}
}

// TestTriggerFlags are refused where they make no sense, and 0 sweeps never.
func TestTriggerFlags(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		memory, sweep, want time.Duration
		wrong               string
	}{
		{time.Hour, time.Minute, time.Minute, ""},
		{time.Hour, 0, -1, ""},
		{0, time.Minute, 0, "--event-memory"},
		{-time.Hour, time.Minute, 0, "--event-memory"},
		{time.Hour, -time.Minute, 0, "--sweep-interval"},
	} {
		flags := apiFlags{EventMemory: c.memory, SweepInterval: c.sweep}
		got, err := flags.triggerConfig()
		if c.wrong != "" {
			if err == nil || describe(err).Exit != exitUsage || !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%v: %v", c, err)
			}
			continue
		}
		if err != nil || got.Memory != c.memory || got.Sweep != c.want {
			t.Errorf("%v: %+v, %v", c, got, err)
		}
	}
}
