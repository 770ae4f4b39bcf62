package decorate_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/decorate"
	"github.com/copyfleet/copyfleet/storage/memory"
	"github.com/copyfleet/copyfleet/storage/sandbox"
	"github.com/copyfleet/copyfleet/storage/storagetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// plainSource, plainDestination and blind can do less than what they hide.
type (
	plainSource      struct{ storage.Source }
	plainDestination struct{ storage.Destination }
	blind            struct{ storage.PartDestination }
)

// TestWhatTheInnerOneCan shows that nothing is lost and nothing is promised.
func TestWhatTheInnerOneCan(t *testing.T) {
	t.Parallel()
	full := &memory.Destination{}
	for _, c := range []struct {
		name          string
		inner         storage.Destination
		parts, reader bool
	}{
		{"Everything", full, true, true},
		{"Blind", blind{full}, true, false},
		{"Plain", plainDestination{full}, false, false},
	} {
		d := decorate.Destination(c.inner, decorate.Hooks{})
		_, parts := d.(storage.PartDestination)
		_, reader := d.(storage.UploadReader)
		if parts != c.parts || reader != c.reader {
			t.Errorf("%s: parts %t, reader %t", c.name, parts, reader)
		}
		if decorate.Inner(decorate.Destination(d, decorate.Hooks{})) != any(c.inner) {
			t.Errorf("%s: the inner one is not found", c.name)
		}
	}
	if _, ok := decorate.Source(memory.NewSource(nil), decorate.Hooks{}).(storage.Ranger); !ok {
		t.Error("a source that gives ranges does not any more")
	}
	if _, ok := decorate.Source(plainSource{memory.NewSource(nil)}, decorate.Hooks{}).(storage.Ranger); ok {
		t.Error("a source that gives no ranges promises them")
	}
	// Who asks a source for its digests takes the size beside them for that of the source.
	for name, inner := range map[string]storage.Source{
		"Ranger": memory.NewSource(nil), "Plain": plainSource{memory.NewSource(nil)},
		"Digested": digested{memory.NewSource(nil)}, "Both": digestedRanger{memory.NewSource(nil)},
	} {
		d := decorate.Source(inner, decorate.Hooks{})
		_, knew := inner.(storage.Digested)
		_, gave := inner.(storage.Ranger)
		_, knows := d.(storage.Digested)
		_, gives := d.(storage.Ranger)
		if knows != knew || gives != gave || decorate.Inner(d) != any(inner) {
			t.Errorf("%s: knows digests %t, was %t; gives ranges %t, was %t", name, knows, knew, gives, gave)
		}
	}
}

// beside is what sources and destinations have besides, for those who ask.
type beside interface {
	storage.Source
	Stat(ctx context.Context) (storage.Stat, error)
}

type besides interface {
	storage.Destination
	storage.DirectCopier
	Look(ctx context.Context) (storage.Look, error)
	Discard() error
	DiscardUploads(keep string) error
}

func TestWhatTheInnerOneCannot(t *testing.T) {
	t.Parallel()
	source, _ := decorate.Source(memory.NewSource([]byte("x")), decorate.Hooks{}).(beside)
	if _, err := source.Stat(t.Context()); storage.ClassOf(err) != storage.Invalid {
		t.Errorf("Stat: %v", err)
	}
	d, _ := decorate.Destination(&memory.Destination{}, decorate.Hooks{}).(besides)
	if look, err := d.Look(t.Context()); err != nil || look.Checked {
		t.Errorf("Look: %+v, %v", look, err)
	}
	if _, took, err := d.CopyFrom(t.Context(), source, storage.DirectCopy{}); err != nil || took {
		t.Errorf("CopyFrom: %t, %v", took, err)
	}
	if err := errors.Join(d.Discard(), d.DiscardUploads("")); err != nil {
		t.Error(err)
	}
}

