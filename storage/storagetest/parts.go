package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/decorate"
)

func runParts(t *testing.T, h Harness) {
	part := h.partSize()
	for _, size := range []int64{0, 1, part - 1, part, part + 1, 3*part + 7} {
		if size > 0 || !h.NoEmptyParts {
			t.Run(fmt.Sprintf("Size%d", size), func(t *testing.T) { partsWhole(t, h, size) })
		}
	}
	for _, c := range []struct {
		name string
		run  func(t *testing.T, p *partly)
	}{
		{"AtOnce", partsAtOnce},
		{"Repeated", partsRepeated},
		{"Missing", partsMissing},
		{"WrongSize", partsWrongSize},
		{"ReadyRefuses", partsReadyRefuses},
		{"CompletedTwice", partsCompletedTwice},
		{"Aborted", partsAborted},
		{"BegunAndForgotten", partsForgotten},
		{"BodyFails", partsBodyFails},
		{"WrongLength", partsWrongLength},
		{"Canceled", partsCanceled},
		{"Fresh", partsFresh},
		{"ReadBack", partsReadBack},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, old := range [][]byte{nil, Data(3000, 1)} {
				c.run(t, begin(t, h, old, 2*part+9))
			}
		})
	}
}

func (h Harness) partSize() int64 {
	if h.PartSize == 0 {
		return BufferSize / 4
	}
	return h.PartSize
}

// partly is content on its way in parts. Each use of the place is by a writer of its own, which knows nothing but the upload's name.
type partly struct {
	h       Harness
	target  Target
	old     []byte // what the place shows until then
	data    []byte
	content storage.PartContent
	upload  string
}

// begin begins size bytes at a place that holds old.
func begin(t *testing.T, h Harness, old []byte, size int64) *partly {
	t.Helper()
	p := &partly{
		h: h, target: h.NewTarget(t), old: old, data: Data(int(size), 2),
		content: storage.PartContent{Size: size, PartSize: h.partSize(), ContentType: "application/octet-stream"},
	}
	p.target.seed(t, old)
	p.begin(t)
	return p
}

func (p *partly) begin(t *testing.T) {
	t.Helper()
	upload, err := p.parts(t).Begin(t.Context(), p.content)
	if err != nil || upload == "" {
		t.Fatalf("Begin: %q, %v", upload, err)
	}
	p.upload = upload
}

// parts returns another writer of the place.
func (p *partly) parts(t *testing.T) storage.PartDestination {
	t.Helper()
	d, ok := p.target.Destination().(storage.PartDestination)
	if !ok {
		t.Fatal("the harness declares Parts, the destination cannot be written in parts")
	}
	return d
}

// part is one that is to be stored.
func (p *partly) part(number int) storage.Part {
	offset, size := p.content.Span(number)
	return storage.Part{Number: number, Offset: offset, Size: size, Body: &body{data: p.data[offset : offset+size], step: 50_000}}
}

// put stores parts.
func (p *partly) put(t *testing.T, numbers ...int) []storage.PartStored {
	t.Helper()
	var stored []storage.PartStored
	for _, number := range numbers {
		part := p.part(number)
		s, err := p.parts(t).PutPart(t.Context(), p.upload, part)
		if err != nil {
			t.Fatalf("PutPart of part %d: %v", number, err)
		}
		if s.Number != number || s.Size != part.Size {
			t.Errorf("part %d of %d bytes is told as %+v", number, part.Size, s)
		}
		stored = append(stored, s)
	}
	return stored
}

// all are the numbers of the parts, in a disorder that depends on their number only.
func (p *partly) all() []int {
	numbers := make([]int, p.content.Count())
	for i := range numbers {
		numbers[i] = i + 1
	}
	rand.New(rand.NewPCG(1, uint64(len(numbers)))).Shuffle(len(numbers), func(i, j int) { numbers[i], numbers[j] = numbers[j], numbers[i] })
	return numbers
}

func (p *partly) complete(t *testing.T, stored []storage.PartStored, ready func() error) (storage.Stored, error) {
	t.Helper()
	stored = slices.Clone(stored)
	slices.SortFunc(stored, func(a, b storage.PartStored) int { return a.Number - b.Number })
	return p.parts(t).Complete(t.Context(), p.upload, p.content, stored, ready)
}

// finish completes what must be completable, and looks at it.
func (p *partly) finish(t *testing.T, stored []storage.PartStored) {
	t.Helper()
	p.target.expectUnchanged(t, p.old)
	asked := 0
	done, err := p.complete(t, stored, func() error {
		asked++
		p.target.expectUnchanged(t, p.old)
		return nil
	})
	if err != nil {
		t.Fatalf("Complete: %v", err)
	}
	if asked != 1 || done.Bytes != p.content.Size {
		t.Errorf("ready was asked %d times, %d bytes are said to be stored, want once and %d", asked, done.Bytes, p.content.Size)
	}
	p.target.expect(t, p.data)
}

