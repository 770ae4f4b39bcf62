package sandbox_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/sandbox"
)

// owned is an attempt of a name, after others.
func (b *bench) owned(path string, policy storage.TreePolicy, temp string, stale ...string) storage.Destination {
	return b.store.Tree(org, box, path, policy, treeLimits, temp, stale)
}

// TestStaleWorkerCannotShowTree lets a successor take the item over right before the last step of a slow worker, whose Ready has agreed.
func TestStaleWorkerCannotShowTree(t *testing.T) {
	for name, policy := range map[string]storage.TreePolicy{"New": storage.NewTree, "Replace": storage.ReplaceTree, "Merge": storage.MergeTree} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, sandbox.Options{})
			if policy != storage.NewTree {
				b.write(t, "/d/x/f", []byte("old"))
			}
			takeOver := func() error {
				_, err := putTree(t.Context(), b.owned("/d/x", policy, "second", "first"), packed(t, "f:second", "g:second"), nil)
				return err
			}
			_, err := putTree(t.Context(), b.owned("/d/x", policy, "first"), packed(t, "f:first", "h:first"), takeOver)
			expectCode(t, err, storage.Interrupted, "lease_lost")
			expectTree(t, b, "/d/x", "/f"+regularType+"second", "/g"+regularType+"second")
		})
	}
}

// TestStaleWorkerFailsWhileUnpacking takes the directory away that a worker unpacks into.
func TestStaleWorkerFailsWhileUnpacking(t *testing.T) {
	b := newBench(t, sandbox.Options{})
	body := packed(t, "a/b/f:first", "a/b/g:"+strings.Repeat("x", 100_000), "a/c/h:first", "a/d/i:first")
	taken := false
	takeOver := readerFunc(func([]byte) (int, error) {
		if !taken {
			taken = true
			if d, ok := b.owned("/x", storage.NewTree, "second", "first").(interface{ Discard() error }); !ok || d.Discard() != nil {
				t.Error("the successor could not clean up")
			}
			expectNothing(t, b)
		}
		return 0, io.EOF
	})
	content := storage.Content{Body: io.MultiReader(bytes.NewReader(body[:50_000]), takeOver, bytes.NewReader(body[50_000:])), Size: int64(len(body))}
	_, err := b.owned("/x", storage.NewTree, "first").Put(t.Context(), content)
	if storage.ClassOf(err) != storage.Interrupted {
		t.Errorf("error %v", err)
	}
	expectNothing(t, b)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func expectNothing(t *testing.T, b *bench) {
	t.Helper()
	if entries, err := os.ReadDir(b.dir); err != nil || len(entries) > 0 {
		t.Errorf("there is %v, %v", entries, err)
	}
}

// TestDeadWorkersTreesGo: whatever step a worker died at, its successor removes what it left, and nobody else's.
func TestDeadWorkersTreesGo(t *testing.T) {
	b := newBench(t, sandbox.Options{})
	for _, path := range []string{
		"/d/.copyfleet-dead1/a/b/half", "/d/.copyfleet-dead2.0/taken/half", "/d/.copyfleet-dead2.old/replaced", "/d/.copyfleet-file", "/d/x/f",
	} {
		b.write(t, path, []byte("half"))
	}
	b.write(t, "/d/.copyfleet-other/f", []byte("half"))
	b.write(t, "/d/.copyfleet-dead10/f", []byte("half"))
	b.write(t, "/d/.copyfleet-other.0/f", []byte("half"))
	d := b.owned("/d/x", storage.ReplaceTree, "mine", "dead1", "dead2", "file", "none")
	if _, err := putTree(t.Context(), d, packed(t, "f:new"), nil); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"other", "dead10", "other.0"} {
		if err := os.RemoveAll(b.file("/d/.copyfleet-" + name)); err != nil {
			t.Fatal(err)
		}
	}
	expectTree(t, b, "/d/x", "/f"+regularType+"new")
}

func TestDiscardKeepsOthersTrees(t *testing.T) {
	b := newBench(t, sandbox.Options{})
	b.write(t, "/d/.copyfleet-dead1/f", []byte("half"))
	b.write(t, "/d/.copyfleet-other/f", []byte("half"))
	b.write(t, "/d/x/f", []byte("visible"))
	for path, code := range map[string]string{"/d/x": "", "/gone/x": "", "/": "path_invalid"} {
		d, ok := b.owned(path, storage.MergeTree, "mine", "dead1").(interface{ Discard() error })
		if !ok {
			t.Fatal("a tree cannot discard")
		}
		err := d.Discard()
		if code == "" && err != nil {
			t.Errorf("%s: %v", path, err)
		} else if code != "" {
			expectCode(t, err, storage.Invalid, code)
		}
	}
	if left := b.hidden(t); len(left) != 1 || left[0] != b.file("/d/.copyfleet-other") {
		t.Errorf("left: %q, want only what belongs to another", left)
	}
}

