package memory

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sync"

	"github.com/copyfleet/copyfleet/storage"
)

// Destination is a place that can be written and remembers how. The zero value is empty and has no faults.
type Destination struct {
	// RequiresSize is what NeedsSize answers. Put then refuses content of unknown size.
	RequiresSize bool
	// Fail, unless nil, is what Put returns once it read more than FailAfter bytes.
	Fail      error
	FailAfter int64
	// FailCommit, unless nil, is what Put returns after Content.Ready agreed, with nothing visible.
	FailCommit error
	// ETag is what Stored tells.
	ETag string

	mu      sync.Mutex
	content []byte
	exists  bool
	puts    []Put
}

// Put is one use of a destination, in the order in which they ended.
type Put struct {
	Size        int64 // Content.Size
	ContentType string
	Bytes       int64 // read from Content.Body
	Err         error // what Put returned
}

// NeedsSize reports RequiresSize.
func (d *Destination) NeedsSize() bool { return d.RequiresSize }

// Put stores content and makes it visible as its last step.
func (d *Destination) Put(ctx context.Context, content storage.Content) (storage.Stored, error) {
	data, err := d.receive(ctx, content)
	if err == nil && content.Ready != nil {
		err = classified(content.Ready(), "commit")
	}
	if err == nil {
		err = d.FailCommit
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.puts = append(d.puts, Put{Size: content.Size, ContentType: content.ContentType, Bytes: int64(len(data)), Err: err})
	if err != nil {
		return storage.Stored{}, err
	}
	d.content, d.exists = data, true
	return storage.Stored{Bytes: int64(len(data)), ETag: d.ETag}, nil
}

// Bytes returns a copy of what is visible; false if there is nothing.
func (d *Destination) Bytes() ([]byte, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return bytes.Clone(d.content), d.exists
}

// Puts returns every use so far.
func (d *Destination) Puts() []Put {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.puts)
}

// receive reads the content and checks its length.
func (d *Destination) receive(ctx context.Context, content storage.Content) ([]byte, error) {
	if d.RequiresSize && content.Size == storage.UnknownSize {
		return nil, storage.Errorf(storage.Invalid, "size_required", "write", subject, "the content must have a size")
	}
	var data []byte
	buffer := make([]byte, 32<<10)
	for {
		if err := stopped(ctx, "write"); err != nil {
			return data, err
		}
		n, err := content.Body.Read(buffer)
		data = append(data, buffer[:n]...)
		if d.Fail != nil && int64(len(data)) > d.FailAfter {
			return data, d.Fail
		}
		if err == io.EOF { //nolint:errorlint // an error that wraps io.EOF is a broken connection, not the end
			return data, checkLength(int64(len(data)), content.Size, true)
		}
		if err == nil {
			err = checkLength(int64(len(data)), content.Size, false)
		}
		if err != nil {
			return data, classified(err, "read")
		}
	}
}

// checkLength compares what came with what was announced.
func checkLength(n, size int64, ended bool) error {
	switch {
	case size == storage.UnknownSize:
		return nil
	case n > size:
		return storage.Errorf(storage.Corrupt, "source_long", "write", subject, "more than the announced %d bytes came", size)
	case ended && n < size:
		return storage.Errorf(storage.Corrupt, "source_short", "write", subject, "%d of %d bytes came", n, size)
	}
	return nil
}

// classified makes sure that an error of the caller's has a class.
func classified(err error, op string) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*storage.Error](err); ok {
		return err
	}
	return &storage.Error{
		Class: storage.Interrupted, Code: "interrupted", Op: op, Subject: subject,
		Message: "the content could not be had", Err: err,
	}
}
