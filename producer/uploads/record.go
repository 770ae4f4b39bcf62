package uploads

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// record is a session as it is stored.
type record struct {
	protocol.Upload

	revision uint64
}

func (r *record) name() Name { return Name{Org: r.Org, Sandbox: r.Sandbox, ID: r.ID} }

const (
	mostRaces   = 50 // writes of a record that others were faster with
	shortPause  = 2 * time.Millisecond
	longPause   = 250 * time.Millisecond
	pauseDouble = 7 // the pause does not grow beyond this
)

// errRaces says that others changed the same record all the time. Doing it again later is safe.
var errRaces = fmt.Errorf("%w: others keep changing the same record", broker.ErrUnavailable)

// pause waits before a try, longer each time, with full jitter.
func pause(ctx context.Context, try int) error {
	if try == 0 {
		return nil
	}
	most := min(shortPause<<min(try, pauseDouble), longPause)
	timer := time.NewTimer(rand.N(most)) //nolint:gosec // jitter needs no secrecy
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// read returns the record of a session. One that is not there, or not there for the caller, is a refusal.
func (s *Service) read(ctx context.Context, name Name) (*record, error) {
	missing := &Refusal{Code: RefusedNotFound, Message: "There is no such upload in this sandbox."}
	if !name.ID.Valid() {
		return nil, missing
	}
	entry, err := s.bucket.Get(ctx, protocol.UploadSessionKey(name.Org, name.Sandbox, name.ID))
	if errors.Is(err, broker.ErrNotFound) {
		return nil, missing
	}
	if err != nil {
		return nil, fmt.Errorf("read the session %s: %w", name.ID, err)
	}
	rec, err := decode(entry)
	if err != nil {
		return nil, err
	}
	if rec.name() != name {
		return nil, missing
	}
	return rec, nil
}

// elsewhere says that a session is staged in another bucket than this process uses: --staging-bucket was changed, or differs between processes.
func (s *Service) elsewhere(u *protocol.Upload) error {
	if u.Bucket == s.staging.Bucket() {
		return nil
	}
	return fmt.Errorf("%w: %s is staged in the bucket %q, and uploads are staged in %q now", ErrStagingRefuses, u.ID, u.Bucket, s.staging.Bucket())
}

func decode(entry broker.Entry) (*record, error) {
	rec := &record{revision: entry.Revision}
	if err := json.Unmarshal(entry.Value, &rec.Upload); err != nil {
		return nil, fmt.Errorf("read the session at %s: %w", entry.Key, err)
	}
	return rec, nil
}

// decision looks at a session and changes it, or leaves it alone. It is asked again, with what is there then, if another was faster.
type decision func(u *protocol.Upload) (changed bool, err error)

// change makes one change of a session, under the revision at which it was decided, and returns the session as it is then. One that
// ends gives its share of the quota back in the same commit.
func (s *Service) change(ctx context.Context, name Name, decide decision) (*record, error) {
	for try := range mostRaces {
		if err := pause(ctx, try); err != nil {
			return nil, err
		}
		rec, err := s.read(ctx, name)
		if err != nil {
			return nil, err
		}
		next := rec.Upload
		if changed, err := decide(&next); err != nil || !changed {
			return rec, err
		}
		next.Updated = s.now()
		stored, err := s.store(ctx, rec, &next)
		if errors.Is(err, broker.ErrConflict) {
			continue
		}
		if err == nil && next.State != rec.State {
			s.cfg.Metrics.UploadSession(ctx, string(next.State))
		}
		return stored, err
	}
	return nil, fmt.Errorf("change the session %s: %w", name.ID, errRaces)
}

// store writes a session that was read, together with the quota if it takes another share of it.
func (s *Service) store(ctx context.Context, was *record, next *protocol.Upload) (*record, error) {
	if share(&was.Upload) != share(next) {
		return s.storeShare(ctx, was, next)
	}
	change, err := changeOf(protocol.UploadSessionKey(next.Org, next.Sandbox, next.ID), next, was.revision)
	if err != nil {
		return nil, err
	}
	revision, err := s.bucket.Update(ctx, change)
	if err != nil {
		return nil, fmt.Errorf("store the session %s: %w", next.ID, err)
	}
	return &record{Upload: *next, revision: revision}, nil
}

func changeOf(key string, value any, revision uint64) (broker.Change, error) {
	data, err := protocol.Encode(value) // metadata stay as they came
	if err != nil {
		return broker.Change{}, fmt.Errorf("encode %s: %w", key, err)
	}
	return broker.Change{Key: key, Value: data, Revision: revision}, nil
}
