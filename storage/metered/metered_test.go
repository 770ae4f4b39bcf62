package metered_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/decorate"
	"github.com/copyfleet/copyfleet/storage/faulty"
	"github.com/copyfleet/copyfleet/storage/memory"
	"github.com/copyfleet/copyfleet/storage/metered"
	"github.com/copyfleet/copyfleet/storage/storagetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	var uses, bytes atomic.Int64
	told := metered.Told{
		Used:  func(_ context.Context, _ metered.Use) { uses.Add(1) },
		Moved: func(_ decorate.Op, n int) { bytes.Add(int64(n)) },
	}
	storagetest.Run(t, storagetest.Around(
		func(s storage.Source) storage.Source { return metered.Source(s, told) },
		func(d storage.Destination) storage.Destination { return metered.Destination(d, told) },
	))
	if uses.Load() == 0 || bytes.Load() == 0 {
		t.Error("nobody was told of anything")
	}
}

// TestWhatIsTold counts bytes and takes the time of what fails and what does not.
func TestWhatIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var uses []metered.Use
		moved := map[decorate.Op]int{}
		told := metered.Told{
			Used: func(_ context.Context, u metered.Use) {
				mu.Lock()
				defer mu.Unlock()
				uses = append(uses, u)
			},
			Moved: func(op decorate.Op, n int) {
				mu.Lock()
				defer mu.Unlock()
				moved[op] += n
			},
		}
		slow := faulty.New(1,
			faulty.Fault{Op: decorate.Open, Wait: time.Second},
			faulty.Fault{Op: decorate.Put, Wait: time.Minute, Err: storage.Errorf(storage.NoSpace, "full", "write", "it", "it is full"), Skip: 1},
			faulty.Fault{Op: decorate.Put, Wait: 2 * time.Second},
		)
		source := metered.Source(slow.Source(memory.NewSource(make([]byte, 1000))), told)
		destination := metered.Destination(slow.Destination(&memory.Destination{}), told)
		for range 2 {
			object, err := source.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_, _ = destination.Put(t.Context(), storage.Content{Body: object.Body, Size: 1000})
		}
		want := []metered.Use{
			{Op: decorate.Open, Took: time.Second},
			{Op: decorate.Put, Took: 2 * time.Second},
			{Op: decorate.Open, Took: time.Second},
			{Op: decorate.Put, Took: time.Minute, Failed: true, Class: storage.NoSpace},
		}
		if len(uses) != len(want) {
			t.Fatalf("told %+v", uses)
		}
		for i, w := range want {
			if uses[i] != w {
				t.Errorf("told %+v, want %+v", uses[i], w)
			}
		}
		if moved[decorate.Open] != 1000 || moved[decorate.Put] != 1000 {
			t.Errorf("moved %v, want 1000 bytes read and written", moved)
		}
	})
}

// TestNobodyIsTold shows that hooks may be left out.
func TestNobodyIsTold(t *testing.T) {
	t.Parallel()
	fault := errors.New("fault")
	set := faulty.New(1, faulty.Fault{Op: decorate.Put, Err: fault, Times: 1})
	d := metered.Destination(set.Destination(&memory.Destination{}), metered.Told{})
	_, err := d.Put(t.Context(), storage.Content{Body: io.NopCloser(bytes.NewReader(nil)), Size: 0})
	if !errors.Is(err, fault) {
		t.Errorf("error %v, want the fault", err)
	}
}

// file is a source whose body the system can copy by itself.
type file struct{ storage.Source }

func (f file) Open(ctx context.Context) (*storage.Object, error) {
	object, err := f.Source.Open(ctx)
	if err == nil {
		object.Body = sender{object.Body}
	}
	return object, err
}

type sender struct{ io.ReadCloser }

func (s sender) SendFile(to *os.File, most int64) (int64, error) { return io.CopyN(to, s, most) }

// TestAFileStaysOne counts what the system copies of a file, which it can do as before.
func TestAFileStaysOne(t *testing.T) {
	t.Parallel()
	moved := 0
	told := metered.Told{Moved: func(_ decorate.Op, n int) { moved += n }}
	object, err := metered.Source(metered.Source(file{memory.NewSource(make([]byte, 1000))}, told), told).Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer object.Body.Close()
	to, err := os.Create(filepath.Join(t.TempDir(), "to"))
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	body, ok := object.Body.(storage.FileSender)
	if !ok {
		t.Fatalf("the body is a %T", object.Body)
	}
	if n, err := body.SendFile(to, 700); n != 700 || err != nil || moved != 2*700 {
		t.Errorf("%d bytes, %v; told of %d", n, err, moved)
	}
}
