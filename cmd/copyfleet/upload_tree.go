package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage/archive"
	"github.com/copyfleet/copyfleet/storage/sandbox"
	"github.com/copyfleet/copyfleet/worker"
)

// sourceTree is a directory that is to be uploaded.
type sourceTree struct {
	root    *os.Root
	name    string
	exclude []string
	spool   fs.FileInfo // of the archive itself, which may lie inside the directory; nil: it is not there yet

	bytes   int64 // of all files
	refused []string
	others  int // that were refused and are not named
}

// spoolTree writes a directory as an archive. The same directory makes the same bytes: entries are sorted, and say nothing of owners.
func (r *uploadRun) spoolTree(ctx context.Context) error {
	root, err := os.OpenRoot(r.Source)
	if err != nil {
		return exitWith(exitUsage, "the source: %w", err)
	}
	defer func() { _ = root.Close() }() // only read
	t := &sourceTree{root: root, name: r.Source, exclude: r.Exclude}
	if err := t.look(ctx); err != nil {
		return err
	}
	dir := r.SpoolDir
	if dir == "" {
		dir = os.TempDir()
	}
	if room, err := freeSpace(dir); err == nil && t.bytes > int64(min(room, math.MaxInt64)) {
		return hinted(exitWith(exitFatal, "the source: %s has %s, for which there is no room in %s", r.Source, size(t.bytes), dir),
			"--spool-dir (COPYFLEET_SPOOL_DIR) names a directory with more room.")
	}
	r.shown.phase("archiving", 0, t.bytes)
	s := &uploadSource{kind: protocol.UploadTree, from: protocol.UploadArchive}
	return r.spooled(ctx, s, ".tar", func(w io.Writer) error {
		var err error
		if t.spool, err = s.file.Stat(); err != nil {
			return err //nolint:wrapcheck // the caller says what for
		}
		return t.checked(ctx, w, r.shown.add)
	})
}

// errNotUnpacked ends the writing of an archive that would not be unpacked.
var errNotUnpacked = errors.New("it would not be unpacked")

// checked writes the archive, and reads it at once as a worker will, by the same rules: it would be late to hear of them when all has been sent.
func (t *sourceTree) checked(ctx context.Context, w io.Writer, add func(int64)) error {
	in, out := io.Pipe()
	read := make(chan error, 1)
	go func() {
		err := archive.Walk(in, worker.TreeLimits, func(archive.Entry) error { return nil })
		_ = in.CloseWithError(errNotUnpacked) // never fails; where all was read, nobody is told
		read <- err
	}()
	err := t.archive(ctx, io.MultiWriter(w, out), add)
	_ = out.CloseWithError(err) // never fails; nil is the end
	refused := <-read
	if refused != nil && (err == nil || errors.Is(err, errNotUnpacked)) {
		return hinted(exitWith(exitUsage, "the source: %s cannot be unpacked as it is: %w", t.name, refused), "--exclude GLOB leaves something out.")
	}
	return err
}

// shownRefusals is how many entries that cannot be uploaded are named.
const shownRefusals = 20

// look finds what cannot be uploaded before anything is written, and how much there is.
func (t *sourceTree) look(ctx context.Context) error {
	err := t.walk(ctx, func(name string, info fs.FileInfo) error {
		why := t.unfit(name, info)
		switch {
		case why != "" && len(t.refused) < shownRefusals:
			t.refused = append(t.refused, oneLine(name)+" "+why)
		case why != "":
			t.others++
		case info.Mode().IsRegular():
			t.bytes += info.Size()
		}
		return nil
	})
	if err != nil || len(t.refused) == 0 {
		return err
	}
	text := strings.Join(t.refused, "\n  ")
	if t.others > 0 {
		text += "\n  and " + several(t.others, "other", "others")
	}
	return hinted(exitWith(exitUsage, "the source: %s has what cannot be uploaded:\n  %s", t.name, text), "--exclude GLOB leaves it out.")
}

