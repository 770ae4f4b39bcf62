package sandbox_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/sandbox"
	"github.com/copyfleet/copyfleet/storage/storagetest"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(childEnv); role != "" {
		os.Exit(runChild(context.Background(), role))
	}
	goleak.VerifyTestMain(m)
}

const org, box = "ORG-a", "SBX-1"

// bench is a store with one sandbox, and its directory as the sandbox's own processes see it.
type bench struct {
	store *sandbox.Store
	root  string // of the store
	dir   string // of the sandbox
	temps atomic.Int64
}

func newBench(t testing.TB, opts sandbox.Options) *bench {
	t.Helper()
	return newBenchAt(t, t.TempDir(), opts)
}

func newBenchAt(t testing.TB, root string, opts sandbox.Options) *bench {
	t.Helper()
	store, err := sandbox.Open(root, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	b := &bench{store: store, root: root, dir: filepath.Join(root, org, box)}
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) source(path string) storage.Source { return b.store.Source(org, box, path) }

func (b *bench) destination(path string) storage.Destination {
	return b.store.Destination(org, box, path, "t"+strconv.FormatInt(b.temps.Add(1), 10), nil)
}

func (b *bench) file(path string) string { return filepath.Join(b.dir, filepath.FromSlash(path)) }

func (b *bench) write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(b.file(path)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.file(path), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// hidden names the hidden files anywhere below the root.
func (b *bench) hidden(t testing.TB) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(b.root, func(path string, _ fs.DirEntry, err error) error {
		if strings.HasPrefix(filepath.Base(path), ".copyfleet-") {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return names
}

func (b *bench) target(path string) storagetest.Target {
	return storagetest.Target{
		Destination: func() storage.Destination { return b.destination(path) },
		Read: func(t *testing.T) ([]byte, bool) {
			data, err := os.ReadFile(b.file(path))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
			}
			return data, err == nil
		},
		Leftovers: func(t *testing.T) []string { return b.hidden(t) },
	}
}

func TestConformance(t *testing.T) {
	for name, opts := range map[string]sandbox.Options{"Sync": {Sync: true}, "NoSync": {}} {
		t.Run(name, func(t *testing.T) {
			storagetest.Run(t, storagetest.Harness{
				Features: storagetest.Features{
					Source: true, Destination: true, Ranges: true, Parts: true, CompletesAgain: true, OnlyNew: true,
				},
				NewSource: func(t *testing.T, data []byte) storage.Source {
					b := newBench(t, opts)
					b.write(t, "/in/file", data)
					return b.source("/in/file")
				},
				NewRanger: func(t *testing.T, data []byte) (storage.Ranger, func([]byte)) {
					b := newBench(t, opts)
					b.write(t, "/in/file", data)
					ranger, ok := b.source("/in/file").(storage.Ranger)
					if !ok {
						t.Fatal("a file cannot be read from the middle")
					}
					return ranger, func(data []byte) { b.write(t, "/in/file", data) }
				},
				Missing:   func(t *testing.T) storage.Source { return newBench(t, opts).source("/in/file") },
				NewTarget: func(t *testing.T) storagetest.Target { return newBench(t, opts).target("/out/file") },
				NamedTarget: func(t *testing.T, name string) storagetest.Target {
					return newBench(t, opts).target("/" + name)
				},
			})
		})
	}
}

// put writes data with temp and stale names of the caller's choice.
func put(t *testing.T, d storage.Destination, data []byte) error {
	t.Helper()
	_, err := d.Put(t.Context(), storage.Content{Body: strings.NewReader(string(data)), Size: int64(len(data))})
	return err
}

// read opens and reads a source to its end.
func read(t *testing.T, s storage.Source) ([]byte, error) {
	t.Helper()
	object, err := s.Open(t.Context())
	if err != nil {
		return nil, err
	}
	defer object.Body.Close()
	return io.ReadAll(object.Body)
}

// expectCode reports an error that is not of the class and code.
func expectCode(t *testing.T, err error, class storage.Class, code string) {
	t.Helper()
	e, ok := errors.AsType[*storage.Error](err)
	if !ok || e.Class != class || e.Code != code {
		t.Errorf("error %v, want class %d, code %s", err, class, code)
	}
}
