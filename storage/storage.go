// Package storage moves bytes from a source and to a destination. It knows nothing of batches, items
// or queues; drivers stand in the packages below it: sandbox (directories), http, object (S3).
//
// What every driver guarantees, and package storagetest checks:
//
//   - A destination becomes visible whole or not at all, as the last step of Put, after Content.Ready
//     returned nil. After any error nothing new is visible and nothing half-done is left by a driver that
//     could still clean up.
//   - Bytes are stored as they were read: nothing is decompressed or re-encoded.
//   - Memory does not grow with the size of the content.
//   - Every error is (or wraps) an [*Error] whose text and cause hold no credential.
//   - Every wait ends: by the context, or by a limit that the driver names in its error.
package storage

import (
	"context"
	"io"
	"os"
	"time"
)

// UnknownSize is the size of content whose length its source does not tell.
const UnknownSize int64 = -1

// Source is something that can be read. It may be opened again for another attempt.
type Source interface {
	// Open starts reading from the first byte. The caller closes Object.Body.
	Open(ctx context.Context) (*Object, error)
}

// Object is an open source.
type Object struct {
	Body        io.ReadCloser // its Read errors are *Error; io.EOF only after Size bytes, where Size is known
	Size        int64         // bytes, or UnknownSize
	ContentType string        // "" if not told
	ETag        string        // "" if not told
	Modified    time.Time     // zero if not told
	Status      int           // HTTP status of the answer; 0 if there was none
	Ranges      bool          // the source says that a part of it can be asked for; false: it does not say
	// Sparse says that the source takes less space than it has bytes: it is a file with holes.
	Sparse bool
	// Digests are what the source says of all that Body will give, by name as in [Digests]; nil: nothing.
	Digests map[string]string
}

// FileSender is the body of a file: the system can copy it to another one, and no byte passes through this process. A body that somebody
// digests is none.
type FileSender interface {
	io.Reader
	// SendFile is a Read into a file, where that is written next: it gives at most that many bytes, and some or io.EOF at the end. A
	// hole stays one, so the file has nothing there yet. It has the errors of Read, and those of the system as they are.
	SendFile(to *os.File, most int64) (n int64, err error)
}

// A trail is metadata of an object, with this name.
const (
	TrailName = "copyfleet-trail"
	MaxTrail  = 2 << 10 // bytes; S3 takes no more metadata, all together
)

// Content is what a destination is to hold.
type Content struct {
	Body        io.Reader
	Size        int64  // exact, in bytes; UnknownSize only for a destination that does not NeedSize
	ContentType string // "" leaves the choice to the destination
	// OnlyNew forbids to replace what is there, be it that it came while the content was written: Put then fails with
	// [CodeDestinationExists]. A destination that cannot tell refuses it with class Invalid, code only_new_unsupported.
	OnlyNew bool
	// Sparse allows a destination that can to give no space to zeros.
	Sparse bool
	// Trail is what led to the content, for those that read it to see: printable ASCII without spaces at its ends, at most [MaxTrail] bytes. A
	// destination that keeps nothing beside its content ignores it. "": the destination shows none, whatever it showed before.
	Trail string

	// Ready is called once, when the destination has taken every byte it can take without becoming visible and
	// before the step that makes it so. An error from it means: do not. A nil Ready is always ready.
	// A destination that becomes visible with its last byte (an HTTP upload) holds that byte back for it.
	Ready func() error
}

// Stored tells what a destination holds after Put.
type Stored struct {
	Bytes int64
	ETag  string // as the receiver told it; "" if it did not
	// Status is the HTTP status of the receiver's answer; 0 if there was none.
	Status int
	// Checksum is that of what the receiver stored, as it told it: "crc64nvme:" and base64; "" if it did not.
	Checksum string
	// Compared says that the receiver has a checksum of what it stored, and that it is that of the bytes that were read.
	Compared bool
	// Unpacked is what an archive became; nil: the content is kept as it came.
	Unpacked *Unpacked
}

// Unpacked counts what an archive was unpacked to.
type Unpacked struct {
	Files int   // regular files and links
	Bytes int64 // of the regular files
}

// TreePolicy is what unpacking an archive does about what is there.
type TreePolicy int

// The policies.
const (
	// MergeTree keeps what is there, but for files that the archive has, too. These are replaced one by one, each whole.
	MergeTree TreePolicy = iota
	// ReplaceTree puts the unpacked directory in the place of what is there, all at once where the driver can.
	ReplaceTree
	// NewTree fails with [CodeDestinationExists] if anything is there.
	NewTree
	// RepeatedTree is NewTree for who may have shown the tree before, and died or failed before that was known: what is there is no obstacle if it is
	// what the archive becomes, or, where a tree is not shown all at once, a part of it.
	RepeatedTree
)

// TreeLimits bound what is unpacked. What exceeds them fails with class Invalid, and nothing is visible.
type TreeLimits struct {
	Entries int   // entries of the archive
	Depth   int   // elements of a path
	Bytes   int64 // of all files; an archive of more is refused before they are written
}

// Stat is what a source tells of itself without being read.
type Stat struct {
	Size        int64     // bytes, or UnknownSize
	ContentType string    // "" if not told
	ETag        string    // "" if not told; weak ones begin with W/
	Modified    time.Time // zero if not told
	Status      int       // HTTP status of the answer, a 206 included; 0 if there was none
	Ranges      bool      // a part of it can be asked for
}

// Look is what is known of a destination that was not touched.
type Look struct {
	Checked bool   // it was looked for what is there; false: that cannot be done without writing
	Exists  bool   // something is there, which would be replaced
	Size    int64  // of what is there, in bytes
	Makes   string // what would be made first: "sandbox", "directory", "bucket"; "": nothing
	Free    int64  // bytes that are free there, or UnknownSize
}

// Answer is what the receiver of a notice said.
type Answer struct {
	Status  int    // of HTTP; 0: it did not answer
	Excerpt []byte // the beginning of its answer, at most 1 KiB, if it refused; as it came
}

// Destination is something that can be written as a whole.
type Destination interface {
	// NeedsSize reports whether Put requires Content.Size.
	NeedsSize() bool
	// Put stores content and makes it visible as its last step. An error that Content.Body or Content.Ready
	// returned is returned wrapped, so that errors.Is and errors.As find it.
	Put(ctx context.Context, content Content) (Stored, error)
}
