package aggregator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/sourcegraph/conc/pool"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/protocol"
)

// uploadLedger keeps the pages of upload sessions that are being folded, and with them which parts are there. It belongs to the
// aggregator's loop.
//
// Pages and progress live and die with their session, which fronts begin and end (package producer/uploads). A report is folded only for a session that has
// not ended and has the multipart upload that the report names. Every commit of a session goes through the revision of its progress. So
// of several aggregators one wins, and the others fold again; and a commit fails once the sweep of sessions has removed the progress.
// What such a commit would begin anew is found by looking at the session once more after the commit, and taken back. If the process dies
// in between, it stays until the record of the session is removed, with all that is left of it.
type uploadLedger struct {
	folding[uploadKey, *uploadHead, protocol.UploadPage, protocol.UploadReport]

	conn   *broker.Conn
	unsure []*uploadWrite // stored, and not looked after since
}

type uploadKey struct {
	org     protocol.OrgID
	sandbox protocol.SandboxID
	upload  protocol.UploadID
}

// uploadHead is what is known of a session.
type uploadHead struct {
	session  protocol.Upload // as it was when it was last read; it may have ended since
	progress protocol.UploadProgress
	revision uint64 // of the progress, and
	there    bool   // as of a [foldPage]
}

// admits reports whether a session takes news of the parts of a multipart upload. Which one it has is decided when it becomes open.
func (h *uploadHead) admits(multipart string) bool {
	return multipart != "" && h.session.Multipart == multipart && !h.session.State.Final()
}

const (
	maxUploadBooks = 4096
	maxUploadPages = 256 // of 256 parts at some 400 bytes: 26 MiB
)

func newUploadLedger(bucket *broker.Bucket, conn *broker.Conn, log *slog.Logger) *uploadLedger {
	l := &uploadLedger{conn: conn}
	l.folding = folding[uploadKey, *uploadHead, protocol.UploadPage, protocol.UploadReport]{
		bucket: bucket, log: log, what: "parts of upload sessions", mostBooks: maxUploadBooks, mostPages: maxUploadPages,
		books: map[uploadKey]*uploadBook{},
		keyOf: func(r *protocol.UploadReport) uploadKey { return uploadKey{r.Org, r.Sandbox, r.Upload} },
		pageOf: func(key uploadKey, number int) string {
			return protocol.UploadPageKey(key.org, key.sandbox, key.upload, number)
		},
		fold: l.foldOne, commit: l.commitSessions,
	}
	return l
}

type uploadBook = foldBook[*uploadHead, protocol.UploadPage]

// foldOne takes one report in. One that is not of a session as it is changes nothing.
func (l *uploadLedger) foldOne(ctx context.Context, key uploadKey, r *protocol.UploadReport) error {
	b := l.books[key]
	if b == nil || !b.head.admits(r.Multipart) { // the session may be newer than what is known here
		var err error
		if b, err = l.load(ctx, key, r.Multipart); b == nil {
			return err
		}
	}
	if !fits(&b.head.session, &r.Part) {
		l.log.Error("dropping the report of a part that its session does not have",
			"upload", key.upload, "part", r.Part.Number, "bytes", r.Part.Size, "parts", b.head.session.PartCount)
		return nil
	}
	number := protocol.PageOf(r.Part.Number)
	s, err := l.sheet(ctx, key, b, number)
	if err != nil {
		return err
	}
	page, changed, moved := foldUpload(s.page, r.Multipart, &r.Part)
	if !changed {
		return nil
	}
	s.page, s.changed = page, true
	show(&b.head.progress, number, &s.page, b.head.session.PartCount)
	if moved && r.Part.Stored.After(b.head.progress.Updated) {
		b.head.progress.Updated = r.Part.Stored
	}
	return nil
}

// load begins the book of a session that takes news of a multipart upload; nil: there is none.
func (l *uploadLedger) load(ctx context.Context, key uploadKey, multipart string) (*uploadBook, error) {
	head := &uploadHead{}
	if err := l.look(ctx, key, head); err != nil {
		return nil, err
	}
	if !head.admits(multipart) {
		// What is known of a session that takes other news may stand: a late report of another upload must not undo it.
		return nil, nil //nolint:nilnil // as said above
	}
	name := protocol.UploadProgressKey(key.org, key.sandbox, key.upload)
	found, revision, err := load(ctx, l.bucket, l.log, name, &head.progress)
	if err != nil {
		return nil, err
	}
	head.there, head.revision, head.progress.Version = found, revision, protocol.UploadVersion
	full := make([]byte, (head.session.PartCount+7)/8) // the same length whatever comes first
	copy(full, head.progress.Have)
	head.progress.Have = full
	b := l.open(key, head)
	if !found {
		return b, l.recount(ctx, key, head)
	}
	return b, nil
}

// look reads the session. One that is not there, or that this build cannot read, admits nothing.
func (l *uploadLedger) look(ctx context.Context, key uploadKey, head *uploadHead) error {
	var session protocol.Upload
	if _, _, err := load(ctx, l.bucket, l.log, protocol.UploadSessionKey(key.org, key.sandbox, key.upload), &session); err != nil {
		return err
	}
	head.session = session
	return nil
}

