package storagetest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/memory"
	"github.com/copyfleet/copyfleet/storage/storagetest"
)

// TestSuiteCatchesInParts is TestSuiteCatches for sources in ranges and destinations in parts.
func TestSuiteCatchesInParts(t *testing.T) {
	for _, c := range []struct{ flaw, check string }{
		{"range offset ignored", "Ranger/Ranges"},
		{"range size wrong", "Ranger/Ranges"},
		{"range mark ignored", "Ranger/Changed"},
		{"range outside allowed", "Ranger/Outside"},
		{"range context ignored", "Ranger/Canceled"},
		{"part visible early", "Parts/Size1"},
		{"part offset ignored", "Parts/Size196615"},
		{"parts missing taken", "Parts/Missing"},
		{"part size unchecked", "Parts/WrongSize"},
		{"part repeated ignored", "Parts/Repeated"},
		{"parts ready ignored", "Parts/ReadyRefuses"},
		{"parts ready forgets", "Parts/ReadyRefuses"},
		{"parts ready never", "Parts/Size1"},
		{"aborted taken", "Parts/Aborted"},
		{"abort does nothing", "Parts/Aborted"},
		{"upload name again", "Parts/Aborted"},
		{"part error hidden", "Parts/BodyFails"},
		{"part context ignored", "Parts/Canceled"},
		{"completed again wrong", "Parts/CompletedTwice"},
		{"read back zeros", "Parts/ReadBack"},
		{"only new ignored", "OnlyNew/Whole"},
		{"only new early", "OnlyNew/WholeOvertaken"},
		{"only new early", "OnlyNew/WholeAtOnce"},
		{"only new early", "OnlyNew/Parts"},
	} {
		t.Run(c.flaw, func(t *testing.T) {
			t.Parallel()
			child := exec.Command(os.Args[0], "-test.run=^TestDriverInParts$/^"+strings.ReplaceAll(c.check, "/", "$/^")+"$")
			child.Env = append(os.Environ(), flawEnv+"="+c.flaw)
			out, err := child.CombinedOutput()
			if _, failed := errors.AsType[*exec.ExitError](err); !failed || !strings.Contains(string(out), "--- FAIL: TestDriverInParts/"+c.check) {
				t.Errorf("the flaw was not caught by %s: %v\n%s", c.check, err, out)
			}
		})
	}
}

// TestDriverInParts runs the suite on a memory driver with the flaw that the environment names.
func TestDriverInParts(t *testing.T) {
	flaw := os.Getenv(flawEnv)
	storagetest.Run(t, storagetest.Harness{
		Features: storagetest.Features{Ranges: true, Parts: true, CompletesAgain: true, OnlyNew: true},
		NewRanger: func(_ *testing.T, data []byte) (storage.Ranger, func([]byte)) {
			source := &flawedRanger{memory.Source{Data: data, ETag: "1"}, flaw}
			return source, func(data []byte) { source.Data, source.ETag = data, strconv.Itoa(2) }
		},
		NewTarget: func(*testing.T) storagetest.Target {
			d := &flawedParts{Destination: &memory.Destination{}, flaw: flaw, seen: make(map[int]bool)}
			return storagetest.Target{
				Destination: func() storage.Destination { return d },
				Read:        func(*testing.T) ([]byte, bool) { return d.Bytes() },
				Leftovers:   func(*testing.T) []string { return d.Uploads() },
			}
		},
	})
}

type flawedRanger struct {
	memory.Source

	flaw string
}

func (s *flawedRanger) OpenRange(ctx context.Context, mark storage.Mark, offset, length int64) (*storage.Object, error) {
	switch s.flaw {
	case "range offset ignored":
		offset = 0
	case "range mark ignored":
		mark.ETag, mark.Size = s.ETag, int64(len(s.Data))
		offset = min(offset, mark.Size)
	case "range outside allowed":
		offset = max(0, min(offset, mark.Size))
	case "range context ignored":
		ctx = context.WithoutCancel(ctx)
	}
	object, err := s.Source.OpenRange(ctx, mark, offset, length)
	if err == nil && s.flaw == "range size wrong" {
		object.Size = mark.Size
	}
	return object, err
}

