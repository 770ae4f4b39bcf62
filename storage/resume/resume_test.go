package resume

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/storagetest"
)

// flaky is a source of data whose bodies break off. It does what a script says of the n-th time that it is opened.
type flaky struct {
	data   []byte
	mark   storage.Mark
	script func(n int) step
	opened atomic.Int64
	closed atomic.Int64
	asked  []int64 // offsets
}

// step is what one opening comes to.
type step struct {
	refuse error // of opening
	gives  int   // bytes until it fails; -1: all
	fail   error
}

func fails(class storage.Class, code string) *storage.Error {
	return storage.Errorf(class, code, "read", "flaky", "it failed")
}

var cut = fails(storage.Interrupted, "source_short")

// newFlaky returns a source whose bodies break off after some bytes each.
func newFlaky(data []byte, each int) *flaky {
	return &flaky{data: data, mark: storage.Mark{ETag: `"v1"`, Size: int64(len(data))}, script: func(int) step { return step{gives: each, fail: cut} }}
}

func (f *flaky) Open(ctx context.Context) (*storage.Object, error) {
	return f.from(ctx, 0, int64(len(f.data)))
}

func (f *flaky) OpenRange(ctx context.Context, mark storage.Mark, offset, length int64) (*storage.Object, error) {
	if mark != f.mark {
		return nil, fails(storage.Corrupt, storage.CodeSourceChanged)
	}
	if length == storage.UnknownSize {
		length = int64(len(f.data)) - offset
	}
	return f.from(ctx, offset, offset+length)
}

func (f *flaky) from(ctx context.Context, offset, end int64) (*storage.Object, error) {
	if err := ended(ctx); err != nil {
		return nil, err
	}
	f.asked = append(f.asked, offset)
	now := f.script(int(f.opened.Add(1)))
	if now.refuse != nil {
		f.closed.Add(1)
		return nil, now.refuse
	}
	given := f.data[offset:end]
	if now.gives >= 0 && now.gives < len(given) {
		given = given[:now.gives]
	} else {
		now.fail = io.EOF
	}
	b := &flakyBody{ctx: ctx, f: f, left: given, end: now.fail}
	return &storage.Object{Body: b, Size: end - offset, ETag: f.mark.ETag, Modified: f.mark.Modified}, nil
}

func ended(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	e := fails(storage.Interrupted, "source_canceled")
	e.Err = context.Cause(ctx)
	return e
}

type flakyBody struct {
	ctx    context.Context
	f      *flaky
	left   []byte
	end    error
	closed atomic.Bool
}

func (b *flakyBody) Read(p []byte) (int, error) {
	if b.closed.Load() {
		return 0, fails(storage.Interrupted, "source_closed_here")
	}
	if err := ended(b.ctx); err != nil {
		return 0, err
	}
	n := copy(p, b.left)
	if b.left = b.left[n:]; len(b.left) == 0 {
		return n, b.end // with the last bytes, as a Reader may
	}
	return n, nil
}

func (b *flakyBody) Close() error {
	if !b.closed.Swap(true) {
		b.f.closed.Add(1)
	}
	return nil
}

// resumed is a source that goes on by itself.
type resumed struct {
	storage.Source
	opts Options
}

func (r resumed) Open(ctx context.Context) (*storage.Object, error) {
	return Open(ctx, r.Source, r.opts)
}

// TestConformance: a source that breaks off all the time is a source like any other.
func TestConformance(t *testing.T) {
	t.Parallel()
	for name, parts := range map[string]int{"in one piece": 1, "broken off": 7} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for _, size := range []int{0, 1, 2, 1000, 1 << 20} {
					data := storagetest.Data(size, 1)
					f := newFlaky(data, size/parts)
					if parts == 1 || size < parts {
						f.script = func(int) step { return step{gives: -1} }
					}
					var breaks int
					var next int64
					object, err := Open(t.Context(), f, Options{Resumed: func(offset int64, cause error) {
						if breaks++; offset <= next || !errors.Is(cause, cut) {
							t.Errorf("went on at %d after %d because of %v", offset, next, cause)
						}
						next = offset
					}})
					if err != nil {
						t.Fatal(err)
					}
					got, err := io.ReadAll(object.Body)
					if err != nil || !bytes.Equal(got, data) || object.Size != int64(size) {
						t.Errorf("%d of %d bytes, %v", len(got), size, err)
					}
					if n, err := object.Body.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
						t.Errorf("after the end: %d, %v", n, err)
					}
					_ = object.Body.Close()
					if parts > 1 && size >= parts && breaks < parts-1 || f.opened.Load() != f.closed.Load() {
						t.Errorf("%d breaks; %d bodies opened, %d closed", breaks, f.opened.Load(), f.closed.Load())
					}
				}
			})
		})
	}
	t.Run("suite", func(t *testing.T) {
		t.Parallel()
		storagetest.Run(t, storagetest.Harness{
			Features: storagetest.Features{Source: true},
			NewSource: func(_ *testing.T, data []byte) storage.Source {
				return resumed{Source: newFlaky(data, len(data)/3+1)}
			},
		})
	})
}

