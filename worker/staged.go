package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/metered"
)

// What an upload session has staged is a source of its own kind: where it lies, and whether it may be published at all, stands in the session's
// record, which is read when the item runs. Once its parts are put together (assemble.go) it is an object like any other.

// Codes of a session that cannot be published. What they mean for the session is decided by who waits for the batch.
const (
	codeNotCompleting = "upload_not_completing" // it was aborted, or another batch publishes it: class Conflict
	codePartLost      = "upload_part_lost"      // parts have to be sent again: class Corrupt
	codeStagingGone   = "upload_staging_gone"   // nothing is there, or not what was staged: class Corrupt
	codeNoStaging     = "upload_staging_none"   // this worker cannot read what is staged, another may: class Unavailable
)

// uploadRecords are the records of upload sessions, which the front writes, and the pages of their parts, which the aggregator writes.
type uploadRecords struct{ bucket *broker.Bucket }

// session reads the record of the session that a transfer publishes. That there is none is [broker.ErrNotFound].
func (r uploadRecords) session(ctx context.Context, t *transfer) (*protocol.Upload, error) {
	entry, err := r.bucket.Get(ctx, protocol.UploadSessionKey(t.org, t.src.Sandbox, t.src.Upload))
	if errors.Is(err, broker.ErrNotFound) {
		return nil, err
	}
	if err != nil {
		return nil, unconfirmed(err)
	}
	u := &protocol.Upload{}
	if err := json.Unmarshal(entry.Value, u); err != nil {
		return nil, unconfirmed(fmt.Errorf("read the upload session %s: %w", entry.Key, err))
	}
	return u, nil
}

// parts reads what is known of the parts of a session. A part of which nothing is known has no ETag.
func (r uploadRecords) parts(ctx context.Context, u *protocol.Upload) ([]protocol.UploadPart, error) {
	parts := make([]protocol.UploadPart, u.PartCount)
	for first := 0; first < u.PartCount; first += protocol.PageSize {
		entry, err := r.bucket.Get(ctx, protocol.UploadPageKey(u.Org, u.Sandbox, u.ID, first/protocol.PageSize))
		if errors.Is(err, broker.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, unconfirmed(err)
		}
		var page protocol.UploadPage
		if err := json.Unmarshal(entry.Value, &page); err != nil {
			return nil, unconfirmed(fmt.Errorf("read the parts of an upload session %s: %w", entry.Key, err))
		}
		if page.Multipart != u.Multipart {
			continue // of one that was begun and given up
		}
		for _, p := range page.Parts {
			if p.Number >= first && p.Number < min(first+protocol.PageSize, u.PartCount) {
				parts[p.Number] = p
			}
		}
	}
	return parts, nil
}

// staged finds out where what a transfer publishes lies. It fails for good if the session is not to be published by this batch: it was aborted,
// or its batch was given up and another one has it.
func (w *Worker) staged(ctx context.Context, j *job, t *transfer) (*protocol.Upload, error) {
	if err := t.awaitClaim(); err != nil {
		return nil, err
	}
	u, err := w.uploads.session(ctx, t)
	if err != nil && !errors.Is(err, broker.ErrNotFound) {
		return nil, err
	}
	if err != nil || u.State != protocol.UploadCompleting || u.Withdrawn || u.Batch != j.work.Batch {
		return nil, ofUpload(t, protocol.Conflict, codeNotCompleting, "is not being published by this batch")
	}
	if u.Version > protocol.UploadVersion || w.copier.drivers.Staging == nil {
		return nil, noStaging(t)
	}
	t.again = t.again || u.Generation > 1 // that batch may have come further than its outcome says
	t.staged = protocol.Location{Type: protocol.Object, Bucket: u.Bucket, Key: u.Key}
	failpoint.HitItem(failpoint.SessionRead, t.id)
	return u, nil
}

// stage makes what a transfer publishes ready to be read.
func (w *Worker) stage(ctx context.Context, j *job, t *transfer) error {
	u, err := w.staged(ctx, j, t)
	if err != nil {
		return err
	}
	return w.assemble(ctx, t, u)
}

// ofUpload is a failure of a session, in words of its own: nothing was downloaded.
func ofUpload(t *transfer, class protocol.Class, code, format string, args ...any) *failureError {
	return &failureError{protocol.Failure{
		Class: class, Code: code, Host: hostOf(t.src), Message: "Upload " + string(t.src.Upload) + " " + fmt.Sprintf(format, args...),
	}}
}

func noStaging(t *transfer) error {
	err := ofUpload(t, protocol.Unavailable, codeNoStaging, "is staged where this worker cannot read it")
	err.failure.Hint = "Give every role the same --staging-bucket, S3 endpoint and version."
	return err
}

// stagingDestination is where a session stages its content, of which each use is measured.
func (c *copier) stagingDestination(t *transfer) storage.Destination {
	destination := c.drivers.Staging.Destination(t.staged.Bucket, t.staged.Key)
	if used := c.used(t.src); used != nil {
		return metered.Destination(destination, metered.Told{Used: used})
	}
	return destination
}
