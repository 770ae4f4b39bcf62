package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// uploadSource is what is sent: a file that stays as it is while it is read, the caller's or a spool of ours.
type uploadSource struct {
	kind protocol.UploadKind
	from protocol.UploadSource
	name string // of the file, for a target that has none; "": the standard input
	path string
	file *os.File
	size int64
	sum  string // lowercase hex SHA-256 of all; "": not computed
	// spool tells that the file is one of ours, which goes once the upload is complete.
	spool bool

	info os.FileInfo // as it was before anything was read
}

// errSourceChanged tells of a source whose parts would not belong together.
var errSourceChanged = errors.New("the source was changed while it was read")

// open makes the source ready to be read at any place, again and again.
func (r *uploadRun) open(ctx context.Context) error {
	if r.Source == "-" {
		return r.spoolStream(ctx)
	}
	info, err := os.Stat(r.Source)
	switch {
	case err != nil:
		return exitWith(exitUsage, "the source: %w", err)
	case info.IsDir():
		return r.spoolTree(ctx)
	case !info.Mode().IsRegular():
		return hinted(exitWith(exitUsage, "the source: %s is neither a file nor a directory", r.Source),
			"What can only be read once goes through a pipe: … | copyfleet upload - …")
	}
	file, err := os.Open(r.Source)
	if err != nil {
		return exitWith(exitUsage, "the source: %w", err)
	}
	s := &uploadSource{kind: protocol.UploadFile, from: protocol.UploadRestartable, name: filepath.Base(r.Source), path: r.Source, file: file}
	r.source = s
	if s.info, err = file.Stat(); err != nil {
		return exitWith(exitUsage, "the source: %w", err)
	}
	s.size = s.info.Size()
	if r.Checksum {
		return r.hash(ctx)
	}
	return nil
}

// hash computes the SHA-256 of a file.
func (r *uploadRun) hash(ctx context.Context) error {
	r.shown.phase("reading", 0, r.source.size)
	sum := sha256.New()
	n, err := io.Copy(sum, &countedRead{ctx: ctx, in: io.NewSectionReader(r.source.file, 0, r.source.size), add: r.shown.add})
	switch {
	case ctx.Err() != nil:
		return interrupted(ctx)
	case err != nil:
		return exitWith(exitUsage, "the source: %w", err)
	case n != r.source.size:
		return sourceChanged(r.source.path)
	}
	r.source.sum = hexOf(sum)
	return r.source.unchanged()
}

func hexOf(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

func sourceChanged(name string) error {
	return &exitError{code: exitFailed, reason: "source_changed", err: fmt.Errorf("%s: %w", name, errSourceChanged)}
}

// unchanged fails if the file is not what it was at first.
func (s *uploadSource) unchanged() error {
	now, err := s.file.Stat()
	if err == nil && (now.Size() != s.info.Size() || !now.ModTime().Equal(s.info.ModTime())) {
		return sourceChanged(s.path)
	}
	if err != nil {
		return exitWith(exitFailed, "the source: %w", err)
	}
	return nil
}

// close lets go of the file, and of a spool that is of no more use.
func (s *uploadSource) close(keep bool) error {
	err := s.file.Close()
	if s.spool && !keep {
		err = errors.Join(err, os.Remove(s.path))
	}
	return err //nolint:wrapcheck // names the file
}

// sourceMark is what the metadata of a session says of a file, so that another one is not taken for it.
type sourceMark struct {
	Copyfleet struct {
		Modified time.Time `json:"modified,omitzero"`
	} `json:"copyfleet"`
}

// mark describes a file. It is the same whenever the command is run again on the same source: one key must not stand for two requests.
func (s *uploadSource) mark() sourceMark {
	var m sourceMark
	m.Copyfleet.Modified = s.info.ModTime().UTC()
	return m
}

// fits holds a session to the source. Where the session knows its checksum, the source has to have it; else size and time of the last change.
func (r *uploadRun) fits(ctx context.Context) error {
	s, src := r.session, r.source
	isTree := src.kind == protocol.UploadTree || s.Kind == protocol.UploadTree && src.from == protocol.UploadRestartable // its archive, kept from before
	switch target := protocolPath(r.path); {
	case isTree != (s.Kind == protocol.UploadTree):
		return r.misfit("it is of kind " + string(s.Kind))
	case target != "" && target != s.TargetPath:
		return r.misfit("it goes to " + s.TargetPath)
	case src.size != s.Length:
		return r.misfit(fmt.Sprintf("it has %d bytes and the source %d", s.Length, src.size))
	}
	if s.Whole != "" {
		if src.sum == "" {
			if err := r.hash(ctx); err != nil {
				return err
			}
		}
		if src.sum != s.Whole {
			return r.misfit("the source has other bytes")
		}
		// A spool of before is known by its name, its content and what the session says of where that is from: a file of the caller's is not ours to remove.
		src.spool = src.spool || s.keptIn(src.path)
		return nil
	}
	var m sourceMark
	if json.Unmarshal(s.Metadata, &m) == nil && !m.Copyfleet.Modified.IsZero() && !m.Copyfleet.Modified.Equal(src.info.ModTime()) {
		return r.misfit("the source was changed " + ago(src.info.ModTime(), time.Now()) + ", after the upload was begun")
	}
	return nil
}

// misfits is the word for a source that is not the one of the session.
const misfits = "upload_misfit"

// misfit says why a source cannot be that of the session.
func (r *uploadRun) misfit(why string) error {
	return &exitError{code: exitUsage, reason: misfits, err: fmt.Errorf("upload %s cannot go on with this: %s", r.session.ID, why),
		hint: "Begin anew without --resume; the upload that was begun expires by itself."}
}

// countedRead counts what is read, and ends with its context.
type countedRead struct {
	ctx context.Context
	in  io.Reader
	add func(n int64)
}

// Read implements io.Reader.
func (c *countedRead) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, interrupted(c.ctx)
	}
	n, err := c.in.Read(p)
	c.add(int64(n))
	return n, err //nolint:wrapcheck // an io.Reader
}
