package object

import (
	"path"
	"slices"
	"strings"

	"github.com/copyfleet/copyfleet/storage"
)

// CodeReserved is the code of a refusal to touch what only sandboxes or uploads may use. Its class is Denied.
const CodeReserved = "object_reserved"

// What is reserved, as those read it who are refused.
const (
	forSandboxes = "files of sandboxes are kept there; they are used as such"
	forUploads   = "parts of uploads are kept there; they are reached by their sandbox"
)

// reserve is a prefix in a bucket that is kept for something. The prefix ends in a slash, or is empty.
type reserve struct{ bucket, prefix, purpose string }

// has reports whether an object is reserved. MinIO takes a key that begins with a slash for a path, and cleans it.
func (r reserve) has(bucket, key string) bool {
	return r.bucket == bucket && (strings.HasPrefix(key, r.prefix) || strings.HasPrefix(path.Clean("/" + key)[1:], r.prefix))
}

// meets reports whether one of two is in the other.
func (r reserve) meets(o reserve) bool {
	return r.bucket == o.bucket && (strings.HasPrefix(r.prefix, o.prefix) || strings.HasPrefix(o.prefix, r.prefix))
}

// Reserve keeps everybody but sandboxes from the objects below a prefix. It must not be called once the store is in use.
func (s *Store) Reserve(bucket, prefix string) error {
	if prefix != "" {
		prefix += "/"
	}
	return s.reserve(reserve{bucket, prefix, forSandboxes})
}

// reserve adds a reservation. What was reserved for the same is so once; for anything else it must lie apart: keys that one made would be
// taken for those of the other.
func (s *Store) reserve(r reserve) error {
	if err := checkNames("reserve", r.bucket, r.prefix+"x"); err != nil {
		return err
	}
	if slices.Contains(s.reserved, r) {
		return nil
	}
	if i := slices.IndexFunc(s.reserved, r.meets); i >= 0 {
		return storage.Errorf(storage.Invalid, CodeReserved, "reserve", subject(r.bucket, r.prefix),
			"it is reserved for something else: %s", s.reserved[i].purpose)
	}
	s.reserved = append(s.reserved, r)
	return nil
}

// reservation returns what keeps others from an object.
func (s *Store) reservation(bucket, key string) (reserve, bool) {
	i := slices.IndexFunc(s.reserved, func(r reserve) bool { return r.has(bucket, key) })
	if i < 0 {
		return reserve{}, false
	}
	return s.reserved[i], true
}

// Reserved reports whether an object is kept for sandboxes or uploads.
func (s *Store) Reserved(bucket, key string) bool {
	_, reserved := s.reservation(bucket, key)
	return reserved
}