// abort ends what is not to be completed.
func (p *partly) abort(t *testing.T) {
	t.Helper()
	for range 2 { // that it is not there is no error
		if err := p.parts(t).Abort(t.Context(), p.upload); err != nil {
			t.Errorf("Abort: %v", err)
		}
	}
	p.target.expectUnchanged(t, p.old)
	p.target.expectClean(t)
}

// refused reports an error that changed what is visible.
func (p *partly) refused(t *testing.T, err error) *storage.Error {
	t.Helper()
	p.target.expectUnchanged(t, p.old)
	return requireClassified(t, err)
}

func expectGone(t *testing.T, err error) {
	t.Helper()
	if e := requireClassified(t, err); e.Code != storage.CodeUploadGone || e.Class != storage.Conflict {
		t.Errorf("class %d, code %s, want %s", e.Class, e.Code, storage.CodeUploadGone)
	}
}

func partsWhole(t *testing.T, h Harness, size int64) {
	for _, old := range [][]byte{nil, Data(3000, 1)} {
		p := begin(t, h, old, size)
		p.finish(t, p.put(t, p.all()...))
	}
}

// partsAtOnce stores all parts at the same time: each is in the middle of its bytes when all others are.
func partsAtOnce(t *testing.T, p *partly) {
	p.abort(t)
	p.content.Size = 7*p.content.PartSize + 3
	p.data = Data(int(p.content.Size), 3)
	p.begin(t)
	numbers := p.all()
	stored, errs := make([]storage.PartStored, len(numbers)), make([]error, len(numbers))
	var midway, done sync.WaitGroup
	midway.Add(len(numbers))
	for i, number := range numbers {
		writer, part := p.parts(t), p.part(number)
		var once sync.Once
		arrive := func() { once.Do(midway.Done) }
		part.Body = &body{data: p.data[part.Offset : part.Offset+part.Size], step: 20_000, after: func(int) { arrive(); midway.Wait() }}
		done.Go(func() {
			defer arrive() // a writer that fails early must not keep the others waiting
			stored[i], errs[i] = writer.PutPart(t.Context(), p.upload, part)
		})
	}
	done.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	p.finish(t, stored)
}

// partsRepeated stores a part again, with other bytes before: the last one counts.
func partsRepeated(t *testing.T, p *partly) {
	wrong := p.part(2)
	wrong.Body = bytes.NewReader(Data(int(wrong.Size), 9))
	if _, err := p.parts(t).PutPart(t.Context(), p.upload, wrong); err != nil {
		t.Fatal(err)
	}
	p.put(t, 1)
	p.finish(t, p.put(t, 3, 2, 1))
}

// partsMissing completes what is not complete, and then what is.
func partsMissing(t *testing.T, p *partly) {
	stored := p.put(t, 1, 3)
	_, err := p.complete(t, stored, nil)
	p.refused(t, err)
	_, err = p.complete(t, nil, nil)
	p.refused(t, err)
	p.finish(t, append(stored, p.put(t, 2)...))
}

func partsWrongSize(t *testing.T, p *partly) {
	stored := p.put(t, p.all()...)
	wrong := slices.Clone(stored)
	wrong[0].Size--
	_, err := p.complete(t, wrong, nil)
	p.refused(t, err)
	p.finish(t, stored)
}

// partsReadyRefuses shows that nothing is lost by a completion that may not be: another owner goes on.
func partsReadyRefuses(t *testing.T, p *partly) {
	stored := p.put(t, p.all()...)
	refusal := storage.Errorf(storage.Conflict, "suite_ready", "commit", "the suite", "it may not become visible")
	_, err := p.complete(t, stored, func() error { return refusal })
	expectCause(t, err, refusal)
	if e := p.refused(t, err); e.Class != storage.Conflict {
		t.Errorf("the class became %d, want that of the error that ready returned", e.Class)
	}
	p.finish(t, stored)
}

// partsCompletedTwice repeats a completion whose answer was lost.
func partsCompletedTwice(t *testing.T, p *partly) {
	stored := p.put(t, p.all()...)
	p.finish(t, stored)
	done, err := p.complete(t, stored, nil)
	if h := p.h; err != nil && h.CompletesAgain {
		t.Errorf("what was completed was not completed again: %v", err)
	}
	if err != nil {
		expectGone(t, err)
	} else if done.Bytes != p.content.Size {
		t.Errorf("%d bytes are said to be stored, want %d", done.Bytes, p.content.Size)
	}
	p.target.expect(t, p.data)
	if err := p.parts(t).Abort(t.Context(), p.upload); err != nil {
		t.Errorf("Abort of what was completed: %v", err)
	}
	p.target.expect(t, p.data)
}

