package memory_test

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"testing"

	"go.uber.org/goleak"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/memory"
	"github.com/copyfleet/copyfleet/storage/storagetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	for _, c := range []struct {
		name     string
		features storagetest.Features
	}{
		{"Plain", storagetest.Features{Source: true, Destination: true}},
		{"UnknownSize", storagetest.Features{Source: true, UnknownSize: true}},
		{"NeedsSize", storagetest.Features{Destination: true, NeedsSize: true}},
		{"Parts", storagetest.Features{Ranges: true, Parts: true, CompletesAgain: true, OnlyNew: true}},
		{"CommitIsLastByte", storagetest.Features{Destination: true, CommitIsLastByte: true}},
	} {
		t.Run(c.name, func(t *testing.T) { storagetest.Run(t, harness(c.features)) })
	}
}

func harness(f storagetest.Features) storagetest.Harness {
	target := func(*testing.T) storagetest.Target {
		d := &memory.Destination{RequiresSize: f.NeedsSize}
		return storagetest.Target{
			Destination: func() storage.Destination { return d },
			Read:        func(*testing.T) ([]byte, bool) { return d.Bytes() },
			Leftovers:   func(*testing.T) []string { return d.Uploads() },
		}
	}
	return storagetest.Harness{
		Features: f,
		NewSource: func(_ *testing.T, data []byte) storage.Source {
			return &memory.Source{Data: data, Unknown: f.UnknownSize}
		},
		NewRanger: func(_ *testing.T, data []byte) (storage.Ranger, func([]byte)) {
			version := 1
			source := &memory.Source{Data: data, ETag: "1"}
			return source, func(data []byte) {
				version++
				source.Data, source.ETag = data, strconv.Itoa(version)
			}
		},
		Missing:     func(*testing.T) storage.Source { return memory.Missing() },
		NewTarget:   target,
		NamedTarget: func(t *testing.T, _ string) storagetest.Target { return target(t) },
	}
}

var errFault = errors.New("the fault")

func TestSourceFaults(t *testing.T) {
	data := storagetest.Data(1000, 1)
	for _, c := range []struct {
		name   string
		source memory.Source
		size   int64
		read   int
		code   string // of the *storage.Error; "" for io.EOF
		is     error
	}{
		{name: "None", source: memory.Source{Data: data}, size: 1000, read: 1000},
		{name: "Steps", source: memory.Source{Data: data, Step: 7}, size: 1000, read: 1000},
		{name: "Unknown", source: memory.Source{Data: data, Unknown: true}, size: storage.UnknownSize, read: 1000},
		{name: "Short", source: memory.Source{Data: data, Lacks: 1}, size: 1001, read: 1000, code: "source_short"},
		{name: "Long", source: memory.Source{Data: data, Lacks: -1}, size: 999, read: 999, code: "source_changed"},
		{name: "ShortUnchecked", source: memory.Source{Data: data, Lacks: 1, Unchecked: true}, size: 1001, read: 1000},
		{name: "LongUnchecked", source: memory.Source{Data: data, Lacks: -1, Unchecked: true}, size: 999, read: 1000},
		{name: "Fails", source: memory.Source{Data: data, Fail: errFault, FailAfter: 400}, size: 1000, read: 400, is: errFault},
		{name: "FailsAtEnd", source: memory.Source{Data: data, Fail: errFault, FailAfter: 1000}, size: 1000, read: 1000, is: errFault},
	} {
		t.Run(c.name, func(t *testing.T) {
			object, err := c.source.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer object.Body.Close()
			got, err := io.ReadAll(object.Body)
			if object.Size != c.size || len(got) != c.read || string(got) != string(data[:len(got)]) {
				t.Errorf("size %d and %d bytes, want %d and %d", object.Size, len(got), c.size, c.read)
			}
			expect(t, err, c.code, c.is)
		})
	}
}

