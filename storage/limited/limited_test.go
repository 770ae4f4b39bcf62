package limited_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/time/rate"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/limited"
	"github.com/copyfleet/copyfleet/storage/memory"
	"github.com/copyfleet/copyfleet/storage/storagetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	l := limited.New(8 << 30)
	storagetest.Run(t, storagetest.Around(
		func(s storage.Source) storage.Source { return limited.Source(s, l, nil) },
		func(d storage.Destination) storage.Destination { return limited.Destination(d, nil, l) },
	))
}

// TestRateHolds lets readers, sources and destinations share a rate: together they take as long as it says.
func TestRateHolds(t *testing.T) {
	t.Parallel()
	for _, perSecond := range []int64{20_000, 100_000, 5 << 20, 1 << 30} {
		synctest.Test(t, func(t *testing.T) {
			l := limited.New(float64(perSecond))
			data := make([]byte, 5*perSecond/2)
			if perSecond == 1<<30 {
				data = data[:32<<20]
			}
			begun := time.Now()
			var all sync.WaitGroup
			all.Go(func() {
				object, err := limited.Source(memory.NewSource(data), l).Open(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				if n, err := io.Copy(io.Discard, object.Body); err != nil || n != int64(len(data)) {
					t.Errorf("%d bytes, %v", n, err)
				}
			})
			all.Go(func() {
				_, err := limited.Destination(&memory.Destination{}, l).Put(t.Context(), storage.Content{Body: bytes.NewReader(data), Size: int64(len(data))})
				if err != nil {
					t.Error(err)
				}
			})
			all.Wait()
			want := time.Duration(2*len(data)) * time.Second / time.Duration(perSecond)
			if took := time.Since(begun); took < want*9/10-time.Second/4 || took > want*11/10 {
				t.Errorf("%d bytes at %d a second took %s, want %s", 2*len(data), perSecond, took, want)
			}
		})
	}
}

// TestTheSlowestCounts puts two limits around one reader.
func TestTheSlowestCounts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		r := limited.Reader(t.Context(), bytes.NewReader(make([]byte, 100_000)), limited.New(1<<30), nil, limited.New(10_000))
		if n, err := io.Copy(io.Discard, r); err != nil || n != 100_000 {
			t.Errorf("%d bytes, %v", n, err)
		}
		if took := time.Since(begun); took < 9*time.Second || took > 11*time.Second {
			t.Errorf("it took %s, want 10 s", took)
		}
	})
}

func TestNoLimit(t *testing.T) {
	t.Parallel()
	if limited.New(0) != nil || limited.New(-1) != nil {
		t.Error("no rate is a limit")
	}
	s, d, r := memory.NewSource(nil), &memory.Destination{}, bytes.NewReader(nil)
	if limited.Source(s, nil) != storage.Source(s) || limited.Destination(d) != storage.Destination(d) || limited.Reader(t.Context(), r, nil) != io.Reader(r) {
		t.Error("what is not limited is decorated")
	}
}

// TestStoppedWhileItWaits ends a wait of hours.
func TestStoppedWhileItWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		why := errors.New("why")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Minute, func() { cancel(why) })
		begun := time.Now()
		_, err := io.Copy(io.Discard, limited.Reader(ctx, bytes.NewReader(make([]byte, 100_000)), limited.New(1)))
		if !errors.Is(err, why) || storage.ClassOf(err) != storage.Interrupted {
			t.Errorf("error %v, want %v", err, why)
		}
		if took := time.Since(begun); took > time.Minute {
			t.Errorf("it ended after %s", took)
		}
	})
}

// TestBurstMadeSmaller shows that a limit that is changed meanwhile stops nobody.
func TestBurstMadeSmaller(t *testing.T) {
	t.Parallel()
	l := rate.NewLimiter(rate.Inf, 1000)
	r := limited.Reader(t.Context(), &shrinking{bytes.NewReader(make([]byte, 100_000)), l}, l)
	if n, err := io.Copy(io.Discard, r); err != nil || n != 100_000 {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// shrinking makes the burst smaller while it is read.
type shrinking struct {
	io.Reader

	limiter *rate.Limiter
}

func (s *shrinking) Read(p []byte) (int, error) {
	s.limiter.SetLimit(1 << 30)
	s.limiter.SetBurst(max(10, s.limiter.Burst()/2))
	return s.Reader.Read(p)
}