func partsAborted(t *testing.T, p *partly) {
	stored := p.put(t, p.all()...)
	p.abort(t)
	_, err := p.parts(t).PutPart(t.Context(), p.upload, p.part(1))
	expectGone(t, err)
	_, err = p.complete(t, stored, nil)
	expectGone(t, err)
	p.target.expectUnchanged(t, p.old)
	p.target.expectClean(t)
	gone := p.upload
	p.begin(t)
	if p.upload == gone {
		t.Error("the name of what was aborted is given to something else: a stale writer could reach it")
	}
	p.abort(t)
}

func partsBodyFails(t *testing.T, p *partly) {
	for _, n := range []int64{0, 1, p.content.PartSize - 1, p.content.PartSize} {
		part := p.part(1)
		cause := storage.Errorf(storage.Throttled, "suite_body", "read", "the suite", "the body fails after %d bytes", n)
		part.Body = &body{data: p.data[:n], fail: cause}
		_, err := p.parts(t).PutPart(t.Context(), p.upload, part)
		if n == part.Size && err == nil {
			continue // all was there; that the end was not seen is the business of who reads on
		}
		expectCause(t, err, cause)
		if e := p.refused(t, err); e.Class != storage.Throttled {
			t.Errorf("the class became %d, want that of the error that Body returned: what to do depends on it", e.Class)
		}
	}
	p.finish(t, p.put(t, p.all()...))
}

func partsWrongLength(t *testing.T, p *partly) {
	for _, n := range []int64{0, 1, p.content.PartSize - 1, p.content.PartSize + 1, p.content.PartSize + BufferSize} {
		part := p.part(1)
		part.Body = &body{data: Data(int(n), 8)}
		_, err := p.parts(t).PutPart(t.Context(), p.upload, part)
		if e := p.refused(t, err); e.Class != storage.Corrupt && e.Class != storage.Interrupted {
			t.Errorf("class %d (code %s) for %d bytes announced as %d, want Corrupt or Interrupted", e.Class, e.Code, n, part.Size)
		}
	}
	p.finish(t, p.put(t, p.all()...))
}

func partsCanceled(t *testing.T, p *partly) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	part := p.part(1)
	part.Body = &body{data: p.data[:part.Size], step: 1000, after: func(n int) {
		if int64(n) > part.Size/2 {
			cancel()
		}
	}}
	_, err := p.parts(t).PutPart(ctx, p.upload, part)
	p.refused(t, err)
	expectCause(t, err, context.Canceled)
	_, err = p.parts(t).PutPart(ctx, p.upload, p.part(2))
	p.refused(t, err)
	expectCause(t, err, context.Canceled)
	p.finish(t, p.put(t, p.all()...))
}

// partsFresh completes for an owner who fears a stale writer.
func partsFresh(t *testing.T, p *partly) {
	p.content.Fresh = true
	p.finish(t, p.put(t, p.all()...))
}

// partsReadBack reads what is not visible yet, where the driver can.
func partsReadBack(t *testing.T, p *partly) {
	reader, ok := p.parts(t).(storage.UploadReader)
	if !ok {
		p.abort(t)
		return
	}
	p.put(t, 3, 1)
	want := slices.Clone(p.data)
	offset, size := p.content.Span(2)
	clear(want[offset : offset+size])
	for _, from := range []int64{0, 1, offset - 1, offset + size, p.content.Size - 1, p.content.Size} {
		body, err := reader.OpenUpload(t.Context(), p.upload, from)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(body)
		if err != nil || !bytes.Equal(got, want[from:]) {
			t.Errorf("from %d on there are %d bytes that are not those stored: %v", from, len(got), err)
		}
		if err := body.Close(); err != nil {
			t.Error(err)
		}
	}
	p.abort(t)
	_, err := reader.OpenUpload(t.Context(), p.upload, 0)
	expectGone(t, err)
}

// partsForgotten begins anew after a Begin whose answer was lost. What has parts, and what was not begun then, stays.
func partsForgotten(t *testing.T, p *partly) {
	t.Helper()
	discarder, ok := decorate.Inner(p.parts(t)).(storage.BegunDiscarder)
	if !ok {
		return // nothing is to be found that the caller cannot name
	}
	stored := p.put(t, 1)
	first := p.upload
	p.begin(t)
	for _, began := range []time.Time{time.Now().Add(-time.Hour), time.Now().Add(time.Hour)} {
		if err := discarder.DiscardBegun(t.Context(), began); err != nil {
			t.Fatal(err)
		}
	}
	p.put(t, 2) // it was not begun then
	second := p.upload
	p.begin(t)
	if err := discarder.DiscardBegun(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	_, err := p.parts(t).PutPart(t.Context(), p.upload, p.part(1))
	expectGone(t, err)
	if err := p.parts(t).Abort(t.Context(), second); err != nil {
		t.Error(err)
	}
	p.upload = first
	p.finish(t, append(stored, p.put(t, 2, 3)...))
}
