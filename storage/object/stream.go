package object

import (
	"bytes"
	"context"
	"io"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/spool"
)

const (
	firstPart = 16 << 20 // bytes of a part of content of unknown length; later ones are longer
	growEvery = 1000     // parts
)

// unknownPart is the size of a part of content of unknown length: each thousand has parts of 16 MiB times another square, so that ten
// thousand hold 5 TiB, and little is set aside for content that is short.
func unknownPart(number int) int64 {
	n := int64((number-1)/growEvery) + 1
	return firstPart * n * n
}

// putUnknown writes content whose length its source does not tell. What is small is had in memory, and is one PUT; so is what fits
// into one part, which is set aside in a file. Longer content is written part by part, each set aside until its length is known.
func (o *destination) putUnknown(ctx context.Context, content storage.Content) (storage.Stored, error) {
	buffer, _ := smallBuffers.Get().(*[smallContent]byte)
	defer smallBuffers.Put(buffer)
	n, err := fill(buffer[:], content.Body)
	head := bytes.NewReader(buffer[:n])
	if err == io.EOF { //nolint:errorlint // an error that wraps io.EOF is a broken connection, not the end
		return o.putKnown(ctx, content, head, int64(n))
	}
	if err != nil {
		return storage.Stored{}, o.refused(ctx, err)
	}
	body := io.MultiReader(head, content.Body)
	first, err := o.setAside(ctx, body, 1)
	if err != nil {
		return storage.Stored{}, err
	}
	defer func() { _ = first.Close() }() // a file without a name
	if first.Size() < firstPart {
		return o.putKnown(ctx, content, first, first.Size())
	}
	next := func(number int) (storage.Part, io.Closer, error) {
		file := first
		if number > 1 {
			if file, err = o.setAside(ctx, body, number); err != nil {
				return storage.Part{}, nil, err
			}
		}
		if file.Size() == 0 {
			return storage.Part{}, nil, file.Close()
		}
		return storage.Part{Number: number, Size: file.Size(), Body: file}, file, nil
	}
	return o.sequence(ctx, content, next)
}

// setAside reads a part.
func (o *destination) setAside(ctx context.Context, body io.Reader, number int) (*spool.File, error) {
	if number > maxParts {
		return nil, storage.Errorf(storage.TooLarge, "object_too_large", "write", o.subject(), "the content has more than %d parts", maxParts)
	}
	size := unknownPart(number)
	return spool.Content(ctx, io.LimitReader(body, size), o.store.cfg.SpoolDir, size)
}

// putKnown writes content whose length turned out.
func (o *destination) putKnown(ctx context.Context, content storage.Content, body io.Reader, size int64) (storage.Stored, error) {
	content.Body, content.Size = body, size
	return o.Put(ctx, content)
}
