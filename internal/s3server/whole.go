package s3server

import (
	"errors"
	"io"

	"github.com/versity/versitygw/s3err"
)

// whole is a body that is an object only if all of it came. The library would store what had arrived when a connection
// ended in the middle of a body, as the kernel ends those of a client that was killed, and answer with success: its
// HTTP server returns io.EOF where the connection ended in order, and where it returns io.ErrUnexpectedEOF the
// library's own readers take that for the end, unless a checksum was sent.
type whole struct {
	io.Reader
	left int64 // bytes that must still come
}

// form is the file of a form, which ends at a boundary. The library's size for it is an upper limit.
type form interface{ Length() int64 }

// newWhole returns body, which was announced with size bytes.
func newWhole(body io.Reader, size *int64) io.Reader {
	if body == nil {
		return nil
	}
	w := &whole{Reader: body}
	if _, isForm := body.(form); !isForm && size != nil {
		w.left = *size
	}
	return w
}

// Read reads from the body. What is lacking is an error of S3: the library's readers pass only those on.
func (w *whole) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	w.left -= int64(n)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) && w.left > 0 {
		err = s3err.GetAPIError(s3err.ErrIncompleteBody)
	}
	return n, err
}
