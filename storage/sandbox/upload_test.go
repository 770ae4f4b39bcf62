package sandbox_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/sandbox"
)

// TestUploadObstacles puts something in the place of the file that parts are written to, as a process in the sandbox can.
func TestUploadObstacles(t *testing.T) {
	t.Parallel()
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, put := range map[string]func(t *testing.T, b *bench, at string){
		"Nothing": func(*testing.T, *bench, string) {},
		"FIFO":    func(t *testing.T, _ *bench, at string) { must(t, unix.Mkfifo(at, 0o666)) },
		"Link": func(t *testing.T, b *bench, at string) {
			must(t, os.Symlink(filepath.Join(b.root, org, "outside", "f"), at))
		},
		"LinkInside": func(t *testing.T, b *bench, at string) {
			b.write(t, "/x/other", make([]byte, 2*partSize+100))
			must(t, os.Symlink("other", at))
		},
		"HardLink": func(t *testing.T, b *bench, at string) {
			b.write(t, "/x/other", make([]byte, 2*partSize+100))
			must(t, os.Link(b.file("/x/other"), at))
		},
		"Directory": func(t *testing.T, _ *bench, at string) { must(t, os.Mkdir(at, 0o755)) },
		"Short":     func(t *testing.T, _ *bench, at string) { must(t, os.WriteFile(at, []byte("short"), 0o600)) },
		"Long":      func(t *testing.T, _ *bench, at string) { must(t, os.WriteFile(at, make([]byte, 1<<20), 0o600)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := inParts(t, newObstacle(t, obstacle{make: dir("/x")}), "/x/f")
			at := p.hiddenFile(t)
			must(t, os.Remove(at))
			put(t, p.bench, at)
			_, err := p.put(t, 1, nil)
			expectCode(t, err, storage.Conflict, storage.CodeUploadGone)
			expectNoPath(t, err, p.root)
			expectCode(t, p.complete(t, nil), storage.Conflict, storage.CodeUploadGone)
			reader, ok := p.PartDestination.(storage.UploadReader)
			if !ok {
				t.Fatal("what was written cannot be read")
			}
			_, err = reader.OpenUpload(t.Context(), p.upload, 0)
			expectCode(t, err, storage.Conflict, storage.CodeUploadGone)
			must(t, p.Abort(t.Context(), p.upload))
			for path, want := range map[string][]byte{"/x/other": make([]byte, 2*partSize+100), "/../outside/f": []byte("secret")} {
				if got, err := os.ReadFile(p.file(path)); err == nil && !bytes.Equal(got, want) {
					t.Errorf("%s was written to", path)
				}
			}
			if _, err := os.Stat(p.file("/x/f")); err == nil {
				t.Error("something is visible")
			}
		})
	}
}

// TestUploadNames gives names that the driver did not make.
func TestUploadNames(t *testing.T) {
	t.Parallel()
	b := newBench(t, sandbox.Options{})
	b.write(t, "/.copyfleet-t", []byte("half"))
	before := snapshot(t, b.root)
	d := b.writer(t, "/f")
	for _, name := range []string{
		"", "t", "t.1", "..", "../f", "a.b.c.d.e.f", "t.1.-1.0.0", "t.1.x!.0.0", "t/x.1.1.1.1", "t./.1.1.1", "t.1.1.1.1.", ".1.1.1.1",
		strings.Repeat("t", 201) + ".1.1.1.1", "t." + strings.Repeat("1", 14) + ".1.1.1", "t.1.1.\x00.1",
	} {
		_, err := d.PutPart(t.Context(), name, storage.Part{Number: 1, Body: strings.NewReader("")})
		expectCode(t, err, storage.Invalid, "upload_invalid")
		_, err = d.Complete(t.Context(), name, storage.PartContent{PartSize: 1}, nil, nil)
		expectCode(t, err, storage.Invalid, "upload_invalid")
		expectCode(t, d.Abort(t.Context(), name), storage.Invalid, "upload_invalid")
	}
	if after := snapshot(t, b.root); after != before {
		t.Errorf("the tree changed from\n%s\nto\n%s", before, after)
	}
}

// TestUploadsOfTheDead removes what died before it could tell what it began, and nothing else.
func TestUploadsOfTheDead(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		remove func(t *testing.T, b *bench, keep string) error
		left   []string
	}{
		"Begin": {func(t *testing.T, b *bench, _ string) error {
			d := b.writer(t, "/f", "dead", "kept")
			upload, err := d.Begin(t.Context(), storage.PartContent{Size: 10, PartSize: 10})
			if err != nil {
				return err
			}
			return d.Abort(t.Context(), upload)
		}, []string{"other"}},
		"Put": {func(t *testing.T, b *bench, _ string) error {
			return put(t, b.writer(t, "/f", "dead", "kept"), make([]byte, 1<<20))
		}, []string{"other"}},
		"SmallPut": {func(t *testing.T, b *bench, _ string) error {
			return put(t, b.writer(t, "/f", "dead", "kept"), make([]byte, 1000))
		}, []string{"dead", "kept", "other"}},
		"Discard": {func(t *testing.T, b *bench, _ string) error {
			return b.writer(t, "/f", "dead", "kept").(interface{ Discard() error }).Discard()
		}, []string{"dead", "kept", "other"}},
		"DiscardUploads": {func(t *testing.T, b *bench, keep string) error {
			return b.writer(t, "/f", "dead", "kept").(interface{ DiscardUploads(keep string) error }).DiscardUploads(keep)
		}, []string{"kept", "other"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, sandbox.Options{})
			var keep string
			for _, token := range []string{"dead", "kept", "other"} {
				d, _ := b.store.Destination(org, box, "/f", token, nil).(storage.PartDestination)
				upload, err := d.Begin(t.Context(), storage.PartContent{Size: 10, PartSize: 10})
				if err != nil {
					t.Fatal(err)
				}
				if !strings.HasPrefix(upload, token+".") {
					t.Errorf("the upload of %s is named %s", token, upload)
				}
				if token == "kept" {
					keep = upload
				}
			}
			if err := os.Mkdir(b.file("/.copyfleet-dead.directory"), 0o755); err != nil { // by a process in the sandbox
				t.Fatal(err)
			}
			if err := c.remove(t, b, keep); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(b.file("/.copyfleet-dead.directory")); err != nil {
				t.Error(err)
			}
			var left []string
			for _, path := range b.hidden(t) {
				token, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), ".copyfleet-"), ".")
				left = append(left, token)
			}
			if strings.Join(left, " ") != strings.Join(c.left, " ") {
				t.Errorf("left are %q, want %q", left, c.left)
			}
		})
	}
}