// TestGivingUp reads from sources that do not come back, or come back as something else.
func TestGivingUp(t *testing.T) {
	t.Parallel()
	const size = 4 << 20
	once := func(then step) func(int) step {
		return func(n int) step {
			if n == 1 {
				return step{gives: 100, fail: cut}
			}
			return then
		}
	}
	silent := fails(storage.Timeout, "source_idle_timeout")
	later := fails(storage.Unavailable, "source_http_503")
	later.RetryAfter = time.Minute
	for _, tt := range []struct {
		name   string
		script func(n int) step
		class  storage.Class
		code   string
		opened int64
	}{
		{"away", once(step{refuse: fails(storage.Unavailable, "source_reset")}), storage.Unavailable, "source_reset", 4},
		{"breaks off without a byte", once(step{gives: 0, fail: cut}), storage.Interrupted, "source_short", 4},
		{"silent", once(step{refuse: silent}), storage.Timeout, "source_idle_timeout", 3},
		{"silent at once", func(int) step { return step{gives: 1, fail: silent} }, storage.Timeout, "source_idle_timeout", 2},
		{"silent after some bytes each time", func(int) step { return step{gives: worth / 2, fail: silent} }, storage.Timeout, "source_idle_timeout", 2},
		{"wants more time", once(step{refuse: later}), storage.Unavailable, "source_http_503", 2},
		{"gone", once(step{refuse: fails(storage.NotFound, "source_http_404")}), storage.NotFound, "source_http_404", 2},
		{"forbidden", once(step{refuse: fails(storage.Denied, "source_http_403")}), storage.Denied, "source_http_403", 2},
		{"moved to a forbidden address", once(step{refuse: fails(storage.ForbiddenAddress, "forbidden_address")}), storage.ForbiddenAddress, "forbidden_address", 2},
		{"changed", once(step{refuse: fails(storage.Corrupt, storage.CodeSourceChanged)}), storage.Interrupted, storage.CodeSourceChanged, 2},
		{"has no more", once(step{refuse: fails(storage.Interrupted, storage.CodeSourceShort)}), storage.Interrupted, storage.CodeSourceShort, 2},
		{"whole only", once(step{refuse: fails(storage.Invalid, storage.CodeNoRanges)}), storage.Interrupted, storage.CodeNoRanges, 2},
		{"wrong part", once(step{refuse: fails(storage.Corrupt, "source_range_wrong")}), storage.Interrupted, "source_range_wrong", 2},
		{"corrupt in the middle", once(step{gives: 5, fail: fails(storage.Corrupt, "source_range_wrong")}), storage.Corrupt, "source_range_wrong", 2},
		{"no error of storage", once(step{gives: 5, fail: io.ErrUnexpectedEOF}), storage.Internal, "", 2},
		{"a byte each time", func(int) step { return step{gives: 1, fail: cut} }, storage.Interrupted, "source_short", maxResumes + 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFlaky(make([]byte, size), 0)
				f.script = tt.script
				begun := time.Now()
				object, err := Open(t.Context(), f, Options{})
				if err != nil {
					t.Fatal(err)
				}
				defer object.Body.Close()
				_, err = io.Copy(io.Discard, object.Body)
				e, _ := errors.AsType[*storage.Error](err)
				if storage.ClassOf(err) != tt.class || e != nil && e.Code != tt.code {
					t.Errorf("class %d, %v", storage.ClassOf(err), err)
				}
				if f.opened.Load() != tt.opened {
					t.Errorf("it was opened %d times, want %d", f.opened.Load(), tt.opened)
				}
				if took := time.Since(begun); tt.opened < 10 && took > time.Second {
					t.Errorf("it took %s", took)
				}
				if _, again := object.Body.Read(make([]byte, 1)); !errors.Is(again, err) {
					t.Errorf("the next Read returned %v", again)
				}
			})
		})
	}
}

