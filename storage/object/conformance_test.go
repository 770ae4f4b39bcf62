package object_test

import (
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/storagetest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		s, bucket := e.store(t, nil), e.newBucket(t)
		var next atomic.Int64
		newKey := func() string { return "k/" + strconv.FormatInt(next.Add(1), 10) }
		target := func(key string) storagetest.Target {
			return storagetest.Target{
				Destination: func() storage.Destination { return s.Destination(bucket, key) },
				Read:        func(t *testing.T) ([]byte, bool) { return e.peek(t, bucket, key) },
				Trail:       func(t *testing.T) string { return e.trail(t, bucket, key) },
				Leftovers:   func(t *testing.T) []string { return e.uploads(t, bucket) },
			}
		}
		storagetest.Run(t, storagetest.Harness{
			Features: storagetest.Features{
				Source: true, Destination: true, Ranges: true, Parts: true, PartSize: 5 << 20, CompletesAgain: true, OnlyNew: true,
				ListsParts: true, Removes: true, Trails: true,
			},
			NewSource: func(t *testing.T, data []byte) storage.Source {
				key := newKey()
				e.seed(t, bucket, key, data)
				return s.Source(bucket, key)
			},
			NewRanger: func(t *testing.T, data []byte) (storage.Ranger, func([]byte)) {
				key := newKey()
				e.seed(t, bucket, key, data)
				ranger, ok := s.Source(bucket, key).(storage.Ranger)
				if !ok {
					t.Fatal("objects cannot be read in ranges")
				}
				return ranger, func(data []byte) { e.seed(t, bucket, key, data) }
			},
			Missing:     func(*testing.T) storage.Source { return s.Source(bucket, "missing") },
			NewTarget:   func(*testing.T) storagetest.Target { return target(newKey()) },
			NamedTarget: func(_ *testing.T, name string) storagetest.Target { return target(newKey() + "/" + e.possible(name)) },
		})
	})
}

// possible returns a name that the endpoint takes. MinIO refuses names with a part that is "." or "..", and sees such parts
// also behind a backslash and between spaces.
func (e endpoint) possible(name string) string {
	if e.url == embedded.URL() {
		return name
	}
	parts := strings.Split(strings.ReplaceAll(name, `\`, "|"), "/")
	for i, part := range parts {
		if strings.Trim(strings.TrimSpace(part), ".") == "" {
			parts[i] = "x" + part
		}
	}
	return strings.Join(parts, "/")
}

// uploads names the uploads in parts that nobody finished.
func (e endpoint) uploads(t *testing.T, bucket string) []string {
	t.Helper()
	list, err := e.raw(t).ListMultipartUploads(t.Context(), bucket, "", "", "", "", 100)
	if err != nil {
		t.Errorf("list uploads: %v", err)
	}
	var names []string
	for _, u := range list.Uploads {
		names = append(names, u.Key)
	}
	return names
}

// TestOddKeys writes and reads keys that a URL must carry without a change.
func TestOddKeys(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		s, bucket := e.store(t, nil), e.newBucket(t)
		for _, key := range []string{
			"a b", "a+b", "a%20b", "%", "a%2Fb", "ü", "漢字/🙂", "'\"<>&", "a?b=c#d", "~", "...", "a;b", "a:b@c", "=,$", "dir/file", "x*y", "[z]", "{}|^`",
		} {
			if _, err := s.Destination(bucket, key).Put(t.Context(), content(key)); err != nil {
				t.Errorf("put %q: %v", key, err)
				continue
			}
			if got, ok := e.peek(t, bucket, key); !ok || string(got) != key {
				t.Errorf("%q holds %q (%t): it was written elsewhere", key, got, ok)
			}
			if err := open(t, s, bucket, key); err != nil {
				t.Errorf("open %q: %v", key, err)
			}
		}
	})
}