// recount makes the progress of a session that has none, or one that cannot be read, from its pages.
func (l *uploadLedger) recount(ctx context.Context, key uploadKey, head *uploadHead) error {
	filter := protocol.UploadPageFilter(key.org, key.sandbox, key.upload)
	names, err := l.bucket.Keys(ctx, filter)
	if err != nil {
		return fmt.Errorf("list the pages of %s: %w", key.upload, err)
	}
	for _, name := range names {
		number, err := strconv.Atoi(name[strings.LastIndexByte(name, '.')+1:])
		if err != nil || number < 0 || number*protocol.PageSize >= head.session.PartCount {
			continue
		}
		var page protocol.UploadPage
		if _, _, err := load(ctx, l.bucket, l.log, name, &page); err != nil {
			return err
		}
		if page.Multipart != head.session.Multipart {
			continue
		}
		show(&head.progress, number, &page, head.session.PartCount)
		for i := range page.Parts {
			if at := page.Parts[i].Stored; at.After(head.progress.Updated) {
				head.progress.Updated = at
			}
		}
	}
	return nil
}

// uploadWrite is what one session commits: its changed pages and its progress, which stand or fall together.
type uploadWrite struct {
	key     uploadKey
	book    *uploadBook
	numbers []int // of the pages, in the order of changes
	changes []broker.Change
	created []broker.Entry // what was not there before, as it is now
	failed  bool

	multipart string // that the parts are of
}

// commitSessions stores the sessions that have changed. What lost a race is forgotten, to be folded again.
func (l *uploadLedger) commitSessions(ctx context.Context) error {
	if err := l.confirm(ctx); err != nil {
		return err
	}
	writes, err := l.changed()
	if err != nil || len(writes) == 0 {
		return err
	}
	storing := pool.New().WithErrors().WithMaxGoroutines(singles)
	for _, w := range writes {
		storing.Go(func() error {
			revisions, err := l.bucket.Commit(ctx, w.changes)
			switch {
			case errors.Is(err, broker.ErrConflict):
				w.failed = true
				return nil
			case err != nil: // whether it arrived is not known
				w.failed = true
				return fmt.Errorf("commit the parts of %s: %w", w.key.upload, err)
			}
			w.committed(revisions)
			return nil
		})
	}
	err = storing.Wait()
	failpoint.Hit(failpoint.UploadPartsCommitted)
	for _, w := range writes {
		if w.failed {
			l.again = true
			l.forget(w.key)
			continue
		}
		l.unsure = append(l.unsure, w)
	}
	if err != nil {
		return err //nolint:wrapcheck // wrapped above
	}
	return l.confirm(ctx)
}

// changed encodes what differs from KV.
func (l *uploadLedger) changed() ([]*uploadWrite, error) {
	var writes []*uploadWrite
	for key, b := range l.books {
		w := &uploadWrite{key: key, book: b, multipart: b.head.session.Multipart}
		for number, s := range b.pages {
			if !s.changed {
				continue
			}
			value, err := protocol.Encode(s.page)
			if err != nil {
				return nil, fmt.Errorf("encode a page of %s: %w", key.upload, err)
			}
			w.numbers = append(w.numbers, number)
			w.changes = append(w.changes, broker.Change{Key: l.pageOf(key, number), Value: value, Revision: s.revision})
		}
		if len(w.changes) == 0 {
			continue
		}
		value, err := protocol.Encode(b.head.progress)
		if err != nil {
			return nil, fmt.Errorf("encode the progress of %s: %w", key.upload, err)
		}
		name := protocol.UploadProgressKey(key.org, key.sandbox, key.upload)
		w.changes = append(w.changes, broker.Change{Key: name, Value: value, Revision: b.head.revision})
		writes = append(writes, w)
	}
	return writes, nil
}

// committed notes the revisions that a commit gave.
func (w *uploadWrite) committed(revisions []uint64) {
	note := func(at int, revision *uint64, there *bool) {
		if !*there {
			w.created = append(w.created, broker.Entry{Key: w.changes[at].Key, Revision: revisions[at]})
		}
		*revision, *there = revisions[at], true
	}
	for i, number := range w.numbers {
		s := w.book.pages[number]
		note(i, &s.revision, &s.there)
		s.changed = false
	}
	note(len(w.numbers), &w.book.head.revision, &w.book.head.there)
}

// confirm looks whether the sessions still take news for which parts were stored, takes back what came too late, and tells those who wait
// for the others. Where it cannot look, it does so before anything else is stored.
func (l *uploadLedger) confirm(ctx context.Context) error {
	for len(l.unsure) > 0 {
		w := l.unsure[0]
		if err := l.look(ctx, w.key, w.book.head); err != nil {
			return err
		}
		if !w.book.head.admits(w.multipart) {
			if err := l.takeBack(ctx, w); err != nil {
				return err
			}
		} else if err := l.conn.UploadChanged(w.key.org, w.key.sandbox, w.key.upload); err != nil {
			l.log.Debug("who waits for parts was not told and will look by itself", "upload", w.key.upload, "error", err)
		}
		l.unsure = l.unsure[1:]
		if len(l.unsure) == 0 {
			failpoint.Hit(failpoint.UploadPartsTold)
		}
	}
	return nil
}

// takeBack removes what a commit made that was not there before: whoever cleaned up after the session may not come back for it. What was
// there already is still to be cleaned up, and tells until then what had come.
func (l *uploadLedger) takeBack(ctx context.Context, w *uploadWrite) error {
	l.forget(w.key)
	for _, e := range w.created {
		if err := l.bucket.DropAt(ctx, e.Key, e.Revision); err != nil {
			return fmt.Errorf("take back what came too late for %s: %w", w.key.upload, err)
		}
	}
	return nil
}
