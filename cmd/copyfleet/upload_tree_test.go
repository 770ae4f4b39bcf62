package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tree makes a directory of many kinds.
func tree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"b.txt": "bee", "a/deep/c.o": "object", "a/x.txt": "ex", ".git/config": "no", "empty.txt": ""} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o640)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "none"), 0o750), os.Symlink("../b.txt", filepath.Join(dir, "a", "link")), os.Chmod(filepath.Join(dir, "b.txt"), 0o755)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// entries reads an archive.
func entries(t *testing.T, data []byte) []string {
	t.Helper()
	var list []string
	for in := tar.NewReader(bytes.NewReader(data)); ; {
		head, err := in.Next()
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(in)
		list = append(list, head.FileInfo().Mode().String()+" "+head.Name+" "+head.Linkname+string(text))
		if head.Uid != 0 || head.Gid != 0 || head.Uname != "" || head.Gname != "" || head.ModTime.IsZero() {
			t.Errorf("%s has an owner, or no time: %+v", head.Name, head)
		}
	}
}

// A directory arrives as an archive that is the same at each run, without what is excluded.
func TestUploadTree(t *testing.T) {
	t.Parallel()
	dir, spool := tree(t), t.TempDir()
	var before []byte
	for range 2 {
		f := newFakeUploads(t)
		exit, out, told := f.sends(t, "--exclude", ".git", "--exclude", "*.o", "--spool-dir", spool, dir, "SBX-1:project")
		if exit != exitOK || !strings.Contains(out, "SBX-1:/workspace/project") || !strings.Contains(out, " in 1 file") {
			t.Fatalf("ended with %d\n%s%s", exit, out, told)
		}
		want := []string{
			"drwxr-xr-x a/ ", "drwxr-xr-x a/deep/ ", "Lrwxrwxrwx a/link ../b.txt", "-rw-r----- a/x.txt ex", "-rwxr-xr-x b.txt bee", "-rw-r----- empty.txt ", "drwxr-x--- none/ ",
		}
		if got := entries(t, f.published); !slices.Equal(got, want) {
			t.Errorf("the archive has\n%q\nwant\n%q", got, want)
		}
		if before != nil && !bytes.Equal(before, f.published) {
			t.Error("the second archive is another one")
		}
		before = f.published
		if f.request["kind"] != "directory_tar" || f.request["source_kind"] != "directory_archive" || f.request["archive_format"] != "tar" || len(f.request["whole_checksum_sha256"].(string)) != 64 {
			t.Errorf("asked for %v", f.request)
		}
		if !strings.Contains(told, spool) {
			t.Errorf("it is not told where the archive is: %s", told)
		}
	}
	if left, err := os.ReadDir(spool); err != nil || len(left) > 0 {
		t.Errorf("left in the spool: %v, %v", left, err)
	}
}

// The archive of a directory that it is itself kept in does not hold itself.
func TestUploadTreeWithItsSpool(t *testing.T) {
	t.Parallel()
	dir := tree(t)
	f := newFakeUploads(t)
	if exit, _, told := f.sends(t, "--spool-dir", filepath.Join(dir, "none"), dir, "SBX-1:project"); exit != exitOK {
		t.Fatalf("ended with %d\n%s", exit, told)
	}
	for _, entry := range entries(t, f.published) {
		if strings.Contains(entry, spoolPrefix) {
			t.Errorf("the archive has %s", entry)
		}
	}
}

// What an archive cannot hold, or must not, is refused by name before anything is sent, unless it is excluded.
func TestUploadTreeRefusals(t *testing.T) {
	t.Parallel()
	dir := tree(t)
	listener, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	if err := errors.Join(os.Symlink("/etc/passwd", filepath.Join(dir, "absolute")), os.Symlink("../../x", filepath.Join(dir, "a", "out")),
		os.WriteFile(dir+"/a/evil\x1b[2J", nil, 0o600), os.WriteFile(dir+"/\xffz", nil, 0o600), os.WriteFile(dir+"/two\nlines", nil, 0o600), os.Mkdir(dir+"/a/.copyfleet-x", 0o700), mkfifo(filepath.Join(dir, "pipe"))); err != nil {
		t.Fatal(err)
	}
	f := newFakeUploads(t)
	exit, _, told := f.sends(t, dir, "SBX-1:/x")
	if exit != exitUsage || f.request != nil || strings.ContainsRune(told, '\x1b') {
		t.Errorf("ended with %d", exit)
	}
	for _, says := range []string{"absolute is a link to /etc/passwd", "a/out is a link to ../../x", "socket is a socket", "pipe is a named pipe", `evil\x1b[2J has a name`, `\xffz has a name`, `two\nlines has a name`,
		"a/.copyfleet-x has a reserved name"} {
		if !strings.Contains(told, says) {
			t.Errorf("%q is not told", says)
		}
	}
	args := []string{dir, "SBX-1:/x"}
	for _, glob := range []string{"absolute", "a/out", "socket", "pi*", "evil*", "?z", "two*", ".copyfleet-*"} {
		args = append(args, "--exclude", glob)
	}
	if exit, _, _ := f.sends(t, args...); exit != exitOK {
		t.Errorf("with all of it excluded: %d", exit)
	}
}

// An archive that breaks off half-way goes on from its spool, or from the directory if that is what it was.
func TestUploadTreeResumes(t *testing.T) {
	t.Parallel()
	for _, from := range []string{"spool", "directory"} {
		f := newFakeUploads(t)
		f.put = func(w http.ResponseWriter, _ *http.Request, n, _ int) bool {
			if n == 2 {
				f.refuse(w, http.StatusForbidden, "forbidden")
			}
			return n == 2
		}
		dir, spool := tree(t), t.TempDir()
		_, _, told := f.sends(t, "--concurrency", "1", "--spool-dir", spool, dir, "SBX-1:/x")
		kept, err := filepath.Glob(filepath.Join(spool, "*"))
		if err != nil || len(kept) != 1 || !strings.Contains(hint(t, told), kept[0]) {
			t.Fatalf("kept %q, %v", kept, err)
		}
		f.set(func() { f.put = nil })
		src := kept[0]
		if from == "directory" {
			src = dir
		}
		if exit, _, told := f.sends(t, "--resume", fakeID, "--spool-dir", spool, src, "SBX-1:/x"); exit != exitOK {
			t.Errorf("from the %s: %d\n%s", from, exit, told)
		}
		if f.tries(0) != 1 || len(entries(t, f.published)) == 0 {
			t.Errorf("from the %s: part 0 was sent %d times", from, f.tries(0))
		}
		if _, err := os.Stat(kept[0]); from == "spool" && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the spool is there still: %v", err)
		}
	}
}

// An archive that the fleet would refuse to unpack is refused before anything is sent.
func TestUploadTreeIsReadAsAWorkerDoes(t *testing.T) {
	t.Parallel()
	dir, spool, f := tree(t), t.TempDir(), newFakeUploads(t)
	if err := os.Symlink("a/../b.txt", filepath.Join(dir, "turns")); err != nil {
		t.Fatal(err)
	}
	exit, _, told := f.sends(t, "--spool-dir", spool, dir, "SBX-1:/x")
	if exit != exitUsage || !strings.Contains(told, "turns") || f.request != nil {
		t.Errorf("ended with %d\n%s", exit, told)
	}
	if left, err := os.ReadDir(spool); err != nil || len(left) > 0 {
		t.Errorf("left in the spool: %v, %v", left, err)
	}
}
