// Package metered tells what is done with sources and destinations: how often, how long, how many bytes, with what outcome.
//
// It tells functions, and knows no metrics. What it tells of each use is of few values, methods and classes of errors, so whoever makes labels
// of it needs no further bound; places and peers are not told.
package metered

import (
	"context"
	"io"
	"os"
	"time"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/decorate"
)

// Use is a method that returned.
type Use struct {
	Op     decorate.Op
	Failed bool
	Class  storage.Class // of what failed
	Took   time.Duration // of the method; reading a source's body comes after it, reading a destination's is part of it
}

// Told are who is told. Each may be nil, is called by many at once, and holds up who does the work.
type Told struct {
	Used func(ctx context.Context, use Use)
	// Moved is called for each piece that was read of a source, or for a destination, or that the system copied of a file by itself.
	Moved func(op decorate.Op, bytes int)
}

// Source tells of the uses of a source.
func Source(inner storage.Source, told Told) storage.Source {
	return decorate.Source(inner, told.hooks())
}

// Destination tells of the uses of a destination.
func Destination(inner storage.Destination, told Told) storage.Destination {
	return decorate.Destination(inner, told.hooks())
}

func (t Told) hooks() decorate.Hooks {
	var hooks decorate.Hooks
	if t.Used != nil {
		hooks.Call = func(ctx context.Context, op decorate.Op, call func() error) error {
			begun := time.Now()
			err := call()
			use := Use{Op: op, Failed: err != nil, Took: time.Since(begun)}
			if err != nil {
				use.Class = storage.ClassOf(err)
			}
			t.Used(ctx, use)
			return err
		}
	}
	if t.Moved != nil {
		hooks.Body = func(_ context.Context, op decorate.Op, body io.Reader) io.Reader {
			c := counted{body, op, t.Moved}
			if file, ok := body.(storage.FileSender); ok {
				return &countedFile{c, file}
			}
			return &c
		}
	}
	return hooks
}

// counted tells what is read.
type counted struct {
	inner io.Reader
	op    decorate.Op
	moved func(op decorate.Op, bytes int)
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.inner.Read(p)
	if n > 0 {
		c.moved(c.op, n)
	}
	return n, err
}

// countedFile tells as well what the system copies of a file.
type countedFile struct {
	counted

	file storage.FileSender
}

// SendFile implements storage.FileSender.
func (c *countedFile) SendFile(to *os.File, most int64) (int64, error) {
	n, err := c.file.SendFile(to, most)
	if n > 0 {
		c.moved(c.op, int(n))
	}
	return n, err
}
