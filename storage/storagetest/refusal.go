package storagetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/copyfleet/copyfleet/storage"
)

// refusal is a Put that must fail and change nothing.
type refusal struct {
	name string
	run  func(t *testing.T, h Harness, target Target) error
}

var refusals = []refusal{
	{"BodyFailsAtOnce", func(t *testing.T, h Harness, target Target) error { return bodyFails(t, h, target, 5000, 0) }},
	{"BodyFailsMidway", func(t *testing.T, h Harness, target Target) error {
		return bodyFails(t, h, target, 2*BufferSize, BufferSize+1)
	}},
	{"BodyFailsBeforeLastByte", func(t *testing.T, h Harness, target Target) error { return bodyFails(t, h, target, 5000, 4999) }},
	{"BodyFailsUnclassified", bodyFailsUnclassified},
	{"BodyFailsWithWrappedEnd", bodyFailsWithWrappedEnd},
	{"ReadyRefuses", func(t *testing.T, h Harness, target Target) error { return readyRefuses(t, h, target, BufferSize+1) }},
	{"ReadyRefusesEmpty", func(t *testing.T, h Harness, target Target) error { return readyRefuses(t, h, target, 0) }},
	{"ReadyRefusesOneByte", func(t *testing.T, h Harness, target Target) error { return readyRefuses(t, h, target, 1) }},
	{"Short", func(t *testing.T, h Harness, target Target) error { return wrongLength(t, target, 5000, 5001) }},
	{"ShortByABuffer", func(t *testing.T, h Harness, target Target) error {
		return wrongLength(t, target, 5000, 5000+BufferSize)
	}},
	{"Empty", func(t *testing.T, h Harness, target Target) error { return wrongLength(t, target, 0, 1) }},
	{"Long", func(t *testing.T, h Harness, target Target) error { return wrongLength(t, target, 5001, 5000) }},
	{"LongByABuffer", func(t *testing.T, h Harness, target Target) error {
		return wrongLength(t, target, 5000+BufferSize, 5000)
	}},
	{"LongInsteadOfEmpty", func(t *testing.T, h Harness, target Target) error { return wrongLength(t, target, 1, 0) }},
	{"CanceledBefore", canceledBefore},
	{"CanceledMidway", canceledMidway},
	{"CanceledWhileBodyWaits", canceledWhileBodyWaits},
}

// bodyFailsAtEnd is for drivers that see the end before they commit.
var bodyFailsAtEnd = refusal{"BodyFailsInsteadOfEnd", func(t *testing.T, h Harness, target Target) error {
	return bodyFails(t, h, target, 5000, 5000)
}}

// runRefusals runs every refusal over an empty place and over old content, which must both stay as they were.
func runRefusals(t *testing.T, h Harness) {
	cases := refusals
	if !h.CommitIsLastByte {
		cases = append([]refusal{bodyFailsAtEnd}, refusals...)
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for _, old := range [][]byte{nil, Data(3000, 1)} {
				target := h.NewTarget(t)
				target.seed(t, old)
				target.expectRefused(t, c.run(t, h, target), old)
			}
		})
	}
}

// bodyFails puts size bytes of which only the first n can be read.
func bodyFails(t *testing.T, h Harness, target Target, size, n int) error {
	t.Helper()
	var last error
	for _, known := range announced(h.Features, size) {
		cause := storage.Errorf(storage.Throttled, "suite_body", "read", "the suite", "the body fails after %d bytes", n)
		var r ready
		_, err := put(t.Context(), target.Destination(), &body{data: Data(size, 2)[:n], fail: cause}, known, &r)
		expectCause(t, err, cause)
		if e := requireClassified(t, err); e.Class != storage.Throttled {
			t.Errorf("the class became %d, want that of the error that Body returned: what to do depends on it", e.Class)
		}
		if r.count() != 0 {
			t.Error("Content.Ready was called although Content.Body failed")
		}
		last = err
	}
	return last
}

func bodyFailsUnclassified(t *testing.T, h Harness, target Target) error {
	cause := errors.New("a plain error")
	_, err := put(t.Context(), target.Destination(), &body{data: Data(100, 2), fail: cause}, 200, &ready{})
	expectCause(t, err, cause)
	return err
}

// bodyFailsWithWrappedEnd tells io.EOF, which is the end, from an error that it caused, such as a broken connection.
func bodyFailsWithWrappedEnd(t *testing.T, h Harness, target Target) error {
	t.Helper()
	var last error
	for _, known := range announced(h.Features, 100) {
		cause := storage.Errorf(storage.Unavailable, "suite_body", "read", "the suite", "the connection broke")
		cause.Err = io.EOF
		_, last = put(t.Context(), target.Destination(), &body{data: Data(100, 2)[:50], fail: cause}, known, &ready{})
		expectCause(t, last, cause)
	}
	return last
}

func readyRefuses(t *testing.T, h Harness, target Target, size int) error {
	t.Helper()
	var last error
	for _, known := range announced(h.Features, size) {
		r := ready{answer: storage.Errorf(storage.Conflict, "suite_ready", "commit", "the suite", "it may not become visible")}
		_, err := put(t.Context(), target.Destination(), &body{data: Data(size, 2)}, known, &r)
		expectCause(t, err, r.answer)
		if e := requireClassified(t, err); e.Class != storage.Conflict {
			t.Errorf("the class became %d, want that of the error that Ready returned: what to do depends on it", e.Class)
		}
		r.verify(t, h.Features)
		last = err
	}
	return last
}

// wrongLength puts n bytes that were announced as size.
func wrongLength(t *testing.T, target Target, n int, size int64) error {
	t.Helper()
	var r ready
	_, err := put(t.Context(), target.Destination(), &body{data: Data(n, 2)}, size, &r)
	if e := requireClassified(t, err); e.Class != storage.Corrupt && e.Class != storage.Interrupted {
		t.Errorf("class %d (code %s) for %d bytes announced as %d, want Corrupt or Interrupted", e.Class, e.Code, n, size)
	}
	if r.count() != 0 {
		t.Errorf("Content.Ready was called for %d bytes announced as %d", n, size)
	}
	return err
}

func canceledBefore(t *testing.T, h Harness, target Target) error {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := put(ctx, target.Destination(), &body{data: Data(100, 2)}, 100, &ready{})
	expectCause(t, err, context.Canceled)
	return err
}

// canceledMidway cancels while the body goes on to give bytes, all of them: that none is lacking is no excuse.
func canceledMidway(t *testing.T, h Harness, target Target) error {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const size = 4 * BufferSize
	b := &body{data: Data(size, 2), step: 10_000, after: func(n int) {
		if n > size/2 {
			cancel()
		}
	}}
	_, err := put(ctx, target.Destination(), b, size, &ready{})
	expectCause(t, err, context.Canceled)
	return err
}

// canceledWhileBodyWaits cancels while the body has nothing to give; like every source's body it ends with the context.
func canceledWhileBodyWaits(t *testing.T, h Harness, target Target) error {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	b := &body{data: Data(1000, 2)}
	b.fail = fmt.Errorf("wait for bytes: %w", context.Canceled)
	b.after = func(int) { cancel() }
	_, err := put(ctx, target.Destination(), b, 2000, &ready{})
	expectCause(t, err, context.Canceled)
	return err
}
