package archive

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits in bytes. An element is limited to 255 by the file systems themselves.
const (
	maxPath    = 4096
	maxElement = 255
)

// clean returns the path that an entry is known by, "" for the tree itself, which only a directory can be.
func clean(name string, directory bool) (string, error) {
	path := name
	if directory {
		path = strings.TrimRight(path, "/")
		if path == "" {
			return "", refuse(CodePathInvalid, name, "the path is empty or absolute")
		}
	}
	for strings.HasPrefix(path, "./") {
		path = path[len("./"):]
	}
	switch {
	case directory && path == ".":
		return "", nil
	case path == "":
		return "", refuse(CodePathInvalid, name, "the path is empty")
	case path[0] == '/':
		return "", refuse(CodePathInvalid, name, "the path is absolute")
	case len(path) > maxPath:
		return "", refuse(CodePathTooLong, name, "the path is longer than %d bytes", maxPath)
	case !plain(path):
		return "", refuse(CodePathInvalid, name, "the path is not valid UTF-8 or has control characters")
	}
	for element := range strings.SplitSeq(path, "/") {
		switch {
		case element == "..":
			return "", refuse(CodePathInvalid, name, `the path has a ".."`)
		case element == "" || element == ".":
			return "", refuse(CodePathInvalid, name, "the path is not clean, or what is no directory ends in a slash")
		case len(element) > maxElement:
			return "", refuse(CodePathTooLong, name, "a name in the path is longer than %d bytes", maxElement)
		}
	}
	return path, nil
}

func plain(s string) bool { return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl) }

// checkTarget refuses the target of a symbolic link at path that might lead out of the tree.
func checkTarget(path, target string) error {
	switch {
	case target == "":
		return refuse(CodeLinkEscapes, path, "the link has no target")
	case len(target) >= maxPath: // symlink(2) counts the NUL
		return refuse(CodePathTooLong, path, "the target of the link is longer than %d bytes", maxPath-1)
	case !plain(target):
		return refuse(CodePathInvalid, path, "the target of the link is not valid UTF-8 or has control characters")
	case target[0] == '/':
		return refuse(CodeLinkEscapes, path, "the target of the link is absolute")
	}
	up, down := 0, false
	for element := range strings.SplitSeq(target, "/") {
		switch {
		case element == "" || element == ".":
		case element != "..":
			down = true
		case down:
			return refuse(CodeLinkEscapes, path, `the target of the link has a ".." behind a name: where that leads, another link decides`)
		default:
			up++
		}
	}
	if up > strings.Count(path, "/") {
		return refuse(CodeLinkEscapes, path, "the link leads out of the archive's directory")
	}
	return nil
}