func TestDestinationFaults(t *testing.T) {
	for _, c := range []struct {
		name        string
		destination *memory.Destination
		size        int64
		bytes       int64
		code        string
		is          error
	}{
		{name: "None", destination: &memory.Destination{ETag: "e"}, size: 1000, bytes: 1000},
		{name: "Fails", destination: &memory.Destination{Fail: errFault, FailAfter: 999}, size: 1000, bytes: 1000, is: errFault},
		{name: "FailsCommit", destination: &memory.Destination{FailCommit: errFault}, size: 1000, bytes: 1000, is: errFault},
		{name: "SizeRequired", destination: &memory.Destination{RequiresSize: true}, size: storage.UnknownSize, code: "size_required"},
	} {
		t.Run(c.name, func(t *testing.T) {
			source, err := memory.NewSource(storagetest.Data(1000, 1)).Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.destination.Put(t.Context(), storage.Content{Body: source.Body, Size: c.size, ContentType: "a/b"})
			expect(t, err, c.code, c.is)
			puts := c.destination.Puts()
			if len(puts) != 1 || !errors.Is(puts[0].Err, err) || puts[0].Size != c.size || puts[0].Bytes != c.bytes || puts[0].ContentType != "a/b" {
				t.Errorf("recorded %+v", puts)
			}
			if _, ok := c.destination.Bytes(); ok != (err == nil) {
				t.Errorf("visible: %t, with error %v", ok, err)
			}
		})
	}
}

func expect(t *testing.T, err error, code string, is error) {
	t.Helper()
	switch {
	case is != nil:
		if !errors.Is(err, is) {
			t.Errorf("error %v, want %v", err, is)
		}
	case code == "":
		if err != nil {
			t.Errorf("error %v, want none", err)
		}
	default:
		if e, ok := errors.AsType[*storage.Error](err); !ok || e.Code != code {
			t.Errorf("error %v, want code %s", err, code)
		}
	}
}

// TestBodiesFailAFewTimes shows a source that breaks off and can be continued.
func TestBodiesFailAFewTimes(t *testing.T) {
	data := storagetest.Data(1000, 1)
	source := memory.Source{Data: data, ETag: "e", Fail: errFault, FailAfter: 300, FailTimes: 2}
	object, err := source.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	mark := object.Mark()
	var got []byte
	for _, want := range []error{errFault, errFault, nil} {
		part, err := io.ReadAll(object.Body)
		got = append(got, part...)
		expect(t, err, "", want)
		if object, err = source.OpenRange(t.Context(), mark, int64(len(got)), storage.UnknownSize); err != nil {
			t.Fatal(err)
		}
	}
	if string(got) != string(data) {
		t.Errorf("%d bytes were read, not those of the source", len(got))
	}
	source.NoRanges = true
	_, err = source.OpenRange(t.Context(), mark, 0, 1)
	expect(t, err, storage.CodeNoRanges, nil)
	source.NoRanges, source.FailRange = false, errFault
	_, err = source.OpenRange(t.Context(), mark, 0, 1)
	expect(t, err, "", errFault)
}

func TestPartFaults(t *testing.T) {
	data := storagetest.Data(250, 1)
	content := storage.PartContent{Size: 250, PartSize: 100}
	d := &memory.Destination{FailParts: map[int]error{2: errFault}, FailPartTimes: 1, LoseAnswer: errFault}
	upload, err := d.Begin(t.Context(), content)
	expect(t, err, "", nil)
	var stored []storage.PartStored
	for _, c := range []struct {
		number int
		is     error
	}{{1, nil}, {2, errFault}, {2, nil}, {3, nil}} {
		offset, size := content.Span(c.number)
		part, err := d.PutPart(t.Context(), upload, storage.Part{
			Number: c.number, Offset: offset, Size: size, Body: bytes.NewReader(data[offset : offset+size]),
		})
		expect(t, err, "", c.is)
		if err == nil {
			stored = append(stored, part)
		}
	}
	_, err = d.Complete(t.Context(), upload, content, stored, nil)
	expect(t, err, "", errFault)
	if got, ok := d.Bytes(); !ok || string(got) != string(data) {
		t.Errorf("%d bytes are visible (%t) after the answer was lost", len(got), ok)
	}
	_, err = d.Complete(t.Context(), upload, content, stored, nil)
	expect(t, err, "", nil)
	if puts, finals := d.PartPuts(), d.Finals(); len(puts) != 4 || puts[1].Err == nil || puts[1].Bytes != 100 || len(finals) != 2 || finals[0].Err == nil {
		t.Errorf("recorded %+v and %+v", puts, finals)
	}
	d.FailBegin = errFault
	_, err = d.Begin(t.Context(), content)
	expect(t, err, "", errFault)
}
