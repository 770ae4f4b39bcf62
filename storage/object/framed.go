package object

import (
	"io"
	"strconv"

	"github.com/copyfleet/copyfleet/storage"
)

const (
	frameSize  = 1 << 20 // bytes of content in a frame; stores may hold one in memory
	sumLength  = 12      // bytes of an encoded checksum
	trailerKey = "x-amz-checksum-crc64nvme"
)

// framed is content with its checksum behind it, in the form that S3 calls aws-chunked, with an unsigned trailer: frames with their
// length before them, an empty frame, and the checksum. The store compares it with what arrived, and refuses what differs. Source:
// AWS, "Signature Calculations for the Authorization Header: Including Trailing Headers (Chunked Upload)".
type framed struct {
	body io.Reader
	size int64 // bytes of content
	what string
	sum  sum

	left    int64  // bytes of content that are still to come
	inFrame int64  // of them, in this frame
	frame   []byte // what is to be sent before the next content
	ended   bool
	change  func(string) string // of the checksum, for a question; nil: it is sent as it is
}

func newFramed(body io.Reader, size int64, what string) *framed {
	f := &framed{body: body, size: size, what: what, sum: newSum(), left: size}
	f.nextFrame(false)
	return f
}

// framedLength is the number of bytes that content of a size becomes.
func framedLength(size int64) int64 {
	around := func(n int64) int64 { return int64(len(strconv.FormatInt(n, 16))) + 4 }
	length := size/frameSize*around(frameSize) + size
	if rest := size % frameSize; rest > 0 {
		length += around(rest)
	}
	return length + int64(len("0\r\n"+trailerKey+":"+"\r\n\r\n")) + sumLength
}

// nextFrame prepares what stands before the next content. after: a frame has just ended.
func (f *framed) nextFrame(after bool) {
	f.frame = f.frame[:0]
	if after {
		f.frame = append(f.frame, "\r\n"...)
	}
	f.inFrame = min(f.left, frameSize)
	if f.inFrame > 0 {
		f.frame = strconv.AppendInt(f.frame, f.inFrame, 16)
		f.frame = append(f.frame, "\r\n"...)
	}
}

// Read implements io.Reader. Content that has not the length it was announced with is an error: the frames would hide that.
func (f *framed) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	before := copy(p, f.frame)
	f.frame, p = f.frame[before:], p[before:]
	switch {
	case len(p) == 0 || f.ended && before > 0:
		return before, nil
	case f.ended:
		return 0, io.EOF
	case f.inFrame == 0 && before > 0:
		return before, nil
	case f.inFrame == 0:
		return 0, f.end()
	}
	n, err := f.content(p)
	return before + n, err
}

// content reads a piece of the content.
func (f *framed) content(p []byte) (int, error) {
	n, err := f.body.Read(p[:min(int64(len(p)), f.inFrame)])
	_, _ = f.sum.Write(p[:n])
	f.left, f.inFrame = f.left-int64(n), f.inFrame-int64(n)
	if f.inFrame == 0 && n > 0 {
		f.nextFrame(true)
	}
	if err == io.EOF { //nolint:errorlint // an error that wraps io.EOF is a broken connection, not the end
		if err = nil; f.left > 0 {
			err = short(f.what, f.size-f.left, f.size)
		}
	}
	return n, err
}

// end looks whether the content ends where it should, and prepares the trailer.
func (f *framed) end() error {
	if err := expectEnd(f.body, f.what, f.size); err != nil {
		return err
	}
	checksum := f.sum.encoded()
	if f.change != nil {
		checksum = f.change(checksum)
	}
	f.frame = append(f.frame[:0], "0\r\n"+trailerKey+":"+checksum+"\r\n\r\n"...)
	f.ended = true
	return nil
}

// maxEmptyReads is how many reads in a row may return neither bytes nor an error.
const maxEmptyReads = 100

// expectEnd returns an error if body has not ended.
func expectEnd(body io.Reader, what string, size int64) error {
	var one [1]byte
	for range maxEmptyReads {
		n, err := body.Read(one[:])
		switch {
		case n > 0:
			return storage.Errorf(storage.Corrupt, "source_long", "write", what, "the content is longer than the %d bytes announced", size)
		case err == io.EOF: // an error that wraps io.EOF is a broken connection, not the end
			return nil
		case err != nil:
			return err
		}
	}
	return io.ErrNoProgress
}

func short(what string, got, size int64) error {
	return storage.Errorf(storage.Interrupted, "source_short", "write", what, "the content ended after %d of %d bytes", got, size)
}
