package uploads

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/protocol"
)

const (
	foldLimit = 60 * time.Second       // for the news of a part to come into KV
	foldLook  = 250 * time.Millisecond // between looks, where nothing is told
)

// errNotFolded says that the news of a part is durable, but is not in KV: the part may still come to count, and sending it again is safe.
var errNotFolded = fmt.Errorf("%w: the state of the part was not in KV within %s", broker.ErrUnavailable, foldLimit)

// known returns what KV knows of a part; nil: nothing.
func (s *Service) known(ctx context.Context, rec *record, number int) (*protocol.UploadPart, error) {
	entry, err := s.bucket.Get(ctx, protocol.UploadPageKey(rec.Org, rec.Sandbox, rec.ID, number/protocol.PageSize))
	if errors.Is(err, broker.ErrNotFound) {
		return nil, nil //nolint:nilnil // nothing is known, and that is no error
	}
	if err != nil {
		return nil, fmt.Errorf("read what is known of part %d of %s: %w", number, rec.ID, err)
	}
	var page protocol.UploadPage
	if err := json.Unmarshal(entry.Value, &page); err != nil {
		return nil, fmt.Errorf("read what is known of part %d of %s: %w", number, rec.ID, err)
	}
	if page.Multipart != rec.Multipart {
		return nil, nil //nolint:nilnil // as above
	}
	for i := range page.Parts {
		if page.Parts[i].Number == number {
			return &page.Parts[i], nil
		}
	}
	return nil, nil //nolint:nilnil // as above
}

// same reports whether the store was given the same part again.
func same(a, b *protocol.UploadPart) bool {
	return !a.Lost && !b.Lost && a.Size == b.Size && a.SHA256 == b.SHA256 && a.ETag == b.ETag && a.Checksum == b.Checksum
}

// tell has the news of a part stored for the aggregator, and waits until KV has it, or later news of the same part.
func (s *Service) tell(ctx context.Context, rec *record, word protocol.UploadPart) error {
	before, err := s.known(ctx, rec, word.Number)
	if err != nil {
		return err
	}
	// The same bytes again are told, too: another front may have stored others in between, whose news is still on its way.
	word.Stored = s.now()
	// Whoever had the last word before may have a clock that is ahead. Here it is known that this came later.
	if before != nil && !word.Stored.After(before.Stored) {
		word.Stored = before.Stored.Add(time.Microsecond)
	}
	changes, stop, err := s.conn.WatchUpload(rec.Org, rec.Sandbox, rec.ID)
	if err != nil {
		return fmt.Errorf("wait for part %d of %s: %w", word.Number, rec.ID, err)
	}
	defer stop()
	// The part is stored: that its sender is gone is no reason to forget it.
	err = s.conn.PublishUpload(context.WithoutCancel(ctx), s.cfg.Sender, protocol.UploadReport{
		Org: rec.Org, Sandbox: rec.Sandbox, Upload: rec.ID, Multipart: rec.Multipart, Part: word,
	})
	if err != nil {
		return fmt.Errorf("tell of part %d of %s: %w", word.Number, rec.ID, err)
	}
	failpoint.Hit(failpoint.SessionPartTold)
	return s.folded(ctx, rec, &word, changes)
}

// folded waits until KV has the word on a part, or a later one.
func (s *Service) folded(ctx context.Context, rec *record, word *protocol.UploadPart, changes <-chan struct{}) error {
	ctx, cancel := context.WithTimeoutCause(ctx, foldLimit, errNotFolded)
	defer cancel()
	look := time.NewTicker(foldLook)
	defer look.Stop()
	for {
		known, err := s.known(ctx, rec, word.Number)
		if err == nil && known != nil && (same(known, word) || !known.Stored.Before(word.Stored)) {
			return nil
		}
		select {
		case <-changes:
		case <-look.C: // one change may have been told before anybody listened
			if err := s.stillCounts(ctx, rec); err != nil {
				return err
			}
		case <-ctx.Done():
			return fmt.Errorf("wait for part %d of %s: %w", word.Number, rec.ID, context.Cause(ctx))
		}
	}
}

// stillCounts refuses a part whose session ended before its news came into KV, where it never will.
func (s *Service) stillCounts(ctx context.Context, rec *record) error {
	now, err := s.read(ctx, rec.name())
	if errors.Is(err, broker.ErrUnavailable) {
		return nil // the broker may come back in time
	}
	if err != nil {
		return err
	}
	if now.State.Final() {
		return s.refuseUnlessOpen(ctx, now)
	}
	return nil
}