// TestReplacedTreeGoesBack: on a file system that cannot exchange names, a worker died after it had put aside what it was to replace.
func TestReplacedTreeGoesBack(t *testing.T) {
	b := newBench(t, sandbox.Options{})
	b.write(t, "/d/.copyfleet-dead.old/f", []byte("old"))
	b.write(t, "/d/.copyfleet-dead/f", []byte("new"))
	refused := errors.New("no")
	_, err := putTree(t.Context(), b.owned("/d/x", storage.ReplaceTree, "mine", "dead"), packed(t, "f:newer"), func() error { return refused })
	if !errors.Is(err, refused) {
		t.Error(err)
	}
	expectTree(t, b, "/d/x", "/f"+regularType+"old")
}

func TestTreeTemps(t *testing.T) {
	b := newBench(t, sandbox.Options{})
	b.write(t, "/.copyfleet-taken/f", []byte("half"))
	for temp, code := range map[string]string{"../x": "temp_invalid", "": "temp_invalid", "a.b": "temp_invalid", "taken": "temp_exists"} {
		_, err := putTree(t.Context(), b.owned("/x", storage.MergeTree, temp), packed(t, "f:new"), nil)
		expectCode(t, err, storage.Internal, code)
	}
	if _, err := os.Stat(b.file("/.copyfleet-taken/f")); err != nil {
		t.Errorf("a hidden directory of somebody else's was removed: %v", err)
	}
	if _, err := putTree(t.Context(), b.owned("/x", storage.MergeTree, "taken", "taken"), packed(t, "f:new"), nil); err != nil {
		t.Errorf("a stale one of the same name: %v", err)
	}
	expectTree(t, b, "/x", "/f"+regularType+"new")
}

