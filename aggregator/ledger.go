package aggregator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// ledger holds the batches that are being folded: what KV holds, with revisions, and what has changed since. It belongs to
// the aggregator's loop.
type ledger struct {
	bucket *broker.Bucket
	books  map[batchKey]*book
	pages  int // loaded in all books
	clock  uint64
}

type batchKey struct {
	org   protocol.OrgID
	batch protocol.BatchID
}

// book is one batch.
type book struct {
	summary  protocol.Summary
	revision uint64
	pages    map[int]*sheet
	stale    []*sheet       // pages that the summary does not count as they are
	told     protocol.Tally // of the summary in KV, from which the pace is measured
	changed  bool
	used     uint64 // ledger.clock when last touched
}

// sheet is one page of a batch.
type sheet struct {
	receipts []protocol.Receipt
	tally    protocol.Tally                // as counted in summary.Tally
	groups   map[cause]protocol.ErrorGroup // as counted in summary.Groups
	revision uint64
	changed  bool
	stale    bool
}

const (
	maxBooks = 20_000
	maxPages = 128 // with large receipts 60 MiB
)

func newLedger(bucket *broker.Bucket) *ledger {
	return &ledger{bucket: bucket, books: map[batchKey]*book{}}
}

// fold takes one report in. It returns the book, whose summary follows with [book.count]; nil: the batch is no more.
func (l *ledger) fold(ctx context.Context, report *protocol.Report) (*book, error) {
	if report.Ref.Part != 0 {
		return nil, nil //nolint:nilnil // what becomes of a part is no outcome of its item
	}
	key := batchKey{report.Ref.Org, report.Ref.Batch}
	b, err := l.book(ctx, key, report)
	if err != nil || b == nil {
		return b, err
	}
	l.clock++
	b.used = l.clock
	if report.Receipt.Index == protocol.WebhookIndex {
		b.notice(&report.Receipt)
		return b, nil
	}
	if report.Receipt.Index < 0 || report.Receipt.Index >= b.summary.Total || b.summary.State.Final() {
		return b, nil // a repetition, or no item of this batch
	}
	s, err := l.sheet(ctx, key, b, protocol.PageOf(report.Receipt.Index))
	if err != nil {
		return nil, err
	}
	receipts, changed := fold(s.receipts, report.Receipt)
	if !changed {
		return b, nil
	}
	s.receipts, s.changed, b.changed = receipts, true, true
	if !s.stale {
		s.stale = true
		b.stale = append(b.stale, s)
	}
	b.stamp(report.Receipt.Attempts)
	return b, nil
}

// notice takes in what became of the notice of the batch's end.
func (b *book) notice(news *protocol.Receipt) {
	if b.revision > 0 && (b.summary.Webhook == nil || supersedes(news, b.summary.Webhook)) {
		b.summary.Webhook, b.changed = news, true
	}
}

// count brings the summary up to date with the pages.
func (b *book) count() {
	if len(b.stale) == 0 {
		return
	}
	for _, s := range b.stale {
		counted, groups := tally(s.receipts), group(s.receipts)
		b.summary.Tally.Replace(s.tally, counted)
		b.summary.Groups = regroup(b.summary.Groups, s.groups, groups)
		s.tally, s.groups, s.stale = counted, groups, false
	}
	b.stale = b.stale[:0]
	b.summary.State = b.summary.Tally.State(b.summary.Total)
}

// stamp keeps the first start and the last end of what was reported.
func (b *book) stamp(attempts []protocol.Attempt) {
	if len(attempts) == 0 {
		return
	}
	start, end := attempts[0].Start, attempts[len(attempts)-1].End
	if b.summary.Started.IsZero() || start.Before(b.summary.Started) {
		b.summary.Started = start
	}
	if end.After(b.summary.Ended) {
		b.summary.Ended = end
	}
}

// book returns the book of a batch; nil: the batch is no more.
func (l *ledger) book(ctx context.Context, key batchKey, report *protocol.Report) (*book, error) {
	if b := l.books[key]; b != nil {
		return b, nil
	}
	b := &book{pages: map[int]*sheet{}}
	entry, err := l.bucket.Get(ctx, protocol.SummaryKey(key.org, key.batch))
	switch {
	case errors.Is(err, broker.ErrNotFound):
		if gone, err := l.removed(ctx, key, report); err != nil || gone {
			return nil, err
		}
		b.summary = protocol.Summary{
			Version: protocol.SummaryVersion, Batch: key.batch, Org: key.org, Lane: report.Lane,
			Total: report.Total, State: protocol.BatchQueued,
		}
	case err != nil:
		return nil, fmt.Errorf("load batch %s: %w", key.batch, err)
	default:
		if err := json.Unmarshal(entry.Value, &b.summary); err != nil {
			return nil, fmt.Errorf("load batch %s: %w", key.batch, err)
		}
		b.revision = entry.Revision
		b.summary.Version, b.told = protocol.SummaryVersion, b.summary.Tally
	}
	if protocol.Inline(b.summary.Total) {
		b.pages[0] = &sheet{receipts: b.summary.Receipts, tally: tally(b.summary.Receipts), groups: group(b.summary.Receipts)}
		b.summary.Receipts = nil
		l.pages++
	}
	l.books[key] = b
	return b, nil
}

// old is the age of an attempt from which on its batch may have been removed.
const old = time.Hour