// A timeout is forgiven once the source has given enough since.
func TestTimeoutsFarApart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFlaky(make([]byte, 5*worth), 0)
		f.script = func(int) step { return step{gives: worth, fail: fails(storage.Timeout, "source_idle_timeout")} }
		object, err := Open(t.Context(), f, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer object.Body.Close()
		if n, err := io.Copy(io.Discard, object.Body); err != nil || n != 5*worth {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
}

// The waits grow, and last as long as a source asks for.
func TestBackoff(t *testing.T) {
	t.Parallel()
	busy := fails(storage.Throttled, "source_http_429")
	busy.RetryAfter = 3 * time.Second
	for _, tt := range []struct {
		refuse      error
		least, most time.Duration
	}{
		{fails(storage.Unavailable, "source_reset"), 350 * time.Millisecond, 700 * time.Millisecond},
		{busy, 50*time.Millisecond + 6*time.Second, 100*time.Millisecond + 6*time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newFlaky(make([]byte, 1000), 0)
			f.script = func(n int) step {
				switch n {
				case 1:
					return step{gives: 10, fail: cut}
				case 2, 3:
					return step{refuse: tt.refuse}
				}
				return step{gives: -1}
			}
			object, err := Open(t.Context(), f, Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer object.Body.Close()
			begun := time.Now()
			if _, err := io.Copy(io.Discard, object.Body); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begun); took < tt.least || took > tt.most {
				t.Errorf("after %v it took %s, want %s to %s", tt.refuse, took, tt.least, tt.most)
			}
		})
	}
}

// What cannot be continued is read as it is.
func TestNotResumable(t *testing.T) {
	t.Parallel()
	weak := newFlaky(make([]byte, 100), 10)
	weak.mark.ETag = `W/"v1"`
	plain := struct{ storage.Source }{newFlaky(make([]byte, 100), 10)}
	for _, source := range []storage.Source{weak, plain} {
		object, err := Open(t.Context(), source, Options{Resumed: func(int64, error) { t.Error("it went on") }})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(object.Body); len(got) != 10 || !errors.Is(err, cut) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		object.Body.Close()
	}
	refuse := newFlaky(nil, 0)
	refuse.script = func(int) step { return step{refuse: cut} }
	if _, err := Open(t.Context(), refuse, Options{}); !errors.Is(err, cut) || refuse.opened.Load() != 1 {
		t.Errorf("%v after %d tries", err, refuse.opened.Load())
	}
}

func TestOpenRange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFlaky([]byte("0123456789"), 2)
		object, err := OpenRange(t.Context(), f, f.mark, 3, 5, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer object.Body.Close()
		if got, err := io.ReadAll(object.Body); err != nil || string(got) != "34567" {
			t.Errorf("%q, %v", got, err)
		}
		if _, err := OpenRange(t.Context(), f, storage.Mark{ETag: `"v2"`, Size: 10}, 3, 5, Options{}); storage.ClassOf(err) != storage.Corrupt {
			t.Errorf("another state: %v", err)
		}
	})
}

// A canceled context and Close end the wait for another try, and are told as what they are.
func TestEndsWhileItWaits(t *testing.T) {
	t.Parallel()
	why := errors.New("drained")
	for name, end := range map[string]func(cancel context.CancelCauseFunc, body io.Closer){
		"context": func(cancel context.CancelCauseFunc, _ io.Closer) { cancel(why) },
		"close":   func(_ context.CancelCauseFunc, body io.Closer) { _ = body.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				f := newFlaky(make([]byte, 100), 10)
				late := fails(storage.Unavailable, "source_http_503")
				late.RetryAfter = longestWait
				f.script = func(int) step { return step{gives: 10, fail: late} }
				object, err := Open(ctx, f, Options{})
				if err != nil {
					t.Fatal(err)
				}
				ended := make(chan error)
				go func() {
					_, err := io.Copy(io.Discard, object.Body)
					ended <- err
				}()
				synctest.Wait()
				begun := time.Now()
				end(cancel, object.Body)
				err = <-ended
				if time.Since(begun) != 0 || storage.ClassOf(err) != storage.Interrupted || name == "context" && !errors.Is(err, why) {
					t.Errorf("after %s: %v", time.Since(begun), err)
				}
				_ = object.Body.Close()
				if f.opened.Load() != f.closed.Load() {
					t.Errorf("%d bodies opened, %d closed", f.opened.Load(), f.closed.Load())
				}
			})
		})
	}
}

// A source that comes back after Close is closed as well.
func TestClosedWhileItIsOpened(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFlaky(make([]byte, 100), 10)
		var body io.Closer
		f.script = func(n int) step {
			if n == 2 {
				_ = body.Close()
			}
			return step{gives: 10, fail: cut}
		}
		object, err := Open(t.Context(), f, Options{})
		if err != nil {
			t.Fatal(err)
		}
		body = object.Body
		_, err = io.Copy(io.Discard, object.Body)
		if storage.ClassOf(err) != storage.Interrupted || !strings.Contains(err.Error(), "closed") || f.opened.Load() != f.closed.Load() {
			t.Errorf("%v; %d bodies opened, %d closed", err, f.opened.Load(), f.closed.Load())
		}
	})
}
