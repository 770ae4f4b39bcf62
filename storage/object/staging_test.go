package object_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/object"
)

// staging reserves a bucket for uploads, which nobody has made yet.
func (e endpoint) staging(t *testing.T) (*object.Store, *object.Staging) {
	t.Helper()
	s := e.store(t, nil)
	staging, err := s.Staging(newName())
	if err != nil {
		t.Fatal(err)
	}
	return s, staging
}

// TestStagingMakesItsBucket uses a bucket that is not there, at a store that makes none for others.
func TestStagingMakesItsBucket(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		s, staging := e.staging(t)
		d := staging.Destination(staging.Bucket(), "k").(storage.PartDestination)
		if _, err := d.(storage.PartLister).ListParts(t.Context(), "plain.none"); err == nil {
			t.Error("an upload in a bucket that is not there has parts")
		} else {
			refused{storage.Conflict, storage.CodeUploadGone}.check(t, err, staging.Bucket(), "k")
		}
		for _, clean := range []error{d.(storage.Remover).Remove(t.Context()), d.Abort(t.Context(), "plain.none"), d.(discarder).DiscardAll(t.Context())} {
			if clean != nil {
				t.Errorf("cleaning up where nothing is: %v", clean)
			}
		}
		_, err := staging.Source(staging.Bucket(), "k").Open(t.Context())
		refused{storage.NotFound, "source_object_not_found"}.check(t, err, staging.Bucket(), "k")
		upload, err := d.Begin(t.Context(), storage.PartContent{Size: 3, PartSize: 5 << 20})
		if err != nil {
			t.Fatal(err)
		}
		part, err := d.PutPart(t.Context(), upload, storage.Part{Number: 1, Size: 3, Body: strings.NewReader("abc")})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Complete(t.Context(), upload, storage.PartContent{Size: 3, PartSize: 5 << 20}, []storage.PartStored{part}, nil); err != nil {
			t.Fatal(err)
		}
		o, err := staging.Source(staging.Bucket(), "k").Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer o.Body.Close()
		if got, err := io.ReadAll(o.Body); string(got) != "abc" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		if _, err := s.Destination(newName(), "k").Put(t.Context(), content("x")); err == nil {
			t.Error("a bucket was made for somebody else")
		}
	})
}

type discarder interface{ DiscardAll(context.Context) error }

// TestStagingDiscardsAll removes what was begun at a key by writers that died, with its parts, and nothing of the keys beside it.
func TestStagingDiscardsAll(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		s, staging := e.staging(t)
		begin := func(key string) (storage.PartDestination, string) {
			d := staging.Destination(staging.Bucket(), key).(storage.PartDestination)
			upload, err := d.Begin(t.Context(), storage.PartContent{Size: 3, PartSize: 5 << 20})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := d.PutPart(t.Context(), upload, storage.Part{Number: 1, Size: 3, Body: strings.NewReader("abc")}); err != nil {
				t.Fatal(err)
			}
			return d, upload
		}
		there := func(d storage.PartDestination, upload string) bool {
			parts, err := d.(storage.PartLister).ListParts(t.Context(), upload)
			return err == nil && len(parts) == 1
		}
		d, first := begin("k~1")
		_, second := begin("k~1")
		other, beside := begin("k~10")
		if err := d.(discarder).DiscardAll(t.Context()); err != nil {
			t.Fatal(err)
		}
		if there(d, first) || there(d, second) || !there(other, beside) {
			t.Errorf("of the key: %v, %v; of the key beside it: %v", there(d, first), there(d, second), there(other, beside))
		}
		refused{storage.Denied, object.CodeReserved}.check(t, s.Destination("public", "k").(discarder).DiscardAll(t.Context()), "public", "k")
	})
}

