package storage

import (
	"context"
	"io"
	"slices"
	"strings"
	"time"
)

// Codes that those who continue a copy act upon. Drivers of [Ranger] and [PartDestination] use them.
const (
	// CodeSourceShort: the source has, or gave, fewer bytes than it said.
	CodeSourceShort = "source_short"
	// CodeSourceChanged: the source is not, or not any more, what its [Mark] says. Its class is Corrupt.
	CodeSourceChanged = "source_changed"
	// CodeNoRanges: the source gives itself only as a whole. Its class is Invalid.
	CodeNoRanges = "source_no_ranges"
	// CodeRangeWrong: the source gave another part than the one that was asked for. Its class is Corrupt.
	CodeRangeWrong = "source_range_wrong"
	// CodeUploadGone: what parts were written to is not there: it was completed or removed, or never begun. Its class is Conflict.
	CodeUploadGone = "upload_gone"
	// CodeDestinationExists: something is there, and [Content.OnlyNew] forbids to replace it. Its class is Conflict.
	CodeDestinationExists = "destination_exists"
)

// Mark names one state of a source. What was read of it under the same mark belongs together.
type Mark struct {
	ETag     string    `json:"etag,omitempty"` // as the source told it; "" if it did not
	Modified time.Time `json:"modified,omitzero"`
	Size     int64     `json:"size"` // bytes, or [UnknownSize]
}

// Strong reports whether parts that are read at different times under this mark can be put together: a strong ETag vouches for each
// byte, and so does a time of modification together with the size (RFC 9110, 8.8). A driver tells no time that may still become that of
// another content.
func (m Mark) Strong() bool {
	if m.Size == UnknownSize {
		return false
	}
	return m.ETag != "" && !strings.HasPrefix(m.ETag, "W/") || m.ETag == "" && !m.Modified.IsZero()
}

// Equal reports whether two marks name the same state.
func (m Mark) Equal(o Mark) bool {
	return m.ETag == o.ETag && m.Modified.Equal(o.Modified) && m.Size == o.Size
}

// Mark names the state of an open source.
func (o *Object) Mark() Mark { return Mark{ETag: o.ETag, Modified: o.Modified, Size: o.Size} }

// Ranger is a source that can be read from the middle.
type Ranger interface {
	Source
	// OpenRange starts reading length bytes (UnknownSize: all that follow) at an offset, in the state that mark names, which is
	// strong. Object.Size is the number of bytes that Body will give. An offset at the end gives none. A source in another state
	// answers [CodeSourceChanged], one that cannot be read in parts [CodeNoRanges]. What reaches beyond mark.Size is cut there; an
	// offset beyond it, or a negative one, is refused with class Invalid.
	OpenRange(ctx context.Context, mark Mark, offset, length int64) (*Object, error)
}

// PartLimits are what a destination can take in parts. A zero Max and Count are no limits.
type PartLimits struct {
	Min, Max int64 // bytes of a part; Min does not hold for the last one
	Count    int   // parts
}

// PartContent is what parts are to become.
type PartContent struct {
	Size        int64  // bytes, exact
	PartSize    int64  // of every part but the last
	ContentType string // "" leaves the choice to the destination
	// OnlyNew is as in [Content].
	OnlyNew bool
	// Sparse and Trail, in Begin, are as in [Content].
	Sparse bool
	Trail  string
	// Fresh, in Complete, says that a stale writer may still be at what parts were written to. The destination then shows
	// content that such a one cannot reach.
	Fresh bool
}

// Count is the number of parts: 1 of content without bytes, which has one part without bytes.
func (c PartContent) Count() int {
	if c.PartSize <= 0 || c.Size <= c.PartSize {
		return 1
	}
	return int((c.Size-1)/c.PartSize) + 1
}

// Span tells where a part stands. Only numbers from 1 to Count are parts.
func (c PartContent) Span(number int) (offset, size int64) {
	offset = int64(number-1) * c.PartSize
	if number == c.Count() {
		return offset, c.Size - offset
	}
	return offset, c.PartSize
}

// Check reports what lacks or is not as it should be among the parts that are to make up the content.
func (c PartContent) Check(op, subject string, parts []PartStored) error {
	if c.PartSize <= 0 || c.Size < 0 {
		return Errorf(Invalid, "part_size_invalid", op, subject, "parts of %d bytes cannot make up %d bytes", c.PartSize, c.Size)
	}
	count := c.Count()
	have := make([]bool, count)
	for _, part := range parts {
		if part.Number < 1 || part.Number > count || have[part.Number-1] {
			return Errorf(Invalid, "part_unknown", op, subject, "part %d of %d is there twice or not one", part.Number, count)
		}
		if _, size := c.Span(part.Number); part.Size != size {
			return Errorf(Corrupt, "part_size_wrong", op, subject, "part %d has %d bytes, not %d", part.Number, part.Size, size)
		}
		have[part.Number-1] = true
	}
	if missing := slices.Index(have, false); missing >= 0 {
		return Errorf(Invalid, "part_missing", op, subject, "part %d of %d is not stored", missing+1, count)
	}
	return nil
}

