package worker

import (
	"archive/tar"
	"bytes"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/copyfleet/copyfleet/protocol"
)

// tarOf is an archive of files, with a directory and a link.
func tarOf(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	put := func(h *tar.Header, content string) {
		h.Size = int64(len(content))
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	put(&tar.Header{Name: "sub/", Typeflag: tar.TypeDir, Mode: 0o755}, "")
	for _, name := range slices.Sorted(maps.Keys(files)) {
		put(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644}, files[name])
	}
	put(&tar.Header{Name: "sub/link", Typeflag: tar.TypeSymlink, Linkname: "a"}, "")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestTreeThatIsThereAlready compares archives with what somebody has in the place of their directory.
func TestTreeThatIsThereAlready(t *testing.T) {
	t.Parallel()
	files := map[string]string{"a": "one", "sub/b": "two", "sub/empty": ""}
	for name, c := range map[string]struct {
		change func(dir string) error
		wrong  bool // the archive is not what was promised
		same   bool
	}{
		"equal":    {func(string) error { return nil }, false, true},
		"more":     {func(dir string) error { return os.WriteFile(filepath.Join(dir, "more"), nil, 0o600) }, false, true},
		"changed":  {func(dir string) error { return os.WriteFile(filepath.Join(dir, "sub", "b"), []byte("two!"), 0o600) }, false, false},
		"one byte": {func(dir string) error { return os.WriteFile(filepath.Join(dir, "sub", "b"), []byte("twO"), 0o600) }, false, false},
		"missing":  {func(dir string) error { return os.Remove(filepath.Join(dir, "a")) }, false, false},
		"no file":  {func(dir string) error { return replaceByDirectory(filepath.Join(dir, "a")) }, false, false},
		"wrong":    {func(string) error { return nil }, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			body := tarOf(t, files)
			url := b.serve(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) })
			dir := filepath.Join(b.dir, "to")
			if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o700); err != nil {
				t.Fatal(err)
			}
			for name, content := range files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.change(dir); err != nil {
				t.Fatal(err)
			}
			tr := transfer{
				org: "ORG", src: protocol.Location{Type: protocol.HTTPGet, URL: url}, dest: protocol.Location{Type: protocol.SandboxTree, Sandbox: "s", Path: "/to"},
			}
			if c.wrong {
				tr.expect.SHA256 = hexOf(body[1:])
			}
			came, same, err := b.copier.sameTree(t.Context(), tr)
			if (err != nil) != c.wrong || same != c.same {
				t.Fatalf("same %t, %v", same, err)
			}
			if same && (came.sha256 != hexOf(body) || came.stored != int64(len(body)) || *came.unpacked != (protocol.Unpacked{Files: 4, Bytes: 6})) {
				t.Errorf("%+v, %+v", came, came.unpacked)
			}
		})
	}
}

func replaceByDirectory(path string) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return os.Mkdir(path, 0o700)
}
