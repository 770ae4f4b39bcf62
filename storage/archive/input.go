package archive

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/copyfleet/copyfleet/storage"
)

const (
	blockSize = 512 // what a tar is made of, in bytes
	// maxHeader is how many bytes the headers before one entry may have, extended ones and the padding of the former entry included.
	maxHeader = 64 << 10
	// maxTrailer is how many zeros may follow the end of an archive, in bytes. Programs fill up to the size of a tape's record.
	maxTrailer = 16 << 20
	// maxIdleReads is how many times in a row a body may give neither bytes nor an error.
	maxIdleReads = 100
)

var errHeaderTooLarge = errors.New("the headers are too long")

// input is the body as archive/tar reads it. It is no io.Seeker, so that every byte is read.
type input struct {
	body   *bufio.Reader
	offset int64 // how much was read
	header bool  // it reads headers: at most left bytes more
	left   int64
	zeros  int64 // of what was read of headers, how many zeros are the last
	failed error // what the body failed with; its end is no failure
}

func (in *input) Read(p []byte) (int, error) {
	if in.failed != nil {
		return 0, in.failed
	}
	if in.header {
		if in.left == 0 && len(p) > 0 {
			in.failed = errHeaderTooLarge
			return 0, in.failed
		}
		p = p[:min(int64(len(p)), in.left)]
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := in.some(p)
	in.offset += int64(n)
	if in.header {
		in.left -= int64(n)
		in.countZeros(p[:n])
	}
	if err != nil && err != io.EOF { //nolint:errorlint // an error that wraps io.EOF is a broken connection, not the end
		in.failed = err
	}
	return n, err
}

// some reads something, or says why not.
func (in *input) some(p []byte) (int, error) {
	for range maxIdleReads {
		if n, err := in.body.Read(p); n > 0 || err != nil {
			return n, err
		}
	}
	return 0, io.ErrNoProgress
}

func (in *input) countZeros(p []byte) {
	tail := len(bytes.TrimRight(p, "\x00"))
	if tail > 0 {
		in.zeros = 0
	}
	in.zeros += int64(len(p) - tail)
}

// magics are how other files begin that are taken for archives.
var magics = []struct{ begin, name string }{
	{"\x1f\x8b", "gzip"},
	{"BZh", "bzip2"},
	{"\xfd7zXZ\x00", "xz"},
	{"\x28\xb5\x2f\xfd", "Zstandard"},
	{"\x04\x22\x4d\x18", "LZ4"},
	{"PK\x03\x04", "zip"},
	{"PK\x05\x06", "zip"},
	{"7z\xbc\xaf\x27\x1c", "7-Zip"},
}

// sniff refuses what is no plain tar by how it begins: archive/tar would say only that it is none.
func (in *input) sniff() error {
	begin, err := in.body.Peek(8)
	if err != nil && err != io.EOF {
		return err
	}
	if len(begin) == 0 {
		return whole(storage.Corrupt, CodeTruncated, "it has no bytes; an archive of nothing has two blocks of zeros")
	}
	for _, m := range magics {
		// A tar begins with a name, which may well be BZhang: then the checksum of its header decides.
		if bytes.HasPrefix(begin, []byte(m.begin)) && !in.tarHeader() {
			e := whole(storage.Invalid, CodeCompressed, "it is a %s file, not a plain tar", m.name)
			e.Hint = "Send the tar uncompressed: tar -cf, without -z, -j, -J or --zstd."
			return e
		}
	}
	return nil
}

// tarHeader reports whether the body begins with a header that has the magic of POSIX or GNU.
func (in *input) tarHeader() bool {
	block, err := in.body.Peek(blockSize)
	return err == nil && bytes.HasPrefix(block[257:], []byte("ustar"))
}

// finish reads the body to its end, which holds zeros only.
func (in *input) finish() error {
	in.header = false
	buffer := make([]byte, 32<<10)
	for rest := int64(0); ; {
		n, err := in.Read(buffer)
		rest += int64(n)
		if len(bytes.TrimLeft(buffer[:n], "\x00")) > 0 {
			return whole(storage.Invalid, CodeTrailingData, "something follows its end")
		}
		if rest > maxTrailer {
			return whole(storage.Invalid, CodeTrailingData, "more than %d zeros follow its end", maxTrailer)
		}
		if err == io.EOF { //nolint:errorlint // as in Read
			return nil
		}
		if err != nil {
			return err
		}
	}
}
