// Package spool turns a body of unknown length into one of known length, for receivers that must be told the length
// before the first byte (a presigned S3 PUT, an HTTP form).
//
// It guarantees that the disk holds at most the limit, that memory does not grow with the content, and that
// nothing remains after Close or after the death of the process: the file has no name once it is open. A crash
// between its creation and the removal of its name, two system calls apart, leaves an empty file named spool-*.
// It does not sync: what is spooled serves the attempt that spooled it.
package spool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/copyfleet/copyfleet/storage"
)

// bufferSize is what a copy in progress holds in memory, in bytes.
const bufferSize = 256 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// maxIdleReads is how many times in a row a body may give neither bytes nor an error.
const maxIdleReads = 100

// subject is what errors of this package are about.
const subject = "spool"

// File is content on disk, read from its first byte on. It is not safe for concurrent use.
type File struct {
	file *os.File
	size int64
}

// Content copies body, up to io.EOF, to a file without a name in the directory dir, which must exist, and returns it
// rewound. The caller closes it.
//
// A body of more than limit bytes fails with class TooLarge and code spool_limit, after at most one buffer (256 KiB)
// more than limit was read; a limit of 0 takes an empty body only, and a negative one is 0. A full disk fails with
// class NoSpace. An error of body is returned wrapped. The context is looked at before every Read; that a Read
// itself ends with the context is the business of body.
func Content(ctx context.Context, body io.Reader, dir string, limit int64) (*File, error) {
	file, err := create(dir)
	if err != nil {
		return nil, failed("create", err)
	}
	size, err := fill(ctx, file, body, max(0, limit))
	if err == nil {
		if _, err = file.Seek(0, io.SeekStart); err != nil {
			err = failed("rewind", err)
		}
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return &File{file: file, size: size}, nil
}

// Size returns the length in bytes.
func (f *File) Size() int64 { return f.size }

// Read reads on.
func (f *File) Read(p []byte) (int, error) {
	n, err := f.file.Read(p)
	if err != nil && err != io.EOF { // os.File returns io.EOF itself
		return n, failed("read", err)
	}
	return n, err
}

// Rewind makes the next Read start from the first byte again.
func (f *File) Rewind() error {
	if _, err := f.file.Seek(0, io.SeekStart); err != nil {
		return failed("rewind", err)
	}
	return nil
}

// Close frees the disk space. Reads fail afterwards.
func (f *File) Close() error {
	if err := f.file.Close(); err != nil {
		return failed("close", err)
	}
	return nil
}

// create makes a file and takes its name away.
func create(dir string) (*os.File, error) {
	file, err := os.CreateTemp(dir, "spool-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(file.Name()); err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

// fill copies the body and returns its length.
func fill(ctx context.Context, file *os.File, body io.Reader, limit int64) (int64, error) {
	buffer, _ := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buffer)
	var total int64
	for {
		n, end, err := read(ctx, body, buffer[:])
		if err != nil {
			return total, err
		}
		total += int64(n)
		if total > limit {
			return total, storage.Errorf(storage.TooLarge, "spool_limit", "spool", subject,
				"content of unknown length is larger than the %d bytes that may be set aside for it", limit)
		}
		if n > 0 {
			if _, err := file.Write(buffer[:n]); err != nil {
				return total, failed("write", err)
			}
		}
		if end {
			return total, nil
		}
	}
}

// read fills the buffer. end tells that the body is over.
func read(ctx context.Context, body io.Reader, buffer []byte) (n int, end bool, err error) {
	for idle := 0; n < len(buffer); {
		if ctx.Err() != nil {
			return n, false, &storage.Error{
				Class: storage.Interrupted, Code: "interrupted", Op: "spool", Subject: subject,
				Message: "the copy was stopped", Err: context.Cause(ctx),
			}
		}
		m, err := body.Read(buffer[n:])
		n += m
		if err == io.EOF { // an error that wraps io.EOF is a broken connection, not the end
			return n, true, nil
		}
		if err != nil {
			return n, false, foreign(err)
		}
		if idle++; m > 0 {
			idle = 0
		}
		if idle == maxIdleReads {
			return n, false, foreign(io.ErrNoProgress)
		}
	}
	return n, false, nil
}

// foreign wraps an error of the caller's body, so that its class and cause are found.
func foreign(err error) error {
	if _, ok := errors.AsType[*storage.Error](err); ok {
		return fmt.Errorf("spool: %w", err)
	}
	return &storage.Error{
		Class: storage.Interrupted, Code: "interrupted", Op: "spool", Subject: subject,
		Message: "the content could not be had to its end", Err: err,
	}
}

// failed gives a system error its meaning. Where the spool is on this machine is left out.
func failed(op string, err error) error {
	e := &storage.Error{
		Class: storage.Unavailable, Code: "spool_failed", Op: op, Subject: subject, Message: "the spool file failed", Err: err,
	}
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		e.Class, e.Code, e.Message = storage.NoSpace, "no_space", "the disk of the spool is full"
		e.Hint = "Free space in the worker's spool directory."
	case errors.Is(err, unix.EFBIG):
		e.Class, e.Code, e.Message = storage.TooLarge, "file_too_large", "the spool file is larger than the process may write"
	case errors.Is(err, os.ErrClosed):
		e.Class, e.Code, e.Message = storage.Internal, "closed", "it was closed"
	}
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		e.Err = p.Err
	}
	return e
}
