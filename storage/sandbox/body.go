package sandbox

import (
	"context"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/copyfleet/copyfleet/storage"
)

// state is what tells one content of a file from another.
type state struct {
	size     int64
	modified time.Time // anybody may set it
	blocks   int64     // of space, of 512 bytes; it does not tell contents apart
	changed  time.Time // of the inode; nobody can set it, but a new name or mode of the file changes it too
}

// etag names the state. That a file got another name or mode in between is taken for a change: better once too often than parts of two
// contents put together.
func (s state) etag() string {
	return `"` + strconv.FormatInt(s.changed.Unix(), 36) + "-" + strconv.FormatInt(int64(s.changed.Nanosecond()), 36) + `"`
}

// is reports whether the state is the one that a mark names.
func (s state) is(m storage.Mark) bool {
	return s.size == m.Size && s.modified.Equal(m.Modified) && (m.ETag == "" || m.ETag == s.etag())
}

// object is the file, open in this state.
func (s state) object(b *body, size int64) *storage.Object {
	return &storage.Object{Body: b, Size: size, ETag: s.etag(), Modified: s.modified, Ranges: true, Sparse: s.hollow()}
}

// OpenRange opens the file at an offset, if it is still in the state that mark names.
func (s *source) OpenRange(ctx context.Context, mark storage.Mark, offset, length int64) (*storage.Object, error) {
	if offset < 0 || offset > mark.Size {
		return nil, storage.Errorf(storage.Invalid, "range_invalid", "open", s.place.subject(), "byte %d is none of its %d", offset, mark.Size)
	}
	file, is, err := s.openRegular(ctx)
	if err != nil {
		return nil, err
	}
	if !is.is(mark) {
		_ = file.Close()
		return nil, storage.Errorf(storage.Corrupt, storage.CodeSourceChanged, "open", s.place.subject(), "the file is not what it was")
	}
	if _, err := file.Seek(offset, io.SeekStart); err != nil {
		_ = file.Close()
		return nil, s.fail(err)
	}
	limit := mark.Size
	if length != storage.UnknownSize {
		limit = offset + min(max(0, length), limit-offset)
	}
	b := &body{ctx: ctx, source: s, file: file, is: is, read: offset, limit: limit, ranged: true}
	return is.object(b, limit-offset), nil
}

// body reads a source and holds it to what it was when it was opened. It is used by one goroutine at a time, except
// for Close.
type body struct {
	ctx    context.Context
	source *source
	file   *os.File
	is     state // when it was opened
	ranged bool  // it belongs together with others
	read   int64 // how far in the file it is
	limit  int64 // where in the file it ends
	end    error // what every further Read returns: io.EOF, or why the file is not what it was
}

// Read asks for one byte more than is left of the file where p has room for it, so that a file that grew is noticed without a
// further call. The last bytes are given only once the file turned out to be unchanged.
func (b *body) Read(p []byte) (int, error) {
	if err := stopped(b.ctx, "read", b.source.place); err != nil {
		return 0, err
	}
	if b.end != nil {
		return 0, b.end
	}
	if len(p) == 0 {
		return 0, nil
	}
	left := b.limit - b.read
	n, err := b.file.Read(p[:min(int64(len(p)), left+b.probe())])
	if err != nil && err != io.EOF { // os.File returns io.EOF itself
		return 0, b.source.store.fail("read", b.source.place, err)
	}
	if int64(n) < left && n > 0 {
		b.read += int64(n)
		return n, nil
	}
	if b.end = b.verify(int64(n), left, int64(len(p)) > left); b.end != nil {
		return 0, b.end
	}
	b.read, b.end = b.limit, io.EOF
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// SendFile is Read, by copy_file_range(2), which takes half the processor time of reading and writing, and none at all on file systems
// that share blocks. Unlike Read it gives the last bytes before the file turned out to be unchanged.
func (b *body) SendFile(to *os.File, most int64) (int64, error) {
	if err := stopped(b.ctx, "read", b.source.place); err != nil {
		return 0, err
	}
	if b.end != nil || most <= 0 {
		return 0, b.end
	}
	var n int64
	if left := b.limit - b.read; left > 0 {
		var err error
		if b.is.hollow() {
			n, err = sendStretch(to, b.file, b.read, min(most, left))
		} else {
			n, err = to.ReadFrom(io.LimitReader(b.file, min(most, left)))
		}
		if err != nil {
			return n, err
		}
		b.read += n
		if n > 0 {
			return n, nil
		}
	}
	if b.end = b.verify(0, b.limit-b.read, false); b.end == nil {
		b.end = io.EOF
	}
	return 0, b.end
}

// probe is how many bytes are asked for behind the last one.
func (b *body) probe() int64 {
	if b.limit < b.is.size {
		return 0
	}
	return 1
}

// verify checks the file at its end: n bytes came where left were expected, probed tells if more could have come.
func (b *body) verify(n, left int64, probed bool) error {
	if n < left {
		return b.corrupt("source_short", "the file ended after %d of %d bytes", b.read+n, b.is.size)
	}
	if n == left && !probed && b.probe() > 0 {
		extra, err := b.file.ReadAt(make([]byte, 1), b.is.size)
		if err != nil && err != io.EOF { // os.File returns io.EOF itself
			return b.source.store.fail("read", b.source.place, err)
		}
		n += int64(extra)
	}
	if n > left {
		return b.corrupt(storage.CodeSourceChanged, "the file grew beyond its %d bytes while it was read", b.is.size)
	}
	now, err := b.source.stateOf(b.file)
	if err != nil {
		return b.source.fail(err)
	}
	if now.size != b.is.size || !now.modified.Equal(b.is.modified) || b.ranged && !now.changed.Equal(b.is.changed) {
		return b.corrupt(storage.CodeSourceChanged, "the file was modified while it was read")
	}
	return nil
}

func (b *body) corrupt(code, format string, args ...any) error {
	e := storage.Errorf(storage.Corrupt, code, "read", b.source.place.subject(), format, args...)
	e.Hint = "Copy it when nothing writes to it any more."
	return e
}

// Close closes the file.
func (b *body) Close() error { return b.file.Close() }
