package sandbox

import (
	"path"
	"strings"

	"github.com/copyfleet/copyfleet/storage"
)

// Limits in bytes. A component is limited to 255 by the file systems themselves.
const (
	maxPath  = 4096
	maxToken = 200
	maxID    = 128
)

// hiddenPrefix begins the name of every hidden file. No caller may name one.
const hiddenPrefix = ".copyfleet-"

// place is a path in a sandbox, as a caller gave it.
type place struct{ org, sandbox, path string }

// subject is the place as errors name it.
func (p place) subject() string { return "sandbox " + p.sandbox + ":" + p.path }

// split checks the place and returns its directory, relative to the sandbox ("." for the top), and its name there.
// Callers validate before; this is the second lock on the door.
func (p place) split(op string) (dir, name string, err error) {
	refuse := func(code, format string, args ...any) error {
		return storage.Errorf(storage.Invalid, code, op, p.subject(), format, args...)
	}
	switch {
	case !validID(p.org), !validID(p.sandbox):
		return "", "", refuse("id_invalid", "the id of the org or of the sandbox is not valid")
	case p.path == "" || p.path[0] != '/' || p.path == "/" || path.Clean(p.path) != p.path || strings.Contains(p.path, "\x00"):
		return "", "", refuse("path_invalid", "the path must be absolute, clean and name a file")
	case len(p.path) > maxPath:
		return "", "", refuse("name_too_long", "the path is longer than %d bytes", maxPath)
	}
	for component := range strings.SplitSeq(p.path[1:], "/") {
		if Reserved(component) {
			return "", "", refuse("path_reserved", "names that begin with %s are reserved", hiddenPrefix)
		}
	}
	dir, name = path.Split(p.path[1:])
	return path.Clean(dir), name, nil
}

// Reserved reports whether a name is one that only hidden files have, in any case of its letters.
func Reserved(name string) bool {
	return len(name) >= len(hiddenPrefix) && strings.EqualFold(name[:len(hiddenPrefix)], hiddenPrefix)
}

func validID(id string) bool {
	return id != "" && len(id) <= maxID && strings.IndexByte("._-", id[0]) < 0 && madeOf(id, "._-")
}

func validToken(token string) bool {
	return token != "" && len(token) <= maxToken && madeOf(token, "_-")
}

// madeOf reports whether s has only ASCII letters, digits and the extra bytes.
func madeOf(s, extra string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && strings.IndexByte(extra, c) < 0 {
			return false
		}
	}
	return true
}