type flawedParts struct {
	*memory.Destination

	flaw   string
	last   storage.PartContent
	upload string
	seen   map[int]bool
}

func (d *flawedParts) Put(ctx context.Context, content storage.Content) (storage.Stored, error) {
	switch _, exists := d.Bytes(); {
	case d.flaw == "only new early" && content.OnlyNew && exists:
		return storage.Stored{}, storage.Errorf(storage.Conflict, storage.CodeDestinationExists, "write", "it", "it exists")
	case d.flaw == "only new ignored", d.flaw == "only new early":
		content.OnlyNew = false
	}
	return d.Destination.Put(ctx, content)
}

func (d *flawedParts) Begin(ctx context.Context, content storage.PartContent) (string, error) {
	d.last = content
	if strings.HasPrefix(d.flaw, "only new") {
		content.OnlyNew = false
	}
	upload, err := d.Destination.Begin(ctx, content)
	if d.upload == "" {
		d.upload = upload
	}
	if d.flaw == "upload name again" {
		return d.upload, err
	}
	return upload, err
}

func (d *flawedParts) PutPart(ctx context.Context, upload string, part storage.Part) (storage.PartStored, error) {
	switch d.flaw {
	case "part visible early":
		_, _ = d.Destination.Put(ctx, storage.Content{Body: bytes.NewReader(nil)})
	case "part offset ignored":
		part.Offset = 0
	case "part context ignored":
		ctx = context.WithoutCancel(ctx)
	case "part repeated ignored":
		if d.seen[part.Number] {
			return storage.PartStored{Number: part.Number, Size: part.Size}, nil
		}
		d.seen[part.Number] = true
	}
	stored, err := d.Destination.PutPart(ctx, upload, part)
	switch {
	case err != nil && d.flaw == "aborted taken":
		return storage.PartStored{Number: part.Number, Size: part.Size}, nil
	case err != nil && d.flaw == "part error hidden":
		return stored, storage.Errorf(storage.Unavailable, "flawed", "write", "it", "it failed")
	}
	return stored, err
}

func (d *flawedParts) Complete(
	ctx context.Context, upload string, content storage.PartContent, parts []storage.PartStored, ready func() error,
) (storage.Stored, error) {
	switch d.flaw {
	case "parts missing taken", "part size unchecked":
		parts = nil
		for number := range content.Count() {
			_, size := content.Span(number + 1)
			parts = append(parts, storage.PartStored{Number: number + 1, Size: size})
		}
	case "parts ready never":
		ready = nil
	case "parts ready ignored":
		asked := ready
		ready = func() error { _ = asked(); return nil }
	case "only new early":
		content.OnlyNew = false
	case "completed again wrong":
		if ready == nil {
			return storage.Stored{}, storage.Errorf(storage.Internal, "flawed", "commit", "it", "it failed")
		}
	}
	stored, err := d.Destination.Complete(ctx, upload, content, parts, ready)
	if err != nil && d.flaw == "parts ready forgets" {
		_ = d.Destination.Abort(ctx, upload)
	}
	return stored, err
}

func (d *flawedParts) Abort(ctx context.Context, upload string) error {
	if d.flaw == "abort does nothing" {
		return nil
	}
	return d.Destination.Abort(ctx, upload)
}

func (d *flawedParts) OpenUpload(ctx context.Context, upload string, offset int64) (io.ReadCloser, error) {
	body, err := d.Destination.OpenUpload(ctx, upload, offset)
	if err == nil && d.flaw == "read back zeros" {
		return io.NopCloser(bytes.NewReader(make([]byte, d.last.Size-offset))), nil
	}
	return body, err
}