// removed reports whether a batch without a summary is no more, and a late report must not bring it back.
func (l *ledger) removed(ctx context.Context, key batchKey, report *protocol.Report) (bool, error) {
	if len(report.Receipt.Attempts) == 0 || time.Since(report.Receipt.Attempts[0].Start) < old {
		return false, nil
	}
	_, err := l.bucket.Get(ctx, protocol.AcceptKey(key.org, key.batch))
	if errors.Is(err, broker.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for batch %s: %w", key.batch, err)
	}
	return false, nil
}

func (l *ledger) sheet(ctx context.Context, key batchKey, b *book, number int) (*sheet, error) {
	if s := b.pages[number]; s != nil {
		return s, nil
	}
	s := &sheet{}
	entry, err := l.bucket.Get(ctx, protocol.PageKey(key.org, key.batch, number))
	if err != nil && !errors.Is(err, broker.ErrNotFound) {
		return nil, fmt.Errorf("load page %d of %s: %w", number, key.batch, err)
	}
	if err == nil {
		var p protocol.Page
		if err := json.Unmarshal(entry.Value, &p); err != nil {
			return nil, fmt.Errorf("load page %d of %s: %w", number, key.batch, err)
		}
		s.receipts, s.tally, s.groups, s.revision = p.Receipts, tally(p.Receipts), group(p.Receipts), entry.Revision
	}
	b.pages[number] = s
	l.pages++
	return s, nil
}

// unit is what one batch commits: its changed pages and its summary, which stand or fall together.
type unit struct {
	key     batchKey
	book    *book
	sheets  []*sheet
	changes []broker.Change
	pace    protocol.Pace
}

// unit encodes what has changed in a book.
func (b *book) unit(key batchKey) (unit, error) {
	u := unit{key: key, book: b}
	summary := b.summary
	if !summary.State.Final() {
		summary.Ended = time.Time{}
	}
	summary.GroupsLeft = ungrouped(&summary)
	if ended := summary.Tally.Ended() - b.told.Ended(); summary.Total > 1 && ended > 0 {
		summary.Pace = pace(summary.Pace, summary.Started, time.Now().UTC(), ended, summary.Tally.Bytes-b.told.Bytes)
	}
	u.pace = summary.Pace
	if protocol.Inline(summary.Total) {
		summary.Receipts = b.pages[0].receipts
		u.sheets = append(u.sheets, b.pages[0])
	} else {
		for number, s := range b.pages {
			if !s.changed {
				continue
			}
			value, err := protocol.EncodePage(&protocol.Page{Version: protocol.SummaryVersion, First: number * protocol.PageSize, Receipts: s.receipts})
			if err != nil {
				return u, fmt.Errorf("encode page %d of %s: %w", number, key.batch, err)
			}
			u.sheets = append(u.sheets, s)
			u.changes = append(u.changes, broker.Change{Key: protocol.PageKey(key.org, key.batch, number), Value: value, Revision: s.revision})
		}
	}
	value, err := protocol.Encode(summary)
	if err != nil {
		return u, fmt.Errorf("encode the summary of %s: %w", key.batch, err)
	}
	u.changes = append(u.changes, broker.Change{Key: protocol.SummaryKey(key.org, key.batch), Value: value, Revision: b.revision})
	return u, nil
}

// shrink drops what a receipt can do without. It is for a page that is too large to be stored, which must hold up nobody
// else's outcomes.
func (u *unit) shrink() (unit, error) {
	for _, s := range u.sheets {
		for i := range s.receipts {
			r := &s.receipts[i]
			if r.Failure != nil {
				short := r.Failure.Brief()
				short.Host = r.Failure.Host // it is part of what groups and filters know a failure by
				r.Failure = &short
			}
			for a := range r.Attempts {
				r.Attempts[a].Failure = nil
			}
		}
		s.changed = true
	}
	return u.book.unit(u.key)
}

// committed notes the revisions that a commit gave.
func (u *unit) committed(revisions []uint64) {
	if len(u.changes) > 1 {
		for i, s := range u.sheets {
			s.revision = revisions[i]
		}
	}
	for _, s := range u.sheets {
		s.changed = false
	}
	u.book.revision = revisions[len(revisions)-1]
	u.book.changed = false
	u.book.summary.Pace, u.book.told = u.pace, u.book.summary.Tally
}

// forget drops a book, so that the next fold starts from KV.
func (l *ledger) forget(key batchKey) {
	if b := l.books[key]; b != nil {
		l.pages -= len(b.pages)
		delete(l.books, key)
	}
}

// shrink drops what is final, and then what was used least, while there is too much. Nothing unsaved is dropped.
func (l *ledger) shrink() {
	for key, b := range l.books {
		if b.summary.State.Final() && !b.changed {
			l.forget(key)
		}
	}
	if l.pages > maxPages {
		for _, b := range l.books {
			l.pages -= b.dropSaved()
		}
	}
	for len(l.books) > maxBooks || l.pages > maxPages {
		oldest, found := l.oldest()
		if !found {
			return
		}
		l.forget(oldest)
	}
}

// dropSaved drops the pages that KV holds as they are, and returns how many. Items come roughly in order, so
// most of them are not touched again.
func (b *book) dropSaved() int {
	if protocol.Inline(b.summary.Total) {
		return 0
	}
	before := len(b.pages)
	maps.DeleteFunc(b.pages, func(_ int, s *sheet) bool { return !s.changed })
	return before - len(b.pages)
}

func (l *ledger) oldest() (batchKey, bool) {
	var key batchKey
	var used uint64
	found := false
	for k, b := range l.books {
		if !b.changed && (!found || b.used < used) {
			key, used, found = k, b.used, true
		}
	}
	return key, found
}