// TestTreeSwappedMidway lets a process in the sandbox put links to the outside in every place between the look and the last step.
func TestTreeSwappedMidway(t *testing.T) {
	for name, c := range map[string]struct {
		policy storage.TreePolicy
		old    string // is there before
		swap   func(b *bench, hidden string) error
		code   string
	}{
		"TargetBecomesLink": {storage.NewTree, "", func(b *bench, _ string) error { return os.Symlink("../outside", b.file("/x")) }, storage.CodeDestinationExists},
		"ReplacedBecomesLink": {storage.ReplaceTree, "/x/f", func(b *bench, _ string) error {
			return errors.Join(os.Rename(b.file("/x"), b.file("/moved")), os.Symlink("../outside", b.file("/x")))
		}, "destination_not_directory"},
		"MergedBecomesLink": {storage.MergeTree, "/x/f", func(b *bench, _ string) error {
			return errors.Join(os.Rename(b.file("/x"), b.file("/moved")), os.Symlink("../outside", b.file("/x")))
		}, "destination_not_directory"},
		"BelowBecomesLink": {storage.MergeTree, "/x/d/f", func(b *bench, _ string) error {
			return errors.Join(os.Rename(b.file("/x/d"), b.file("/moved")), os.Symlink("../../outside", b.file("/x/d")))
		}, "destination_not_directory"},
		"FileBecomesLink": {storage.MergeTree, "/x/f", func(b *bench, _ string) error {
			return errors.Join(os.Remove(b.file("/x/f")), os.Symlink("../../outside/f", b.file("/x/f")))
		}, "destination_not_regular"},
		"HiddenBecomesLink": {storage.NewTree, "", func(b *bench, hidden string) error {
			return errors.Join(os.Rename(hidden, b.file("/moved")), os.Symlink("../outside", hidden))
		}, "lease_lost"},
		"HiddenBelowBecomesLink": {storage.MergeTree, "/x/d/old", func(b *bench, hidden string) error {
			return errors.Join(os.Rename(hidden+"/d", b.file("/moved")), os.Symlink("../../outside", hidden+"/d"))
		}, "destination_is_directory"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newObstacle(t, obstacle{make: func(t *testing.T, b *bench) {
				if c.old != "" {
					b.write(t, c.old, []byte("old"))
				}
			}})
			_, err := putTree(t.Context(), b.tree("/x", c.policy), packed(t, "d/f:new", "f:new"), func() error { return c.swap(b, b.hidden(t)[0]) })
			if e, ok := errors.AsType[*storage.Error](err); !ok || e.Code != c.code {
				t.Errorf("error %v, want code %s", err, c.code)
			}
			outside := filepath.Join(b.root, org, "outside")
			if got := snapshot(t, outside); got != " d---------\n/f"+regularType+"secret\n" {
				t.Errorf("outside there is\n%s", got)
			}
			if left := b.hidden(t); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

// TestTreeFollowsItsDirectory moves the directory of the destination away and puts a link to the outside in its place.
func TestTreeFollowsItsDirectory(t *testing.T) {
	b := newObstacle(t, obstacle{make: dir("/x")})
	swap := func() error {
		return errors.Join(os.Rename(b.file("/x"), b.file("/moved")), os.Symlink("../outside", b.file("/x")))
	}
	if _, err := putTree(t.Context(), b.tree("/x/t", storage.NewTree), packed(t, "f:new"), swap); err != nil {
		t.Fatal(err)
	}
	expectTree(t, b, "/moved/t", "/f"+regularType+"new")
	if got := snapshot(t, filepath.Join(b.root, org, "outside")); got != " d---------\n/f"+regularType+"secret\n" {
		t.Errorf("outside there is\n%s", got)
	}
}

// TestNewTreeShownBefore: a worker showed its tree and died before it could say so. Its successor finds what it has itself, and nothing else will do.
func TestNewTreeShownBefore(t *testing.T) {
	body := packed(t, "d/", "d/f:"+strings.Repeat("x", 100_000), "d/g:y", "l -> d/f", "h = d/g", "empty/")
	for name, c := range map[string]struct {
		change func(b *bench) error
		stale  []string
		code   string
	}{
		"Same":         {func(*bench) error { return nil }, []string{"first"}, ""},
		"NotMine":      {func(*bench) error { return nil }, nil, storage.CodeDestinationExists},
		"MoreBelow":    {func(b *bench) error { return os.WriteFile(b.file("/x/d/more"), nil, 0o600) }, []string{"first"}, storage.CodeDestinationExists},
		"FillsEmpty":   {func(b *bench) error { return os.Mkdir(b.file("/x/empty/d"), 0o700) }, []string{"first"}, storage.CodeDestinationExists},
		"Less":         {func(b *bench) error { return os.Remove(b.file("/x/d/g")) }, []string{"first"}, storage.CodeDestinationExists},
		"OtherContent": {func(b *bench) error { return os.WriteFile(b.file("/x/d/g"), []byte("z"), 0o600) }, []string{"first"}, storage.CodeDestinationExists},
		"Longer":       {func(b *bench) error { return os.WriteFile(b.file("/x/d/g"), []byte("yy"), 0o600) }, []string{"first"}, storage.CodeDestinationExists},
		"Empty":        {func(b *bench) error { return os.Truncate(b.file("/x/d/g"), 0) }, []string{"first"}, storage.CodeDestinationExists},
		"OtherLink": {func(b *bench) error {
			return errors.Join(os.Remove(b.file("/x/l")), os.Symlink("d/g", b.file("/x/l")))
		}, []string{"first"}, storage.CodeDestinationExists},
		"LinkForFile": {func(b *bench) error {
			return errors.Join(os.Remove(b.file("/x/h")), os.Symlink("d/g", b.file("/x/h")))
		}, []string{"first"}, storage.CodeDestinationExists},
		"File": {func(b *bench) error {
			return errors.Join(os.RemoveAll(b.file("/x")), os.WriteFile(b.file("/x"), nil, 0o600))
		}, []string{"first"}, storage.CodeDestinationExists},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, sandbox.Options{})
			if _, err := putTree(t.Context(), b.owned("/x", storage.NewTree, "first"), body, nil); err != nil {
				t.Fatal(err)
			}
			if err := c.change(b); err != nil {
				t.Fatal(err)
			}
			before := snapshot(t, b.root)
			policy := storage.RepeatedTree
			if c.stale == nil {
				policy = storage.NewTree
			}
			stored, err := putTree(t.Context(), b.owned("/x", policy, "second", c.stale...), body, nil)
			if c.code != "" {
				expectCode(t, err, storage.Conflict, c.code)
			} else if err != nil || stored.Unpacked == nil || stored.Unpacked.Files != 4 {
				t.Errorf("%+v, %v", stored, err)
			}
			if after := snapshot(t, b.root); after != before {
				t.Errorf("the tree changed from\n%s\nto\n%s", before, after)
			}
		})
	}
}
