package faulty_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/decorate"
	"github.com/copyfleet/copyfleet/storage/faulty"
	"github.com/copyfleet/copyfleet/storage/memory"
	"github.com/copyfleet/copyfleet/storage/storagetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestConformance shows that a set of faults that hit nothing changes nothing.
func TestConformance(t *testing.T) {
	set := faulty.New(1, faulty.Fault{Op: decorate.Put, Err: errFault, Skip: 1 << 40})
	storagetest.Run(t, storagetest.Around(set.Source, set.Destination))
	if len(set.Hits()) > 0 {
		t.Errorf("hit %v", set.Hits())
	}
}

var errFault = errors.New("the fault")

// outcomes opens and reads a source so many times; "o" is a failure of Open, "b" of the body, "." a success.
func outcomes(t *testing.T, s storage.Source, times int) string {
	t.Helper()
	var all []byte
	for range times {
		object, err := s.Open(t.Context())
		if err != nil {
			all = append(all, 'o')
			continue
		}
		data, err := io.ReadAll(object.Body)
		switch {
		case err == nil:
			all = append(all, '.')
		case errors.Is(err, errFault) && len(data) == 10:
			all = append(all, 'b')
		default:
			t.Errorf("%d bytes, then %v", len(data), err)
		}
	}
	return string(all)
}

func TestWhichUsesAreHit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		faults []faulty.Fault
		want   string
	}{
		{"None", nil, "......"},
		{"Each", []faulty.Fault{{Op: decorate.Open, Err: errFault}}, "oooooo"},
		{"Late", []faulty.Fault{{Op: decorate.Open, Err: errFault, Late: true}}, "oooooo"},
		{"Other", []faulty.Fault{{Op: decorate.Put, Err: errFault}}, "......"},
		{"Skip", []faulty.Fault{{Op: decorate.Open, Err: errFault, Skip: 4}}, "....oo"},
		{"Times", []faulty.Fault{{Op: decorate.Open, Err: errFault, Skip: 1, Times: 2}}, ".oo..."},
		{"Body", []faulty.Fault{{Op: decorate.Open, Err: errFault, Body: true, After: 10, Skip: 2, Times: 2}}, "..bb.."},
		{"BodyEndsBefore", []faulty.Fault{{Op: decorate.Open, Err: errFault, Body: true, After: 101}}, "......"},
		{"Both", []faulty.Fault{
			{Op: decorate.Open, Err: errFault, Times: 1}, {Op: decorate.Open, Err: errFault, Body: true, After: 10, Times: 1},
		}, "ob...."},
	} {
		source := faulty.New(1, c.faults...).Source(memory.NewSource(make([]byte, 100)))
		if got := outcomes(t, source, 6); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// TestSeed shows that chance is repeatable, and is chance.
func TestSeed(t *testing.T) {
	t.Parallel()
	run := func(seed uint64) (string, []faulty.Hit) {
		set := faulty.New(seed, faulty.Fault{Op: decorate.Open, Err: errFault, Chance: 0.5})
		got := outcomes(t, set.Source(memory.NewSource(nil)), 64)
		return got, set.Hits()
	}
	first, hits := run(1)
	again, hitsAgain := run(1)
	other, _ := run(2)
	if first != again || !slices.Equal(hits, hitsAgain) || first == other {
		t.Errorf("%s, then %s; with another seed %s", first, again, other)
	}
	if len(hits) < 16 || len(hits) > 48 {
		t.Errorf("%d of 64 uses were hit, want about a half", len(hits))
	}
}

// TestLateAnswer loses the answer of a completion that was done.
func TestLateAnswer(t *testing.T) {
	t.Parallel()
	inner := &memory.Destination{}
	set := faulty.New(1, faulty.Fault{Op: decorate.Put, Err: errFault, Late: true, Times: 1})
	_, err := set.Destination(inner).Put(t.Context(), storage.Content{Body: bytes.NewReader([]byte("abc")), Size: 3})
	if got, ok := inner.Bytes(); !errors.Is(err, errFault) || !ok || string(got) != "abc" {
		t.Errorf("error %v, visible %q (%t)", err, got, ok)
	}
	if hits := set.Hits(); len(hits) != 1 || hits[0] != (faulty.Hit{Use: 1}) {
		t.Errorf("hit %v", hits)
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		set := faulty.New(1, faulty.Fault{Op: decorate.Open, Wait: time.Hour}, faulty.Fault{Op: decorate.Open, Body: true, Wait: time.Hour})
		begun := time.Now()
		if got := outcomes(t, set.Source(memory.NewSource(make([]byte, 1))), 1); got != "." {
			t.Errorf("it ended with %s", got)
		}
		if took := time.Since(begun); took < 2*time.Hour {
			t.Errorf("it took %s, want two hours and more", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := set.Source(memory.NewSource(nil)).Open(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
	})
}
