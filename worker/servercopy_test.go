package worker

import (
	"crypto/md5"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
)

// TestStoresCopyThemselves: no byte passes through here where the store can do it and can vouch for it, and each does where it cannot.
func TestStoresCopyThemselves(t *testing.T) {
	t.Parallel()
	const text = "content"
	sum := md5.Sum([]byte(text))
	md := hex.EncodeToString(sum[:])
	size := int64(len(text))
	for _, row := range []struct {
		name   string
		change func(*shelf, *transfer)
		want   string // "server_copy", "stream", or the code of a failure
	}{
		{"two objects", func(*shelf, *transfer) {}, protocol.MethodServerCopy},
		{"a size", func(_ *shelf, t *transfer) { t.expect.Size = new(size) }, protocol.MethodServerCopy},
		{"another size", func(_ *shelf, t *transfer) { t.expect.Size = new(size + 1) }, "source_size_mismatch"},
		{"an MD5", func(_ *shelf, t *transfer) { t.expect.MD5 = md }, protocol.MethodServerCopy},
		{"another MD5", func(_ *shelf, t *transfer) { t.expect.MD5 = "00" + md[2:] }, "source_md5_mismatch"}, // found by reading: an ETag may be none
		{"a SHA-256 that nobody knows", func(_ *shelf, t *transfer) { t.expect.SHA256 = shaOf(text) }, protocol.MethodStream},
		{"a SHA-256 that is known", func(s *shelf, t *transfer) {
			t.expect.SHA256, s.extra = shaOf(text), map[string]string{storage.DigestSHA256: shaOf(text)}
		}, protocol.MethodServerCopy},
		{"another SHA-256", func(s *shelf, t *transfer) {
			t.expect.SHA256, s.extra = shaOf("else"), map[string]string{storage.DigestSHA256: shaOf(text)}
		}, "source_sha256_mismatch"},
		{"a store that does not", func(s *shelf, _ *transfer) { s.copies = false }, protocol.MethodStream},
		{"a file", func(_ *shelf, t *transfer) { t.dest = inSandbox("/f") }, protocol.MethodStream},
		{"no source", func(_ *shelf, t *transfer) { t.src = onShelf("none") }, "source_object_not_found"},
		{"skip", func(s *shelf, t *transfer) { t.conflict = protocol.SkipIfThere; s.put("to", "x") }, protocol.SkipExists},
		{"skip, late", func(s *shelf, t *transfer) {
			t.conflict, s.meddle = protocol.SkipIfThere, func() { s.put("to", "x") }
		}, protocol.SkipExists},
		{"fail, late", func(s *shelf, t *transfer) {
			t.conflict, s.meddle = protocol.FailIfThere, func() { s.put("to", "x") }
		}, storage.CodeDestinationExists},
		{"no lease", func(_ *shelf, t *transfer) { t.fence = func() error { return errLeaseLost } }, "internal"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			objects := newShelf("from", text)
			objects.copies = true
			b.copier.drivers.Objects = objects
			tr := transfer{org: "ORG", src: onShelf("from"), dest: onShelf("to"), temp: "t1", fence: allowed}
			row.change(objects, &tr)
			got, err := b.copier.copy(t.Context(), tr)
			came := got.method + got.skip + codeOf(err)
			if came != row.want {
				t.Fatalf("it came to %q, want %q: %v", came, row.want, err)
			}
			there, _ := objects.get("to")
			switch row.want {
			case protocol.MethodServerCopy:
				if objects.opened > 0 || got.read != 0 || got.stored != size || !got.verified || got.etag == "" || there != text {
					t.Errorf("%d were read, %+v, there is %q", objects.opened, got, there)
				}
				if got.sha256 != tr.expect.SHA256 {
					t.Errorf("a SHA-256 %q that nobody computed", got.sha256)
				}
			case protocol.MethodStream:
				if objects.opened != 1 || got.read != size {
					t.Errorf("%d were read, %+v", objects.opened, got)
				}
			default:
				if there == text {
					t.Error("it was copied")
				}
			}
		})
	}
}

// TestCopiesThatAreNotCompared are not called verified.
func TestCopiesThatAreNotCompared(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	objects := newShelf("from", "content")
	objects.copies, objects.damages = true, true
	b.copier.drivers.Objects = objects
	got, err := b.copier.copy(t.Context(), transfer{org: "ORG", src: onShelf("from"), dest: onShelf("to"), temp: "t1", fence: allowed})
	if err != nil || got.verified {
		t.Errorf("%+v, %v", got, err)
	}
	// A source that is replaced between the look and the copy is blamed.
	objects.put("from", "another")
	err = ofSource(storage.Errorf(storage.Corrupt, storage.CodeSourceChanged, "copy", "to", "it is another one"))
	if _, is := errors.AsType[*sourceError](err); !is {
		t.Errorf("%v", err)
	}
}