// TestStagingIsReserved goes for a staged object by every other way.
func TestStagingIsReserved(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		s, staging := e.staging(t)
		bucket := staging.Bucket()
		if _, err := staging.Destination(staging.Bucket(), "a/b").Put(t.Context(), content("secret")); err != nil {
			t.Fatal(err)
		}
		public := e.newBucket(t)
		for _, key := range []string{"a/b", "/a/b", "x/../a/b", "new"} {
			denied := refused{storage.Denied, object.CodeReserved}
			denied.check(t, open(t, s, bucket, key), bucket, key)
			denied.check(t, write(t, s, bucket, key), bucket, key)
			d := s.Destination(bucket, key)
			_, err := d.(storage.PartDestination).Begin(t.Context(), storage.PartContent{Size: 1, PartSize: 5 << 20})
			denied.check(t, err, bucket, key)
			_, err = d.(storage.PartLister).ListParts(t.Context(), "plain.x")
			denied.check(t, err, bucket, key)
			denied.check(t, d.(storage.Remover).Remove(t.Context()), bucket, key)
			_, err = s.Source(bucket, key).(interface{ storage.Digested }).Digests(t.Context())
			denied.check(t, err, bucket, key)
			anyState := storage.DirectCopy{Mark: storage.Mark{Size: storage.UnknownSize}}
			_, _, err = s.Destination(public, "out").(storage.DirectCopier).CopyFrom(t.Context(), s.Source(bucket, key), anyState)
			denied.check(t, err, bucket, key)
			for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodPost} {
				_, err := s.Presign(t.Context(), object.Request{Method: method, Bucket: bucket, Key: key, Expires: time.Minute})
				denied.check(t, err, bucket, key)
			}
		}
		if got, _ := e.peek(t, bucket, "a/b"); string(got) != "secret" {
			t.Errorf("the staged object is %q", got)
		}
		// The way that is left leads nowhere else.
		_, err := staging.Destination(public, "k").Put(t.Context(), content("x"))
		refused{storage.Unavailable, "staged_elsewhere"}.check(t, err, public, "k")
		_, err = staging.Source(public, "k").Open(t.Context())
		refused{storage.Unavailable, "staged_elsewhere"}.check(t, err, public, "k")
	})
}

// TestReservations reserves what lies apart, and what does not.
func TestReservations(t *testing.T) {
	t.Parallel()
	s := endpoint{embedded.URL(), embeddedAccessKey, embeddedSecretKey}.store(t, nil)
	for i, c := range []struct {
		bucket, prefix string
		uploads, taken bool
	}{
		{"boxes", "a", false, false},
		{"boxes", "a", false, false}, // once more
		{"boxes", "ab", false, false},
		{"boxes", "a/b", false, true},
		{"boxes", "", false, true},
		{"boxes", "", true, true},
		{"uploads", "", true, false},
		{"uploads", "", true, false},
		{"uploads", "", false, true},
		{"uploads", "x", false, true},
	} {
		var err error
		if c.uploads {
			_, err = s.Staging(c.bucket)
		} else {
			err = s.Reserve(c.bucket, c.prefix)
		}
		if (err != nil) != c.taken {
			t.Errorf("%d: %+v: %v", i, c, err)
		}
	}
	for _, bucket := range []string{"boxes", "uploads"} {
		if err := open(t, s, bucket, "a/x"); storage.ClassOf(err) != storage.Denied {
			t.Errorf("%s: %v", bucket, err)
		}
	}
	if _, err := s.Staging("No Bucket"); err == nil {
		t.Error("what is no name of a bucket is reserved")
	}
}

// TestListPartsOfMany lists more parts than an answer of S3 holds.
func TestListPartsOfMany(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		const parts = 1003
		bucket := e.newBucket(t)
		d := e.store(t, nil).Destination(bucket, "k").(storage.PartDestination)
		upload, err := d.Begin(t.Context(), storage.PartContent{Size: parts, PartSize: 1})
		if err != nil {
			t.Fatal(err)
		}
		var group errgroup.Group
		group.SetLimit(8)
		stored := make([]storage.PartStored, parts)
		for i := range stored {
			group.Go(func() (err error) {
				stored[i], err = d.PutPart(t.Context(), upload, storage.Part{Number: i + 1, Size: 1, Body: strings.NewReader("x")})
				return err
			})
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		listed, err := d.(storage.PartLister).ListParts(t.Context(), upload)
		if err != nil || len(listed) != parts {
			t.Fatalf("%d parts are listed of %d: %v", len(listed), parts, err)
		}
		for i, got := range listed {
			if want := stored[i]; got.Number != want.Number || got.Size != 1 || got.ETag != want.ETag || got.Checksum != "" && got.Checksum != want.Checksum {
				t.Errorf("%+v is listed, %+v was stored", got, want)
			}
		}
		if err := d.Abort(t.Context(), upload); err != nil {
			t.Error(err)
		}
	})
}
