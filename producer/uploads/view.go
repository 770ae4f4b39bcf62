package uploads

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// Show returns a session. One whose batch has ended is brought to its end first.
func (s *Service) Show(ctx context.Context, name Name) (*Session, error) {
	rec, err := s.read(ctx, name)
	if err != nil {
		return nil, err
	}
	if rec, err = s.settle(ctx, rec); err != nil {
		return nil, err
	}
	return s.view(ctx, rec)
}

// List returns the sessions of a sandbox, newest first, at most limit.
func (s *Service) List(ctx context.Context, name Name, limit int) ([]*Session, error) {
	var newest []*record
	order := func() {
		slices.SortFunc(newest, func(a, b *record) int { return b.Created.Compare(a.Created) })
		newest = newest[:min(len(newest), limit)]
	}
	var failed error
	err := s.bucket.Scan(ctx, protocol.UploadSessionFilter(name.Org, name.Sandbox), func(e broker.Scanned) bool {
		rec, err := decode(e.Entry)
		if err != nil {
			failed = err
			return false
		}
		if newest = append(newest, rec); len(newest) >= 2*limit+1 {
			order()
		}
		return true
	})
	if err = errors.Join(err, failed); err != nil {
		return nil, fmt.Errorf("list the sessions of %s: %w", name.Sandbox, err)
	}
	order()
	list := make([]*Session, 0, len(newest))
	for _, rec := range newest {
		session, err := s.view(ctx, rec)
		if err != nil {
			return nil, err
		}
		list = append(list, session)
	}
	return list, nil
}

// progress reads which parts of a session are there.
func (s *Service) progress(ctx context.Context, u *protocol.Upload) (protocol.UploadProgress, error) {
	var p protocol.UploadProgress
	entry, err := s.bucket.Get(ctx, protocol.UploadProgressKey(u.Org, u.Sandbox, u.ID))
	if errors.Is(err, broker.ErrNotFound) {
		return p, nil
	}
	if err != nil {
		return p, fmt.Errorf("read which parts of %s are there: %w", u.ID, err)
	}
	if err := json.Unmarshal(entry.Value, &p); err != nil {
		return p, fmt.Errorf("read which parts of %s are there: %w", u.ID, err)
	}
	return p, nil
}

// view shows a session as it is now. It changes nothing.
func (s *Service) view(ctx context.Context, rec *record) (*Session, error) {
	u := &rec.Upload
	progress := protocol.UploadProgress{Have: u.Have}
	if !u.State.Final() {
		var err error
		if progress, err = s.progress(ctx, u); err != nil {
			return nil, err
		}
	}
	session := &Session{Upload: *u, Changed: u.Updated, Limits: s.limits()}
	if progress.Updated.After(session.Changed) {
		session.Changed = progress.Updated
	}
	session.Status = s.status(u, &progress)
	session.Accepted, session.Missing, session.Next = parts(u, &progress)
	if held := share(u); held > 0 && session.Status != StatusExpired {
		session.Reserved = held
	}
	return session, nil
}

func (s *Service) limits() Limits {
	return Limits{Largest: s.cfg.Largest, Part: partSize(s.cfg.Largest, s.smallest), Concurrent: MostConcurrent, Quota: s.cfg.Quota}
}

// status is the published state of a session.
func (s *Service) status(u *protocol.Upload, progress *protocol.UploadProgress) Status {
	switch {
	case s.over(u):
		return StatusExpired
	case u.State == protocol.UploadCreating:
		return StatusCreated
	case u.State != protocol.UploadOpen:
		return Status(u.State)
	}
	switch have := count(u, progress); have {
	case u.PartCount:
		return StatusStaged
	case 0:
		return StatusCreated
	default:
		return StatusUploading
	}
}

// there reports whether a part is there. Of a session that was published all were.
func there(u *protocol.Upload, progress *protocol.UploadProgress, number int) bool {
	return u.State == protocol.UploadCompleted || progress.Has(number)
}

func count(u *protocol.Upload, progress *protocol.UploadProgress) int {
	have := 0
	for n := range u.PartCount {
		if there(u, progress, n) {
			have++
		}
	}
	return have
}

// parts tells how many bytes are there, which parts are not, and the first of these.
func parts(u *protocol.Upload, progress *protocol.UploadProgress) (accepted int64, missing []Range, next int) {
	for n := range u.PartCount {
		if there(u, progress, n) {
			_, size := u.Span(n)
			accepted += size
			continue
		}
		if last := len(missing) - 1; last >= 0 && missing[last].Last == n-1 {
			missing[last].Last = n
		} else {
			missing = append(missing, Range{First: n, Last: n})
		}
	}
	if u.Direct && u.State != protocol.UploadCreating && u.State != protocol.UploadAborted && u.State != protocol.UploadExpired {
		accepted = u.Length
	}
	if len(missing) > 0 {
		return accepted, missing, missing[0].First
	}
	return accepted, nil, u.PartCount
}