// TestEachMethodIsHooked uses each method of drivers that have them all, and counts.
func TestEachMethodIsHooked(t *testing.T) {
	t.Parallel()
	store, err := sandbox.Open(t.TempDir(), sandbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	var mu sync.Mutex
	calls, bodies := map[decorate.Op]int{}, map[decorate.Op]int{}
	hooks := decorate.Hooks{
		Call: func(_ context.Context, op decorate.Op, call func() error) error {
			mu.Lock()
			calls[op]++
			mu.Unlock()
			return call()
		},
		Body: func(_ context.Context, op decorate.Op, body io.Reader) io.Reader {
			bodies[op]++
			return body
		},
	}
	d, _ := decorate.Destination(copier{store.Destination("o", "s", "/f", "t", []string{"u"}), t}, hooks).(storage.PartDestination)
	if d != nil {
		t.Fatal("a destination that hides its parts has them")
	}
	source := decorate.Source(digested{store.Source("o", "s", "/f")}, hooks)
	whole := decorate.Destination(copier{store.Destination("o", "s", "/f", "t", []string{"u"}), t}, hooks)
	_, err = whole.Put(t.Context(), storage.Content{Body: strings.NewReader("abc"), Size: 3})
	expectNone(t, err)
	use, _ := whole.(besides)
	_, _, err = use.CopyFrom(t.Context(), source, storage.DirectCopy{})
	expectNone(t, err)
	parts, _ := decorate.Destination(store.Destination("o", "s", "/g", "t2", []string{"u"}), hooks).(storage.PartDestination)
	useParts(t, parts)
	useSource(t, source, decorate.Source(store.Source("o", "s", "/f"), hooks))
	want := map[decorate.Op]int{}
	for _, op := range decorate.Ops {
		want[op] = 1
	}
	want[decorate.Begin] = 2
	if !maps.Equal(calls, want) {
		t.Errorf("calls: %v, want %v", calls, want)
	}
	want = map[decorate.Op]int{decorate.Open: 1, decorate.OpenRange: 1, decorate.Put: 1, decorate.PutPart: 1, decorate.OpenUpload: 1}
	if !maps.Equal(bodies, want) {
		t.Errorf("bodies: %v, want %v", bodies, want)
	}
}

func useParts(t *testing.T, d storage.PartDestination) {
	t.Helper()
	_, err := d.(besides).Look(t.Context())
	expectNone(t, err)
	content := storage.PartContent{Size: 3, PartSize: 3}
	upload, err := d.Begin(t.Context(), content)
	expectNone(t, err)
	part, err := d.PutPart(t.Context(), upload, storage.Part{Number: 1, Size: 3, Body: strings.NewReader("abc")})
	expectNone(t, err)
	body, err := d.(storage.UploadReader).OpenUpload(t.Context(), upload, 0)
	expectNone(t, err)
	expectNone(t, body.Close())
	_, err = d.Complete(t.Context(), upload, content, []storage.PartStored{part}, nil)
	expectNone(t, err)
	upload, err = d.Begin(t.Context(), content)
	expectNone(t, err)
	expectNone(t, d.Abort(t.Context(), upload))
	expectNone(t, errors.Join(d.(besides).Discard(), d.(besides).DiscardUploads("")))
}

func useSource(t *testing.T, knows, ranges storage.Source) {
	t.Helper()
	object, err := knows.Open(t.Context())
	expectNone(t, err)
	expectNone(t, object.Body.Close())
	_, err = knows.(storage.Digested).Digests(t.Context())
	expectNone(t, err)
	_, err = ranges.(beside).Stat(t.Context())
	expectNone(t, err)
	object, err = ranges.(storage.Ranger).OpenRange(t.Context(), object.Mark(), 1, 1)
	expectNone(t, err)
	expectNone(t, object.Body.Close())
}

// digested is a source that knows digests.
type digested struct{ storage.Source }

// digestedRanger is one that can be read from the middle as well.
type digestedRanger struct{ *memory.Source }

func (digestedRanger) Digests(context.Context) (storage.Digests, error) {
	return storage.Digests{}, nil
}

func (digested) Digests(context.Context) (storage.Digests, error) { return storage.Digests{}, nil }

// copier is a destination that copies by itself, and checks what it is given.
type copier struct {
	storage.Destination

	t *testing.T
}

func (c copier) CopyFrom(_ context.Context, source storage.Source, _ storage.DirectCopy) (storage.Stored, bool, error) {
	if _, ok := source.(digested); !ok {
		c.t.Errorf("the source is a %T", source)
	}
	return storage.Stored{}, true, nil
}

func expectNone(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestHookRefusesAfterwards shows that what was opened is closed if a hook then refuses it.
func TestHookRefusesAfterwards(t *testing.T) {
	t.Parallel()
	refusal := errors.New("no")
	hooks := decorate.Hooks{Call: func(_ context.Context, _ decorate.Op, call func() error) error {
		_ = call()
		return refusal
	}}
	opened := &closing{}
	if object, err := decorate.Source(opened, hooks).Open(t.Context()); !errors.Is(err, refusal) || object != nil || !opened.closed {
		t.Errorf("object %v, error %v, closed %t", object, err, opened.closed)
	}
}

type closing struct{ closed bool }

func (c *closing) Open(context.Context) (*storage.Object, error) {
	return &storage.Object{Body: c}, nil
}
func (c *closing) Read([]byte) (int, error) { return 0, io.EOF }
func (c *closing) Close() error             { c.closed = true; return nil }

// TestConformance runs the suite around memory, with hooks that do nothing but pass.
func TestConformance(t *testing.T) {
	hooks := decorate.Hooks{
		Call: func(_ context.Context, _ decorate.Op, call func() error) error { return call() },
		Body: func(_ context.Context, _ decorate.Op, body io.Reader) io.Reader { return struct{ io.Reader }{body} },
	}
	storagetest.Run(t, storagetest.Around(
		func(s storage.Source) storage.Source { return decorate.Source(s, hooks) },
		func(d storage.Destination) storage.Destination { return decorate.Destination(d, hooks) },
	))
}
