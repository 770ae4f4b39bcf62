package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/producer"
	"github.com/copyfleet/copyfleet/producer/uploads"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/object"
)

// staging reserves the bucket in which uploads are kept. It comes before anything else uses the store.
func (f s3Flags) staging(objects *object.Store) (*object.Staging, error) {
	bucket, err := objects.Staging(f.StagingBucket)
	if err != nil {
		return nil, exitWith(exitUsage, "--staging-bucket: %w", err)
	}
	return bucket, nil
}

// openUploads opens the upload sessions, and looks after those that nobody else does until living ends.
func (f *front) openUploads(
	ctx, living context.Context, cfg frontConfig, conn *broker.Conn, pipeline *producer.Pipeline, log *slog.Logger,
) (*uploads.Service, error) {
	sessions, err := uploads.New(ctx, uploads.Config{
		Quota: int64(cfg.flags.UploadQuota), Largest: int64(cfg.flags.MaxUpload), Expiry: cfg.flags.UploadExpiry,
		Logger: log, Metrics: cfg.telemetry.metrics,
	}, conn, staged{cfg.staging}, pipeline.UploadQueue())
	if err != nil {
		return nil, err //nolint:wrapcheck // says what it was
	}
	f.followed.Go(func() { sessions.Run(living) })
	return sessions, nil
}

// staged lets upload sessions keep parts without knowing the store. Their parts are numbered from 0, those of the store from 1.
type staged struct{ bucket *object.Staging }

// stagedObject is what a destination of the staging bucket can do.
type stagedObject interface {
	storage.PartDestination
	storage.Remover
	// DiscardAll removes what was begun at its key.
	DiscardAll(ctx context.Context) error
}

// Bucket implements uploads.Staging.
func (s staged) Bucket() string { return s.bucket.Bucket() }

func (s staged) object(key string) (stagedObject, error) {
	o, ok := s.bucket.Destination(s.Bucket(), key).(stagedObject)
	if !ok {
		return nil, fmt.Errorf("%w: its driver cannot keep parts", uploads.ErrStagingRefuses)
	}
	return o, nil
}

// Begin implements uploads.Staging.
func (s staged) Begin(ctx context.Context, key string, length, partSize int64) (string, error) {
	o, err := s.object(key)
	if err != nil {
		return "", err
	}
	multipart, err := o.Begin(ctx, storage.PartContent{Size: length, PartSize: partSize})
	return multipart, stagingError(ctx, err)
}

// PutPart implements uploads.Staging.
func (s staged) PutPart(ctx context.Context, key, multipart string, number int, size int64, body io.Reader) (uploads.StagedPart, error) {
	o, err := s.object(key)
	if err != nil {
		return uploads.StagedPart{}, err
	}
	from := &watchedBody{body: body}
	part, err := o.PutPart(ctx, multipart, storage.Part{Number: number + 1, Size: size, Body: from})
	if err != nil {
		return uploads.StagedPart{}, from.explain(ctx, err, size)
	}
	return uploads.StagedPart{ETag: part.ETag, Checksum: part.Checksum}, nil
}

// PutWhole implements uploads.Staging.
func (s staged) PutWhole(ctx context.Context, key string, size int64, body io.Reader) (int64, error) {
	from := &watchedBody{body: body}
	stored, err := s.bucket.Destination(s.Bucket(), key).Put(ctx, storage.Content{Body: from, Size: size})
	if err != nil {
		return 0, from.explain(ctx, err, size)
	}
	return stored.Bytes, nil
}

// Clean implements uploads.Staging.
func (s staged) Clean(ctx context.Context, key, multipart string, all bool) error {
	o, err := s.object(key)
	if err != nil {
		return err
	}
	if multipart != "" {
		err = o.Abort(ctx, multipart)
	}
	if all {
		err = errors.Join(err, o.DiscardAll(ctx), o.Remove(ctx))
	}
	return stagingError(ctx, err)
}

// watchedBody remembers whether it was the body that went wrong. It may still be read when the call that was given it has returned.
type watchedBody struct {
	mu   sync.Mutex
	body io.Reader
	read int64
	err  error // of the body, its end included
}

// Read implements io.Reader.
func (b *watchedBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, err := b.body.Read(p)
	b.read += int64(n)
	if err != nil {
		b.err = err
	}
	return n, err //nolint:wrapcheck // what the body said is told as it is
}

// explain tells an error of the body, which is no concern of the store, from one of the store.
func (b *watchedBody) explain(ctx context.Context, err error, size int64) error {
	if own := b.own(size); own != nil {
		if errors.Is(err, own) {
			return err
		}
		return errors.Join(own, err)
	}
	return stagingError(ctx, err)
}

// own is what was wrong with the body; nil: nothing.
func (b *watchedBody) own(size int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.err == nil, b.err == io.EOF && b.read >= size: //nolint:errorlint // what wraps io.EOF is not the end
		return nil
	case b.err == io.EOF: //nolint:errorlint // as above
		return io.ErrUnexpectedEOF
	}
	return b.err
}

// stagingError says what an error of the store means for those who upload. The cause stays in it.
func stagingError(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	known, ok := errors.AsType[*storage.Error](err)
	if !ok {
		return fmt.Errorf("%w: %w", uploads.ErrStagingAway, err)
	}
	if known.Code == storage.CodeUploadGone {
		return fmt.Errorf("%w: %w", uploads.ErrStagedGone, err)
	}
	meaning := uploads.ErrStagingAway
	switch known.Class {
	case storage.NoSpace:
		meaning = uploads.ErrStagingIsFull
	case storage.NotFound, storage.Denied, storage.Invalid, storage.Conflict, storage.TooLarge, storage.ForbiddenAddress:
		meaning = uploads.ErrStagingRefuses
	case storage.Internal, storage.Corrupt, storage.Throttled, storage.Unavailable, storage.Timeout, storage.Interrupted:
		// Corrupt: something between here and the store changed bytes. They can be sent again.
		if known.Status == http.StatusInsufficientStorage {
			meaning = uploads.ErrStagingIsFull
		}
	}
	return fmt.Errorf("%w: %w", meaning, err)
}
