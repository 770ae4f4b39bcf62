package object_test

import (
	"errors"
	"testing"

	"github.com/copyfleet/copyfleet/storage"
)

// TestStoreOfFilesSaysWhatIsInTheWay writes a file below a file, and one where others lie below, in each way that there is. The embedded store keeps
// objects as files, and refuses both; others take them.
func TestStoreOfFilesSaysWhatIsInTheWay(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, e endpoint) {
		s, boxes, bucket := e.sandboxes(t)
		e.seed(t, bucket, "in", []byte("content"))
		e.seed(t, bucket, "plain/1", []byte("file"))
		e.seed(t, bucket, "boxes/ORG-a/SBX-1/a/1", []byte("file"))
		type target struct {
			code string
			dest storage.Destination
		}
		for name, c := range map[string]target{
			"sandbox, directory": {"destination_is_directory", boxes.Destination("ORG-a", "SBX-1", "/a", "", nil)},
			"sandbox, below":     {"parent_not_directory", boxes.Destination("ORG-a", "SBX-1", "/a/1/x", "", nil)},
			"bucket, below":      {"parent_not_directory", s.Destination(bucket, "plain/1/x")},
		} {
			_, put := c.dest.Put(t.Context(), content("x"))
			expectInTheWay(t, e, name+", put", c.code, put)
			known, err := s.Source(bucket, "in").(storage.Digested).Digests(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_, _, copied := c.dest.(storage.DirectCopier).CopyFrom(t.Context(), s.Source(bucket, "in"), storage.DirectCopy{Mark: known.Mark})
			expectInTheWay(t, e, name+", copy", c.code, copied)
		}
	})
}

func expectInTheWay(t *testing.T, e endpoint, name, code string, err error) {
	t.Helper()
	if e.url != embedded.URL() {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		return
	}
	got, ok := errors.AsType[*storage.Error](err)
	if !ok || got.Class != storage.Conflict || got.Code != code || got.Hint == "" || got.Status != 0 {
		t.Errorf("%s: %+v", name, got)
	}
	expectNoSecret(t, err)
}
