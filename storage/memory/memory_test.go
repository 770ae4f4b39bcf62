package memory_test

import (
	"errors"
	"io"
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
		}
	}
	return storagetest.Harness{
		Features: f,
		NewSource: func(_ *testing.T, data []byte) storage.Source {
			return &memory.Source{Data: data, Unknown: f.UnknownSize}
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
