package producer

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/protocol"
)

// cleanTimeout bounds what is done after a try has failed, whether its caller still listens or not.
const cleanTimeout = 30 * time.Second

// acceptManifest accepts a batch of many items: a pending record, the manifest in pages under the try's own generation, then the
// word that it is whole, from which on it is fed. first are the items that were read to learn that there are many.
//
// Several tries with one key may be under way at once, or be left behind by a crash. Each writes a generation of its own,
// and the first that completes the record wins.
func (p *Pipeline) acceptManifest(
	ctx context.Context, o *order, first []protocol.ManifestItem, next func() (protocol.ManifestItem, error),
) (protocol.Acceptance, error) {
	record, tookOver, err := p.begin(ctx, o)
	if err != nil {
		return record, err
	}
	if record.Request != "" { // stored already, by an earlier try
		return p.repeated(o, record, next)
	}
	failpoint.Hit(failpoint.AcceptRecorded)
	feed := &feedKeeper{pipeline: p, record: &record}
	total, err := 0, feed.ensure(ctx)
	if err == nil {
		total, err = p.newManifestWriter(&record, feed).fill(ctx, first, next)
	}
	if err == nil {
		err = o.close()
	}
	if err == nil {
		// All is here: from now on it does not matter whether the caller still listens.
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), acceptTimeout)
		defer cancel()
		var done protocol.Acceptance
		if done, err = p.finish(ending, o, &record, total); err == nil {
			return done, nil
		}
	}
	cleaning, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
	defer cancel()
	if done, complete := p.giveUp(cleaning, &record, tookOver); complete && done.Request == hex.EncodeToString(o.request[:]) {
		return done, nil // the answer to its last step was lost, not the step
	}
	return record, fmt.Errorf("accept batch %s: %w", o.batch, err)
}

// begin creates the record of a batch that is to be fed, or takes over the one of a try that has not come to its end; tookOver
// says that this one may still be at it. A record with a request digest is that of a batch that was accepted before.
func (p *Pipeline) begin(ctx context.Context, o *order) (record protocol.Acceptance, tookOver bool, err error) {
	record = o.newRecord()
	record.Generation = 1
	_, err = p.create(ctx, &record)
	for try := 0; try < reopenTries && (errors.Is(err, broker.ErrExists) || errors.Is(err, broker.ErrConflict)); try++ {
		found, revision, getErr := p.stored(ctx, o.org, o.batch)
		if getErr != nil {
			return record, false, getErr
		}
		if older := found.Chunks > 1 && found.State != protocol.AcceptComplete; found.Request != "" && !older {
			if o.request != [32]byte{} && found.Request != hex.EncodeToString(o.request[:]) {
				return found, false, errKeyReused
			}
			if found.State != protocol.AcceptAbandoned {
				return found, false, nil
			}
			return found, false, errKeyReused // a small batch, which this one is not
		}
		// It is pending, or abandoned, or of an older version that published large batches in several chunks.
		record.Generation, tookOver = found.Generation+1, found.State == protocol.AcceptPending
		_, err = p.rewrite(ctx, &record, revision)
	}
	return record, tookOver, err
}

// repeated answers for a batch that is accepted already, once the request has been read to its end and is the same.
func (p *Pipeline) repeated(o *order, record protocol.Acceptance, next func() (protocol.ManifestItem, error)) (protocol.Acceptance, error) {
	for o.request == [32]byte{} {
		if _, err := next(); errIsEOF(err) {
			break
		} else if err != nil {
			return record, fmt.Errorf("accept batch %s again: %w", record.Batch, err)
		}
	}
	if o.request == [32]byte{} {
		if err := o.close(); err != nil {
			return record, fmt.Errorf("accept batch %s again: %w", record.Batch, err)
		}
	}
	if record.Request != hex.EncodeToString(o.request[:]) {
		return record, errKeyReused
	}
	return record, nil
}

// finish says that the manifest is whole, unless another try has done so before.
func (p *Pipeline) finish(ctx context.Context, o *order, record *protocol.Acceptance, total int) (protocol.Acceptance, error) {
	if err := p.admit(ctx, total); err != nil {
		return *record, err
	}
	if err := p.ready(ctx, o); err != nil {
		return *record, err
	}
	whole := o.newRecord()
	whole.Created, whole.Generation, whole.Total = record.Created, record.Generation, total
	whole.Request, whole.State = hex.EncodeToString(o.request[:]), protocol.AcceptComplete
	failpoint.Hit(failpoint.ManifestComplete)
	for range reopenTries {
		found, revision, err := p.stored(ctx, o.org, o.batch)
		switch {
		case errors.Is(err, broker.ErrNotFound):
			return whole, errGivenUp
		case err != nil:
			return whole, err
		case found.Request != "" && found.Request != whole.Request:
			return whole, errKeyReused
		case found.Request != "": // the same request, faster
			if found.Generation != whole.Generation {
				p.drop(ctx, &whole, whole.Generation)
			}
			return found, nil
		case found.State != protocol.AcceptPending:
			return whole, errGivenUp
		}
		_, err = p.rewrite(ctx, &whole, revision)
		if errors.Is(err, broker.ErrConflict) {
			continue
		}
		if err != nil {
			return whole, err
		}
		p.accepted(&whole)
		for generation := 1; generation <= found.Generation; generation++ {
			if generation != whole.Generation {
				p.drop(ctx, &whole, generation)
			}
		}
		return whole, nil
	}
	return whole, fmt.Errorf("%w: its record changed again and again", broker.ErrUnavailable)
}

