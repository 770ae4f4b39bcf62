package sandbox_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/sandbox"
)

type looker interface {
	Look(ctx context.Context) (storage.Look, error)
}

// tree lists all that is below a directory, with times.
func tree(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			all[path] = info.Mode().String() + " " + info.ModTime().String()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestLookWritesNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t, sandbox.Options{})
	b.write(t, "/dir/file", []byte("12345"))
	for from, to := range map[string]string{"out": "/etc", "nowhere": "missing", "linked": "dir"} {
		if err := os.Symlink(to, b.file(from)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(b.root, org, "taken"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	before := tree(t, b.root)
	for _, row := range []struct {
		box, path string
		want      storage.Look
		code      string
	}{
		{box, "/dir/file", storage.Look{Checked: true, Exists: true, Size: 5}, ""},
		{box, "/dir/new", storage.Look{Checked: true}, ""},
		{box, "/linked/file", storage.Look{Checked: true, Exists: true, Size: 5}, ""},
		{box, "/dir/a/b/c", storage.Look{Checked: true, Makes: "directory"}, ""},
		{"other", "/dir/a", storage.Look{Checked: true, Makes: "sandbox"}, ""},
		{box, "/dir", storage.Look{}, "destination_is_directory"},
		{box, "/linked", storage.Look{}, "destination_not_regular"},
		{box, "/dir/file/x", storage.Look{}, "parent_not_directory"},
		{box, "/nowhere/x", storage.Look{}, "parent_not_directory"},
		{box, "/out/x", storage.Look{}, "path_escapes"},
		{box, "/.copyfleet-x", storage.Look{}, "path_reserved"},
		{"taken", "/x", storage.Look{}, "sandbox_not_directory"},
	} {
		got, err := b.store.Destination(org, row.box, row.path, "plan", nil).(looker).Look(t.Context())
		e, _ := errors.AsType[*storage.Error](err)
		switch {
		case row.code != "" && (e == nil || e.Code != row.code):
			t.Errorf("%s:%s: %v, want %s", row.box, row.path, err, row.code)
		case row.code == "" && err != nil:
			t.Errorf("%s:%s: %v", row.box, row.path, err)
		case row.code == "":
			if got.Free <= 0 {
				t.Errorf("%s:%s: %d bytes are free", row.box, row.path, got.Free)
			}
			got.Free = 0
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Errorf("%s:%s (-want +got):\n%s", row.box, row.path, diff)
			}
		}
	}
	if diff := cmp.Diff(before, tree(t, b.root)); diff != "" {
		t.Errorf("looking changed something:\n%s", diff)
	}
}

// TestLookAgreesWithPut: what Look refuses Put refuses with the same code.
func TestLookAgreesWithPut(t *testing.T) {
	t.Parallel()
	b := newBench(t, sandbox.Options{})
	b.write(t, "/dir/file", []byte("12345"))
	if err := os.Symlink("missing", b.file("nowhere")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc", b.file("out")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/dir", "/nowhere", "/nowhere/x", "/dir/file/x", "/out/x", "/.copyfleet-x", "relative"} {
		d := b.destination(path)
		_, lookErr := d.(looker).Look(t.Context())
		_, putErr := d.Put(t.Context(), storage.Content{Body: strings.NewReader("x"), Size: 1})
		look, _ := errors.AsType[*storage.Error](lookErr)
		put, _ := errors.AsType[*storage.Error](putErr)
		if look == nil || put == nil || look.Code != put.Code || look.Class != put.Class {
			t.Errorf("%s: Look says %v, Put says %v", path, lookErr, putErr)
		}
	}
}
