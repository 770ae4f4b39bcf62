package storagetest

import (
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/copyfleet/copyfleet/storage"
)

// Data returns n bytes that depend on n and version only and in which no stretch repeats, so that a lost, doubled or
// swapped buffer is seen.
func Data(n int, version byte) []byte {
	var seed [32]byte
	seed[0], seed[1], seed[2], seed[3], seed[4] = version, byte(n), byte(n>>8), byte(n>>16), byte(n>>24)
	data := make([]byte, n)
	_, _ = rand.NewChaCha8(seed).Read(data) // never fails
	return data
}

// body is a Content.Body that knows how far it was read. Drivers may read it on a goroutine of their own.
type body struct {
	data  []byte
	step  int         // bytes a Read gives at most; 0: as many as fit
	fail  error       // what follows the data instead of io.EOF
	after func(n int) // called without the lock after a Read, with the bytes given so far; may be nil

	mu   sync.Mutex
	read int
	end  bool // io.EOF or fail was returned
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.next(p)
	if b.after != nil && n > 0 {
		b.after(b.consumed())
	}
	return n, err
}

func (b *body) next(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	if b.read == len(b.data) {
		b.end = true
		if b.fail != nil {
			return 0, b.fail
		}
		return 0, io.EOF
	}
	if b.step > 0 && len(p) > b.step {
		p = p[:b.step]
	}
	n := copy(p, b.data[b.read:])
	b.read += n
	return n, nil
}

func (b *body) consumed() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.read
}

func (b *body) ended() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.end
}

// ready is a Content.Ready that notes when it was called.
type ready struct {
	body   *body
	answer error
	during func() // called while the driver waits for the answer; may be nil

	mu    sync.Mutex
	calls int
	read  int  // bytes of body read at the first call
	ended bool // whether the end of body had been seen at the first call
}

func (r *ready) call() error {
	r.mu.Lock()
	r.calls++
	if r.calls == 1 {
		r.read, r.ended = r.body.consumed(), r.body.ended()
	}
	r.mu.Unlock()
	if r.during != nil {
		r.during()
	}
	return r.answer
}

func (r *ready) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.calls
}

// verify reports a Ready that was not called exactly once, or too early.
func (r *ready) verify(t *testing.T, f Features) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.calls != 1:
		t.Errorf("Content.Ready was called %d times, want exactly once", r.calls)
	case r.read != len(r.body.data):
		t.Errorf("Content.Ready was called after %d of %d bytes had been read", r.read, len(r.body.data))
	case !r.ended && !f.CommitIsLastByte:
		t.Error("Content.Ready was called before the end of Content.Body was seen")
	}
}

// requireClassified ends the test unless err is an error that a driver may return, which it gives back.
func requireClassified(t *testing.T, err error) *storage.Error {
	t.Helper()
	if err == nil {
		t.Fatal("no error, want one")
	}
	e, ok := errors.AsType[*storage.Error](err)
	if !ok {
		t.Fatalf("error %v (%T) is not and wraps no *storage.Error", err, err)
	}
	if e.Code == "" || e.Op == "" || e.Message == "" {
		t.Errorf("error lacks code, operation or message: %+v", *e)
	}
	return e
}
