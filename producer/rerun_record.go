package producer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// rerunRecord is what was run again of a batch, and where. It is written before the batches that it names are accepted, under its
// expected revision, so that no item is run again by two of them.
type rerunRecord struct {
	Version int          `json:"v"`
	Entries []rerunEntry `json:"entries"`
}

// rerunEntry says that items of a batch run again in another one, once that is accepted.
type rerunEntry struct {
	Batch  protocol.BatchID `json:"batch"`
	Ranges ranges           `json:"ranges"`
	At     time.Time        `json:"at"`
	// Request is the digest of the call, as in the accept record: the other batch may turn out to be that of another call that came with
	// the same idempotency key.
	Request string `json:"request_sha256,omitempty"`
	// Done says that the other batch was accepted, also after retention has removed it.
	Done bool `json:"done,omitempty"`
	// Sources is how many batches the other one takes items from; 0: one.
	Sources int `json:"sources,omitempty"`
}

const (
	rerunVersion = 1
	// maxRerunRecord bounds a record, in bytes: a message of a broker may have 1 MiB by default.
	maxRerunRecord = 900 << 10
	// rerunPatience and rerunItem are how long a rerun may take to be accepted, and longer for each item, before another one
	// may take its items.
	rerunPatience = 15 * time.Second
	rerunItem     = 100 * time.Microsecond
)

var (
	// errFragmented says that what was run again of a batch does not fit its record any more.
	errFragmented = errors.New("the items are too scattered to be kept in one record")
	// errTaken says that a rerun lost its items to another one.
	errTaken = errors.New("another rerun took the items")
)

// requestSuperseded stands in place of a request's digest in the accept record of a rerun that lost its items: no request has this
// digest, so that none can go on with it.
const requestSuperseded = "superseded"

// standing is what an entry of a rerun record says now.
type standing int

const (
	standsVoid    standing = iota // its batch will never be accepted
	standsStale                   // its batch is not accepted, and whoever wrote it seems to be dead
	standsPending                 // its batch is being accepted
	standsTaken                   // its batch was accepted: the items have been run again
)

// rerunOf reads what was run again of a batch, with the revision of the record.
func (p *Pipeline) rerunOf(ctx context.Context, org protocol.OrgID, id protocol.BatchID) (rerunRecord, uint64, error) {
	record := rerunRecord{Version: rerunVersion}
	revision, err := readInto(ctx, p.batches, protocol.RerunKey(org, id), &record)
	return record, revision, err
}

// reruns returns the batches that ran items of a batch again, in the order in which they were asked for.
func (p *Pipeline) reruns(ctx context.Context, org protocol.OrgID, id protocol.BatchID) ([]protocol.BatchID, error) {
	record, _, err := p.rerunOf(ctx, org, id)
	if err != nil {
		return nil, err
	}
	var list []protocol.BatchID
	for i := range record.Entries {
		stands, err := p.standing(ctx, org, &record.Entries[i])
		if err != nil {
			return nil, err
		}
		if stands == standsTaken {
			list = append(list, record.Entries[i].Batch)
		}
	}
	return list, nil
}

// standing tells what an entry says, by the accept record of its batch. A rerun is always fed, so that its record tells.
func (p *Pipeline) standing(ctx context.Context, org protocol.OrgID, e *rerunEntry) (standing, error) {
	if e.Done {
		return standsTaken, nil
	}
	record, found, err := p.acceptance(ctx, org, e.Batch)
	switch {
	case err != nil:
		return standsVoid, err
	case found && e.foreign(&record):
		return standsVoid, nil
	case found && record.State == protocol.AcceptComplete:
		return standsTaken, nil
	case found && record.State == protocol.AcceptAbandoned:
		return standsStale, nil
	case time.Since(e.At) < rerunPatience+time.Duration(e.Ranges.count())*rerunItem:
		return standsPending, nil
	}
	return standsStale, nil
}

// foreign reports whether an accept record can never become that of the entry: another call has the id, or the rerun was superseded.
func (e *rerunEntry) foreign(record *protocol.Acceptance) bool {
	return record.Request != "" && record.Request != e.Request
}

// supersede sees to it that a rerun that seems to be dead is never accepted, and returns false if it was accepted meanwhile.
func (p *Pipeline) supersede(ctx context.Context, org protocol.OrgID, e *rerunEntry) (bool, error) {
	id := e.Batch
	for range reopenTries {
		record, revision, err := p.stored(ctx, org, id)
		if errors.Is(err, broker.ErrNotFound) {
			record = protocol.Acceptance{Version: protocol.AcceptanceVersion, Org: org, Batch: id, Lane: protocol.Bulk, Created: time.Now().UTC()}
			revision, err = 0, nil
		}
		switch {
		case err != nil:
			return false, err
		case e.foreign(&record):
			return true, nil
		case record.State == protocol.AcceptComplete:
			return false, nil
		}
		record.State, record.Request = protocol.AcceptAbandoned, requestSuperseded
		record.Total, record.Manifest, record.IDs = 0, nil, nil // it never was a batch
		if revision == 0 {
			_, err = p.create(ctx, &record)
		} else {
			_, err = p.rewrite(ctx, &record, revision)
		}
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, broker.ErrConflict) && !errors.Is(err, broker.ErrExists) {
			return false, err
		}
	}
	return false, fmt.Errorf("%w: the record of %s changed again and again", broker.ErrUnavailable, id)
}

// change is the write that puts a record in place of the one of that revision.
func (r *rerunRecord) change(org protocol.OrgID, id protocol.BatchID, revision uint64) (broker.Change, error) {
	value, err := json.Marshal(r)
	if err != nil {
		return broker.Change{}, fmt.Errorf("rerun items of %s: %w", id, err)
	}
	if len(value) > maxRerunRecord {
		return broker.Change{}, fmt.Errorf("rerun items of %s: %w", id, errFragmented)
	}
	return broker.Change{Key: protocol.RerunKey(org, id), Value: value, Revision: revision}, nil
}

// settleRerun says in the record of a batch how the acceptance of a rerun ended: its items have been run again, or they have
// not and may be by another one. It need not succeed: who reads the record looks at the acceptance.
func (p *Pipeline) settleRerun(ctx context.Context, org protocol.OrgID, id, rerun protocol.BatchID, accepted bool) error {
	for range reopenTries {
		record, revision, err := p.rerunOf(ctx, org, id)
		if err != nil {
			return err
		}
		at := slices.IndexFunc(record.Entries, func(e rerunEntry) bool { return e.Batch == rerun })
		if at < 0 || record.Entries[at].Done {
			return nil
		}
		if accepted {
			record.Entries[at].Done = true
		} else {
			record.Entries = slices.Delete(record.Entries, at, at+1)
		}
		change, err := record.change(org, id, revision)
		if err != nil {
			return err
		}
		_, err = p.batches.Update(ctx, change)
		if !errors.Is(err, broker.ErrConflict) {
			return err //nolint:wrapcheck // says what was written and where
		}
	}
	return fmt.Errorf("%w: the rerun record of %s changed again and again", broker.ErrUnavailable, id)
}
