package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/copyfleet/copyfleet/protocol"
)

// spoolPrefix begins the names of the files that sources are kept in which cannot be read again as they were.
const spoolPrefix = "copyfleet-upload-"

func isSpool(name string) bool { return strings.HasPrefix(filepath.Base(name), spoolPrefix) }

// workspace is where the relative paths of a sandbox begin.
const workspace = "/workspace"

// protocolPath is the path in the sandbox that an argument means; "": the argument leaves it open.
func protocolPath(given string) string {
	if given == "" || strings.HasSuffix(given, "/") {
		return ""
	}
	if !path.IsAbs(given) {
		given = workspace + "/" + given
	}
	return path.Clean(given)
}

// spooled fills a temporary file with what fill writes, and makes it the source. A spool that is not whole is removed.
func (r *uploadRun) spooled(ctx context.Context, s *uploadSource, suffix string, fill func(io.Writer) error) (err error) {
	if r.SpoolDir != "" {
		if err := os.MkdirAll(r.SpoolDir, 0o700); err != nil {
			return exitWith(exitUsage, "--spool-dir: %w", err)
		}
	}
	s.file, err = os.CreateTemp(r.SpoolDir, spoolPrefix+"*"+suffix)
	if err != nil {
		return exitWith(exitUsage, "--spool-dir: %w", err)
	}
	s.path, s.spool = s.file.Name(), true
	if full, err := filepath.Abs(s.path); err == nil {
		s.path = full // for the command that goes on, from any directory
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close(false))
		}
	}()
	sum := sha256.New()
	filled := make(chan error, 1)
	// A read of the standard input cannot be called off: at Ctrl-C it is left alone, and ends with the process.
	go func() { filled <- fill(io.MultiWriter(s.file, sum)) }()
	select {
	case err = <-filled:
	case <-ctx.Done():
		err = interrupted(ctx)
	}
	if err != nil {
		if _, ok := errors.AsType[*exitError](err); ok {
			return err
		}
		return hinted(exitWith(exitFatal, "the spool: %w", err), "--spool-dir (COPYFLEET_SPOOL_DIR) names a directory with more room.")
	}
	if s.info, err = s.file.Stat(); err != nil {
		return fmt.Errorf("the spool: %w", err)
	}
	s.size, s.sum = s.info.Size(), hexOf(sum)
	r.source = s
	r.shown.note(fmt.Sprintf("%s are kept in %s until the upload is complete", size(s.size), s.path))
	return nil
}

// spoolStream keeps the standard input.
func (r *uploadRun) spoolStream(ctx context.Context) error {
	r.shown.phase("reading", 0, -1)
	return r.spooled(ctx, &uploadSource{kind: protocol.UploadFile, from: protocol.UploadSpooled}, "", func(w io.Writer) error {
		in := &countedRead{ctx: ctx, in: r.env.stdin, add: r.shown.add}
		_, err := io.Copy(w, in)
		return err //nolint:wrapcheck // the caller says what for
	})
}