// Part is a stretch of content.
type Part struct {
	Number int   // from 1
	Offset int64 // (Number-1) * PartContent.PartSize
	Size   int64 // bytes, exact
	Body   io.Reader
}

// PartStored tells what became of a part. It may be kept and given to Complete by another process.
type PartStored struct {
	Number   int    `json:"n"`
	Size     int64  `json:"size"`
	ETag     string `json:"etag,omitempty"`     // as the receiver told it; "" if it has none
	Checksum string `json:"checksum,omitempty"` // "crc64nvme:" and the base64 of what was read, where the driver computes it
}

// PartDestination is a destination that can be written in parts, in any order, at once and by several processes, and by others
// after the death of those that began. Put writes it as a whole as ever.
type PartDestination interface { //nolint:interfacebloat // the five steps of one protocol, each of which a driver must have
	Destination
	PartLimits() PartLimits
	// Begin makes what parts are written to, which nobody sees, and returns its name. The name may be kept and told to
	// other processes: it is no credential.
	Begin(ctx context.Context, content PartContent) (upload string, err error)
	// PutPart stores a part. When it returns, the part survives what a destination written by Put survives. A part that is stored
	// once more replaces the former. An error of Part.Body is returned wrapped.
	PutPart(ctx context.Context, upload string, part Part) (PartStored, error)
	// Complete makes the content visible, once every part of it is stored, and asks ready (nil: always) right before that.
	// What was completed already, by a call whose answer was lost, is a success again where the driver can tell; else it is
	// [CodeUploadGone].
	Complete(ctx context.Context, upload string, content PartContent, parts []PartStored, ready func() error) (Stored, error)
	// Abort removes what parts were written to. That it is not there is no error.
	Abort(ctx context.Context, upload string) error
}

// UploadReader is a [PartDestination] whose parts can be read before they are visible.
type UploadReader interface {
	// OpenUpload starts reading what was stored, from an offset to the end of the content. Parts that are missing read as zeros.
	OpenUpload(ctx context.Context, upload string, offset int64) (io.ReadCloser, error)
}

// PartLister is a [PartDestination] that can tell which parts it has.
type PartLister interface {
	// ListParts returns the parts that are stored, in order. Their Checksum is "" where the store does not tell it. An upload that is not there is
	// [CodeUploadGone].
	ListParts(ctx context.Context, upload string) ([]PartStored, error)
}

// Remover is a [Destination] of which what is there can be removed.
type Remover interface {
	// Remove removes what is there. That there is nothing is no error.
	Remove(ctx context.Context) error
}

// BegunDiscarder is a [PartDestination] that names what parts are written to by itself: a caller that dies right after Begin, or does not get
// its answer, does not know the name.
type BegunDiscarder interface {
	// DiscardBegun removes what Begin made at this destination around a time of the caller's clock, a few minutes after it included, and
	// no part was stored in. What somebody else has just begun at the same place may be among it. That there is none is no error.
	DiscardBegun(ctx context.Context, began time.Time) error
}

// DirectCopy is a copy that the store is to make itself.
type DirectCopy struct {
	// Mark is the state of the source that is to be copied. In another one the copy fails with [CodeSourceChanged]. Without an ETag
	// and of [UnknownSize] it is the one that it is found in.
	Mark Mark
	// OnlyNew is as in [Content].
	OnlyNew bool
	// Trail is as in [Content]. It takes the place of what the source shows; the rest that stands beside the content is copied.
	Trail string
	// Ready is asked right before the copy may become visible; nil: always.
	Ready func() error
}

// DirectCopier is a destination that can take over a source of the same store without a byte passing through this process.
type DirectCopier interface {
	// CopyFrom copies source, whole. took is false, and nothing has happened, if source is of another kind or another store, or the
	// store cannot do it as asked. Stored.Compared says that the store tells the same size and the same checksum, or ETag where it is
	// a digest, of both.
	CopyFrom(ctx context.Context, source Source, c DirectCopy) (stored Stored, took bool, err error)
}

// Names of digests in [Digests.Of], and how they are written.
const (
	DigestMD5       = "md5"       // lowercase hex
	DigestSHA256    = "sha256"    // lowercase hex
	DigestCRC32C    = "crc32c"    // base64, of the whole content
	DigestCRC64NVME = "crc64nvme" // base64, of the whole content
)

// Digests are what a store knows of the content it holds: it computed or compared them when the content was written.
type Digests struct {
	Mark Mark              // the state that they are of
	Of   map[string]string // by name
}

// Digested is a [Source] that knows digests of its content without being read.
type Digested interface {
	// Digests asks for them; there may be none.
	Digests(ctx context.Context) (Digests, error)
}
