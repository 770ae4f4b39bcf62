package archive

import (
	"strconv"

	"github.com/copyfleet/copyfleet/storage"
)

// Codes of what is wrong with an archive. The class is Invalid, but for CodeTruncated.
const (
	CodeCompressed     = "archive_compressed"       // it is a compressed file or a zip
	CodeMalformed      = "archive_malformed"        // it is no tar, or not any more from some entry on
	CodeTruncated      = "archive_truncated"        // it ends too early; class Corrupt
	CodeTrailingData   = "archive_trailing_data"    // something follows its end
	CodeHeaderTooLarge = "archive_header_too_large" // the headers of one entry are too long
	CodePathInvalid    = "archive_path_invalid"     // a path is not relative, not clean, or has characters that no path may have
	CodePathTooLong    = "archive_path_too_long"
	CodeTooDeep        = "archive_too_deep"
	CodeTooMany        = "archive_too_many_entries"
	CodeTooLarge       = "archive_too_large"        // its files have too many bytes
	CodeKind           = "archive_kind_unsupported" // a device, a FIFO, a sparse file, …
	CodeDuplicate      = "archive_duplicate"        // a path is there twice
	CodeBlocked        = "archive_path_blocked"     // a path leads through what is not a directory
	CodeLinkEscapes    = "archive_link_escapes"     // a symbolic link leaves the tree, or might
	CodeHardLink       = "archive_hard_link_invalid"
)

const op = "unpack"

// maxSubject is how much of a name an error tells, in bytes.
const maxSubject = 200

// Subject is how errors name an entry: the name quoted, and cut if it is long.
func Subject(name string) string {
	if len(name) > maxSubject {
		return "archive entry " + strconv.QuoteToASCII(name[:maxSubject]) + "…"
	}
	return "archive entry " + strconv.Quote(name)
}

// refuse is the error for an entry.
func refuse(code, name, format string, args ...any) error {
	return storage.Errorf(storage.Invalid, code, op, Subject(name), format, args...)
}

// whole is the error for the archive itself.
func whole(class storage.Class, code, format string, args ...any) *storage.Error {
	return storage.Errorf(class, code, op, "the archive", format, args...)
}