// giveUp takes back what a failed try left: its pages, and its record unless another try has it. If the record turns out to be
// complete with these very pages it is returned, and nothing is taken back. What cannot be taken back now the sweep finds.
func (p *Pipeline) giveUp(ctx context.Context, record *protocol.Acceptance, tookOver bool) (protocol.Acceptance, bool) {
	for range reopenTries {
		found, revision, err := p.stored(ctx, record.Org, record.Batch)
		if err != nil && !errors.Is(err, broker.ErrNotFound) {
			p.log.Warn("a failed acceptance was not taken back; the sweep will do it", "batch", record.Batch, "error", err)
			return found, false
		}
		if err == nil && found.Generation == record.Generation && found.Request != "" && found.Fed() {
			return found, true
		}
		if err != nil || found.Generation != record.Generation || found.State != protocol.AcceptPending || tookOver {
			break // another try is at it, or may be
		}
		found.State = protocol.AcceptAbandoned
		_, err = p.rewrite(ctx, &found, revision)
		if errors.Is(err, broker.ErrConflict) {
			continue
		}
		if err != nil {
			p.log.Warn("a failed acceptance was not taken back; the sweep will do it", "batch", record.Batch, "error", err)
			return found, false
		}
		if err := p.conn.Changed(record.Org, record.Batch, false); err != nil { // the feeder removes the feed record
			p.log.Debug("nobody was told of an abandoned batch; it is found by itself", "batch", record.Batch, "error", err)
		}
		break
	}
	p.drop(ctx, record, record.Generation)
	return protocol.Acceptance{}, false
}

// drop removes the pages of a generation that nobody will read.
func (p *Pipeline) drop(ctx context.Context, record *protocol.Acceptance, generation int) {
	filter := strings.TrimSuffix(protocol.ManifestKey(record.Org, record.Batch, generation, 0), "0") + "*"
	if err := p.manifests.DropAll(ctx, filter); err != nil {
		p.log.Warn("pages of a manifest that nobody reads were not removed; retention will do it", "batch", record.Batch, "error", err)
	}
}

// errNoManifest says that a batch has no manifest: it was accepted by an older version, or has been removed.
var errNoManifest = errors.New("the batch has no manifest")

// manifestPage returns the items of a page as their caller asked for them: item i of page n is item n*[protocol.PageSize]+i of the
// batch. They hold credentials.
func (p *Pipeline) manifestPage(ctx context.Context, record *protocol.Acceptance, page int) ([]protocol.ManifestItem, error) {
	sealed := record.Manifest
	if len(sealed) == 0 || page > 0 {
		if !record.Fed() {
			return nil, fmt.Errorf("page %d of %s: %w", page, record.Batch, errNoManifest)
		}
		entry, err := p.manifests.Get(ctx, protocol.ManifestKey(record.Org, record.Batch, record.Generation, page))
		if errors.Is(err, broker.ErrNotFound) {
			return nil, fmt.Errorf("page %d of %s: %w: %w", page, record.Batch, errNoManifest, err)
		}
		if err != nil {
			return nil, fmt.Errorf("page %d of %s: %w", page, record.Batch, err)
		}
		sealed = entry.Value
	}
	items, err := p.sealer.OpenPage(record.Org, record.Batch, page, sealed)
	if err != nil {
		return nil, fmt.Errorf("read a manifest: %w", err)
	}
	return items, nil
}

// manifestItems goes through the items of a batch from an index on, in order, a page in memory at a time. An error is the last that
// it yields.
func (p *Pipeline) manifestItems(ctx context.Context, record *protocol.Acceptance, from int) iter.Seq2[protocol.ManifestItem, error] {
	return func(yield func(protocol.ManifestItem, error) bool) {
		for at := max(from, 0); at < record.Total; {
			number := protocol.PageOf(at)
			items, err := p.manifestPage(ctx, record, number)
			if err == nil && len(items) != min(protocol.PageSize, record.Total-number*protocol.PageSize) {
				err = fmt.Errorf("page %d of %s: it has %d items: %w", number, record.Batch, len(items), protocol.ErrSeal)
			}
			if err != nil {
				yield(protocol.ManifestItem{}, err)
				return
			}
			for _, item := range items[at-number*protocol.PageSize:] {
				if !yield(item, nil) {
					return
				}
				at++
			}
		}
	}
}
