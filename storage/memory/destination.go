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

// Destination is a place that can be written, as a whole or in parts, and remembers how. The zero value is empty and has no faults.
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

	// Limits is what PartLimits answers. Nothing is refused by them.
	Limits storage.PartLimits
	// FailBegin, unless nil, is what Begin returns, with nothing begun.
	FailBegin error
	// FailParts has what PutPart returns for a part, by number, once it read the part. The part is then not stored.
	FailParts map[int]error
	// FailPartTimes is how many uses of PutPart fail so, by number; 0: each does.
	FailPartTimes int
	// LoseAnswer, unless nil, is what the first Complete that succeeds returns, with the content visible.
	LoseAnswer error

	mu       sync.Mutex
	content  []byte
	exists   bool
	puts     []Put
	uploads  map[string]*upload
	begun    int
	failed   map[int]int // uses of PutPart that failed by FailParts
	partPuts []PartPut
	finals   []Final
	lost     bool // an answer was
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
	if err == nil {
		err = d.replaceable(content.OnlyNew)
	}
	d.puts = append(d.puts, Put{Size: content.Size, ContentType: content.ContentType, Bytes: int64(len(data)), Err: err})
	if err != nil {
		return storage.Stored{}, err
	}
	d.content, d.exists = data, true
	return storage.Stored{Bytes: int64(len(data)), ETag: d.ETag}, nil
}

// replaceable reports what is there and may not be replaced. The lock is held.
func (d *Destination) replaceable(onlyNew bool) error {
	if onlyNew && d.exists {
		return storage.Errorf(storage.Conflict, storage.CodeDestinationExists, "commit", subject, "something is there")
	}
	return nil
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
	return receive(ctx, content.Body, content.Size, func(n int) error {
		if d.Fail != nil && int64(n) > d.FailAfter {
			return d.Fail
		}
		return nil
	})
}

// receive reads a body to its end and checks its length. It asks fault, unless nil, after each Read, with the bytes so far.
func receive(ctx context.Context, body io.Reader, size int64, fault func(n int) error) ([]byte, error) {
	var data []byte
	buffer := make([]byte, 32<<10)
	for {
		if err := stopped(ctx, "write"); err != nil {
			return data, err
		}
		n, err := body.Read(buffer)
		data = append(data, buffer[:n]...)
		if fault != nil {
			if err := fault(len(data)); err != nil {
				return data, err
			}
		}
		if err == io.EOF { //nolint:errorlint // an error that wraps io.EOF is a broken connection, not the end
			return data, checkLength(int64(len(data)), size, true)
		}
		if err == nil {
			err = checkLength(int64(len(data)), size, false)
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