// unfit says why an entry cannot be uploaded; "": it can.
func (t *sourceTree) unfit(name string, info fs.FileInfo) string {
	switch mode := info.Mode(); {
	case strings.ContainsFunc(name, harmful) || !fs.ValidPath(name):
		return "has a name with control characters, or that is no text"
	case sandbox.Reserved(path.Base(name)):
		return "has a reserved name"
	case mode.IsRegular() || mode.IsDir():
		return ""
	case mode&fs.ModeSymlink != 0:
		target, err := t.root.Readlink(name)
		if err != nil {
			return "cannot be read: " + err.Error()
		}
		if path.IsAbs(target) || outside(path.Join(path.Dir(name), target)) {
			return "is a link to " + oneLine(target) + ", which is outside"
		}
		return ""
	case mode&fs.ModeSocket != 0:
		return "is a socket"
	case mode&fs.ModeNamedPipe != 0:
		return "is a named pipe"
	}
	return "is a device"
}

// oneLine keeps a name from being taken for several lines of a message.
func oneLine(name string) string { return strings.ReplaceAll(name, "\n", `\n`) }

func outside(clean string) bool { return clean == ".." || strings.HasPrefix(clean, "../") }

// walk visits all that is not excluded, sorted, a directory before what is in it.
func (t *sourceTree) walk(ctx context.Context, visit func(name string, info fs.FileInfo) error) error {
	return fs.WalkDir(t.root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return interrupted(ctx)
		}
		if name != "." && t.excluded(name) {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		var info fs.FileInfo
		if err == nil {
			info, err = entry.Info()
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return sourceChanged(t.name + "/" + name)
		case err != nil:
			return exitWith(exitUsage, "the source: %w", err)
		case name == ".", t.spool != nil && os.SameFile(info, t.spool):
			return nil
		}
		return visit(name, info)
	})
}

// excluded reports whether a pattern matches the name of an entry, or its path.
func (t *sourceTree) excluded(name string) bool {
	for _, glob := range t.exclude {
		for _, text := range []string{name, path.Base(name)} {
			if ok, err := path.Match(glob, text); ok && err == nil {
				return true
			}
		}
	}
	return false
}

// archive writes the archive.
func (t *sourceTree) archive(ctx context.Context, w io.Writer, add func(int64)) error {
	out := tar.NewWriter(w)
	err := t.walk(ctx, func(name string, info fs.FileInfo) error {
		if why := t.unfit(name, info); why != "" { // it was not there, or another, when it was looked at
			return sourceChanged(t.name + "/" + name)
		}
		head := &tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: int64(info.Mode().Perm()), ModTime: info.ModTime().Truncate(time.Second)}
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := t.root.Readlink(name)
			if err != nil {
				return sourceChanged(t.name + "/" + name)
			}
			head.Typeflag, head.Name, head.Linkname = tar.TypeSymlink, name, target
		case info.Mode().IsRegular():
			head.Typeflag, head.Name, head.Size = tar.TypeReg, name, info.Size()
			return t.file(ctx, out, head, info, add)
		}
		return out.WriteHeader(head)
	})
	if err != nil {
		return err
	}
	return out.Close() //nolint:wrapcheck // the caller says what for
}

// file writes one file, which must stay what it is meanwhile.
func (t *sourceTree) file(ctx context.Context, out *tar.Writer, head *tar.Header, before fs.FileInfo, add func(int64)) error {
	file, err := openFile(t.root, head.Name)
	if err != nil {
		return exitWith(exitUsage, "the source: %w", err)
	}
	defer func() { _ = file.Close() }() // only read
	if err := out.WriteHeader(head); err != nil {
		return fmt.Errorf("%s: %w", head.Name, err)
	}
	in := &countedRead{ctx: ctx, in: file, add: add}
	n, err := io.Copy(out, io.LimitReader(in, head.Size))
	if err != nil {
		return err //nolint:wrapcheck // of the spool, or of the file, which it names
	}
	after, err := file.Stat()
	if err != nil || n != head.Size || after.Size() != head.Size || !after.ModTime().Equal(before.ModTime()) || !os.SameFile(before, after) {
		return sourceChanged(t.name + "/" + head.Name)
	}
	return nil
}
