package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path"
	"strings"

	"github.com/copyfleet/copyfleet/storage/object"
	"github.com/copyfleet/copyfleet/storage/sandbox"
	"github.com/copyfleet/copyfleet/worker"
)

// sandboxPlace is where sandboxes are: a directory, or a prefix in a bucket.
type sandboxPlace struct {
	dir            string // "" if it is a bucket
	bucket, prefix string // the prefix has no slash at its ends; "": the whole bucket
}

// parseSandboxes takes a --sandboxes URL apart.
func parseSandboxes(raw string) (sandboxPlace, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "file" && u.Scheme != "s3" || u.User != nil || u.Opaque != "" || strings.ContainsAny(raw, "?#") {
		return sandboxPlace{}, badSandboxes(raw)
	}
	if u.Scheme == "file" {
		if u.Host != "" || !strings.HasPrefix(u.Path, "/") {
			return sandboxPlace{}, badSandboxes(raw)
		}
		return sandboxPlace{dir: u.Path}, nil
	}
	prefix := strings.TrimSuffix(strings.TrimPrefix(u.Path, "/"), "/")
	clean := prefix == "" || path.Clean("/" + prefix)[1:] == prefix
	if u.Host == "" || u.Port() != "" || !clean {
		return sandboxPlace{}, badSandboxes(raw)
	}
	return sandboxPlace{bucket: u.Host, prefix: prefix}, nil
}

func badSandboxes(raw string) error {
	if strings.Contains(raw, "@") {
		raw = "(with credentials)" // which belong into --s3-access-key and --s3-secret-key
	}
	return exitWith(exitUsage, "--sandboxes %q: must be file:///dir with an absolute directory, or s3://bucket/prefix, any ? and # in it escaped", raw)
}

// fileURL is the --sandboxes URL of an absolute path.
func fileURL(path string) string { return (&url.URL{Scheme: "file", Path: path}).String() }

// openedSandboxes are the sandboxes of a worker.
type openedSandboxes struct {
	worker.SandboxDriver
	close func() error
}

// openSandboxes opens the place that --sandboxes names.
func (f workerFlags) openSandboxes(ctx context.Context, objects *object.Store, log *slog.Logger) (openedSandboxes, error) {
	place, err := parseSandboxes(f.Sandboxes)
	if err != nil {
		return openedSandboxes{}, err
	}
	if place.bucket != "" {
		boxes, err := place.inBucket(ctx, objects, log)
		return openedSandboxes{boxes, func() error { return nil }}, err
	}
	dirs, err := sandbox.Open(place.dir, sandbox.Options{Sync: f.FileSync == "on"})
	if err != nil {
		return openedSandboxes{}, fmt.Errorf("--sandboxes %s: %w", f.Sandboxes, err)
	}
	return openedSandboxes{dirs, dirs.Close}, nil
}

// inBucket keeps sandboxes in a bucket. A store that is away comes back; a bucket that is missing does not.
func (p sandboxPlace) inBucket(ctx context.Context, objects *object.Store, log *slog.Logger) (*object.Sandboxes, error) {
	boxes, err := objects.Sandboxes(p.bucket, p.prefix)
	if err != nil {
		return nil, exitWith(exitUsage, "--sandboxes: %w", err)
	}
	switch err := p.ready(ctx, objects); {
	case errors.Is(err, errNoSandboxBucket):
		return nil, exitWith(exitUsage, "--sandboxes: %w", err)
	case err != nil:
		log.Warn("the bucket of the sandboxes could not be looked for", "error", err)
	}
	return boxes, nil
}

var errNoSandboxBucket = errors.New("the bucket does not exist, and --auto-buckets is off")

// ready returns why sandboxes in a bucket cannot be used now; it makes the bucket where that is wanted.
func (p sandboxPlace) ready(ctx context.Context, objects *object.Store) error {
	if p.bucket == "" {
		return nil
	}
	exists, err := objects.ReadyBucket(ctx, p.bucket)
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	if !exists {
		return fmt.Errorf("%w: %s", errNoSandboxBucket, p.bucket)
	}
	return nil
}

// reserve keeps callers of the API from what is in sandboxes in a bucket. raw is --sandboxes; a directory needs nothing.
func reserveSandboxes(raw string, objects *object.Store) ([]readyCheck, error) {
	if raw == "" {
		return nil, nil
	}
	place, err := parseSandboxes(raw)
	if err != nil || place.bucket == "" {
		return nil, err
	}
	if err := objects.Reserve(place.bucket, place.prefix); err != nil {
		return nil, exitWith(exitUsage, "--sandboxes: %w", err)
	}
	return []readyCheck{{"sandboxes", func(ctx context.Context) error { return place.ready(ctx, objects) }}}, nil
}
