package memory

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/copyfleet/copyfleet/storage"
)

// upload is what parts are written to.
type upload struct {
	data  []byte
	begun time.Time
	parts int  // that were stored, repetitions included
	done  bool // completed
}

// PartPut is one use of PutPart, in the order in which they ended.
type PartPut struct {
	Upload string
	Number int
	Size   int64
	Bytes  int64 // read from Part.Body
	Err    error // what PutPart returned
}

// Final is one use of Complete, in the order in which they ended.
type Final struct {
	Upload  string
	Content storage.PartContent
	Parts   []storage.PartStored
	Err     error // what Complete returned
}

// PartLimits returns Limits.
func (d *Destination) PartLimits() storage.PartLimits { return d.Limits }

// Begin makes room for parts.
func (d *Destination) Begin(ctx context.Context, content storage.PartContent) (string, error) {
	if err := stopped(ctx, "begin"); err != nil {
		return "", err
	}
	if d.FailBegin != nil {
		return "", d.FailBegin
	}
	if content.Size < 0 || content.PartSize <= 0 {
		return "", storage.Errorf(storage.Invalid, "part_size_invalid", "begin", subject, "%d bytes in parts of %d", content.Size, content.PartSize)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.replaceable(content.OnlyNew); err != nil {
		return "", err
	}
	if d.uploads == nil {
		d.uploads = make(map[string]*upload)
	}
	d.begun++
	name := "upload-" + strconv.Itoa(d.begun)
	d.uploads[name] = &upload{data: make([]byte, content.Size), begun: time.Now()}
	return name, nil
}

// PutPart stores a part.
func (d *Destination) PutPart(ctx context.Context, name string, part storage.Part) (storage.PartStored, error) {
	data, err := d.receivePart(ctx, name, part)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		err = d.failPart(part.Number)
	}
	if err == nil {
		err = d.keepPart(name, part, data)
	}
	d.partPuts = append(d.partPuts, PartPut{Upload: name, Number: part.Number, Size: part.Size, Bytes: int64(len(data)), Err: err})
	if err != nil {
		return storage.PartStored{}, err
	}
	return storage.PartStored{Number: part.Number, Size: part.Size, ETag: d.ETag}, nil
}

// receivePart reads a part that has a place to go to.
func (d *Destination) receivePart(ctx context.Context, name string, part storage.Part) ([]byte, error) {
	d.mu.Lock()
	_, err := d.open(name, part.Offset, part.Size)
	d.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return receive(ctx, part.Body, part.Size, nil)
}

// failPart is the fault that is set for a part. The lock is held.
func (d *Destination) failPart(number int) error {
	fault := d.FailParts[number]
	if fault == nil || d.FailPartTimes > 0 && d.failed[number] >= d.FailPartTimes {
		return nil
	}
	if d.failed == nil {
		d.failed = make(map[int]int)
	}
	d.failed[number]++
	return fault
}

// keepPart writes a part to its place. The lock is held.
func (d *Destination) keepPart(name string, part storage.Part, data []byte) error {
	u, err := d.open(name, part.Offset, part.Size)
	if err != nil {
		return err
	}
	copy(u.data[part.Offset:], data)
	u.parts++
	return nil
}

// open returns what was begun and is not ended, if a part fits into it. The lock is held.
func (d *Destination) open(name string, offset, size int64) (*upload, error) {
	u := d.uploads[name]
	switch {
	case u == nil || u.done:
		return nil, storage.Errorf(storage.Conflict, storage.CodeUploadGone, "write", subject, "what parts were written to is gone")
	case offset < 0 || size < 0 || offset > int64(len(u.data))-size:
		return nil, storage.Errorf(storage.Invalid, "part_outside", "write", subject, "the part is not within the %d bytes", len(u.data))
	}
	return u, nil
}

// Complete makes the content visible.
func (d *Destination) Complete(
	ctx context.Context, name string, content storage.PartContent, parts []storage.PartStored, ready func() error,
) (storage.Stored, error) {
	err := d.complete(ctx, name, content, parts, ready)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.finals = append(d.finals, Final{Upload: name, Content: content, Parts: slices.Clone(parts), Err: err})
	if err != nil {
		return storage.Stored{}, err
	}
	return storage.Stored{Bytes: content.Size, ETag: d.ETag}, nil
}

func (d *Destination) complete(
	ctx context.Context, name string, content storage.PartContent, parts []storage.PartStored, ready func() error,
) error {
	if err := stopped(ctx, "commit"); err != nil {
		return err
	}
	d.mu.Lock()
	u := d.uploads[name]
	d.mu.Unlock()
	if u != nil && u.done {
		return nil
	}
	if u == nil {
		return storage.Errorf(storage.Conflict, storage.CodeUploadGone, "commit", subject, "what parts were written to is gone")
	}
	if err := content.Check("commit", subject, parts); err != nil {
		return err
	}
	if ready != nil {
		if err := ready(); err != nil {
			return classified(err, "commit")
		}
	}
	if d.FailCommit != nil {
		return d.FailCommit
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.show(name, content)
}

// show makes visible what was written. The lock is held.
func (d *Destination) show(name string, content storage.PartContent) error {
	u, err := d.open(name, 0, content.Size)
	if err != nil {
		return err
	}
	if err := d.replaceable(content.OnlyNew); err != nil {
		return err
	}
	d.content, d.exists, u.done = bytes.Clone(u.data), true, true
	u.data = nil
	if d.LoseAnswer != nil && !d.lost {
		d.lost = true
		return d.LoseAnswer
	}
	return nil
}

// Abort forgets what was begun.
func (d *Destination) Abort(ctx context.Context, name string) error {
	if err := stopped(ctx, "abort"); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if u := d.uploads[name]; u != nil && !u.done {
		delete(d.uploads, name)
	}
	return nil
}

// DiscardBegun forgets what was begun within a minute of a time, and has no parts.
func (d *Destination) DiscardBegun(ctx context.Context, began time.Time) error {
	if err := stopped(ctx, "abort"); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, u := range d.uploads {
		if u.parts == 0 && !u.done && u.begun.Sub(began).Abs() < time.Minute {
			delete(d.uploads, name)
		}
	}
	return nil
}

// OpenUpload reads what was stored.
func (d *Destination) OpenUpload(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	if err := stopped(ctx, "open"); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	u, err := d.open(name, offset, 0)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(bytes.Clone(u.data[offset:]))), nil
}

// Uploads names what was begun and neither completed nor aborted.
func (d *Destination) Uploads() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var names []string
	for name, u := range d.uploads {
		if !u.done {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// PartPuts returns every use of PutPart so far.
func (d *Destination) PartPuts() []PartPut {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.partPuts)
}

// Finals returns every use of Complete so far.
func (d *Destination) Finals() []Final {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.finals)
}
