package aggregator

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

func TestReportsOfUploadsBecomePagesAndProgress(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	defer d.run()()
	defer d.run()() // each loses races against the other
	const count, sessions = 2*protocol.PageSize + 7, 3
	changes, deaf, err := d.conn.WatchUpload(deskOrg, deskBox, "u1")
	if err != nil {
		t.Fatal(err)
	}
	defer deaf()
	var reports []protocol.UploadReport
	for s := range sessions {
		id := protocol.UploadID(fmt.Sprint("u", s))
		d.session(id, count, nil)
		for n := range count {
			reports = append(reports, told(id, n, count, 2, "new"))
			if n%5 == 0 {
				reports = append(reports, told(id, n, count, 1, "old"), told(id, n, count, 2, "new"))
			}
		}
	}
	rand.Shuffle(len(reports), func(i, j int) { reports[i], reports[j] = reports[j], reports[i] })
	var sending sync.WaitGroup
	for k := range 4 {
		sending.Go(func() {
			for i := k; i < len(reports); i += 4 {
				if err := d.conn.PublishUpload(d.Context(), "front", reports[i]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	sending.Wait()
	d.folded()
	for s := range sessions {
		known, progress := d.parts(protocol.UploadID(fmt.Sprint("u", s)), count)
		if len(known) != count || !progress.Updated.Equal(day.Add(2*time.Second)) {
			t.Errorf("session %d: %d parts, updated %s", s, len(known), progress.Updated)
		}
		for n, p := range known {
			if p.ETag != "new" {
				t.Errorf("session %d has the older bytes of part %d", s, n)
			}
		}
	}
	select {
	case <-changes:
	case <-time.After(4 * time.Minute):
		t.Error("who waits was not told")
	}
}

func TestOneMoreOfTheSamePartIsNoNews(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.session("u", 3, nil)
	l := d.ledger()
	page := protocol.UploadPageKey(deskOrg, deskBox, "u", 0)
	fold := func(r protocol.UploadReport) (uint64, protocol.UploadProgress) {
		reports := []protocol.UploadReport{r}
		l.take(t.Context(), reports)
		if !l.save(t.Context(), reports) {
			t.Fatal("it was not saved")
		}
		_, progress := d.parts("u", 3)
		revision, _ := d.get(page, &protocol.UploadPage{})
		return revision, progress
	}
	first, progress := fold(told("u", 1, 3, 1, "a"))
	again, same := fold(told("u", 1, 3, 1, "a"))
	if first != again || !same.Updated.Equal(progress.Updated) {
		t.Errorf("a report that came twice made revision %d after %d, updated %s", again, first, same.Updated)
	}
	if _, same = fold(told("u", 1, 3, 5, "a")); !same.Updated.Equal(progress.Updated) {
		t.Errorf("the same bytes changed the session at %s", same.Updated)
	}
	// Their time is kept: bytes that were in between, and are heard of last, do not count.
	if fold(told("u", 1, 3, 3, "b")); !same.Updated.Equal(progress.Updated) {
		t.Errorf("older bytes changed the session at %s", same.Updated)
	}
	if known, _ := d.parts("u", 3); known[1].ETag != "a" {
		t.Errorf("the part is %+v, which the store does not have", known[1])
	}
}

func TestReportsThatNoSessionTakesLeaveNothing(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	defer d.run()()
	for i, state := range []protocol.UploadState{protocol.UploadCompleted, protocol.UploadAborted, protocol.UploadExpired, protocol.UploadFailed} {
		id := protocol.UploadID(fmt.Sprint("ended", i))
		d.session(id, 3, func(u *protocol.Upload) { u.State = state })
		d.publish(told(id, 0, 3, 1, "a"))
	}
	d.session("creating", 3, func(u *protocol.Upload) { u.State, u.Multipart = protocol.UploadCreating, "" })
	d.session("other", 3, func(u *protocol.Upload) { u.Multipart = "n" })
	d.session("open", 3, nil)
	nameless := told("creating", 0, 3, 1, "a")
	nameless.Multipart = ""
	long, short := told("open", 0, 3, 1, "a"), told("open", 1, 3, 1, "a")
	long.Part.Size, short.Part.Size = partLen+1, 0
	foreign := told("open", 0, 3, 1, "a")
	foreign.Org = "OTHER"
	d.publish(nameless, told("none", 0, 3, 1, "a"), told("other", 0, 3, 1, "a"), told("open", 3, 4, 1, "a"), told("open", -1, 3, 1, "a"), long, short, foreign)
	d.folded()
	for _, id := range []protocol.UploadID{"ended0", "ended1", "ended2", "ended3", "creating", "none", "other", "open"} {
		d.nothing(id)
	}
	if n := d.logged.count("level=ERROR"); n != 4 {
		t.Errorf("%d errors were logged, want one for each part that its session does not have", n)
	}
	d.publish(told("open", 2, 3, 1, "a"))
	d.folded()
	if known, _ := d.parts("open", 3); len(known) != 1 {
		t.Errorf("the session has the parts %v", known)
	}
}

func TestALostPartIsMissingUntilItIsStoredAgain(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	defer d.run()()
	d.session("u", 2, func(u *protocol.Upload) { u.State = protocol.UploadCompleting })
	lost := told("u", 1, 2, 1, "a")
	lost.Part.Lost = true
	d.publish(told("u", 0, 2, 1, "a"), told("u", 1, 2, 1, "a"), lost)
	d.folded()
	if _, progress := d.parts("u", 2); !progress.Has(0) || progress.Has(1) {
		t.Errorf("progress is %v", progress.Have)
	}
	d.publish(told("u", 1, 2, 2, "a"), lost)
	d.folded()
	if _, progress := d.parts("u", 2); !progress.Has(1) {
		t.Error("the part that was stored again is missing")
	}
}

// TestASessionThatEndsBetweenFoldAndCommit ends a session, and cleans up after it, when its news are folded in memory.
func TestASessionThatEndsBetweenFoldAndCommit(t *testing.T) {
	t.Parallel()
	for _, before := range []string{"nothing", "pages", "pages and a cached session", "a marker"} {
		t.Run(before, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t)
			d.session("u", 600, nil)
			l := d.ledger()
			switch before {
			case "pages", "pages and a cached session":
				earlier := []protocol.UploadReport{told("u", 0, 600, 1, "a")}
				l.take(t.Context(), earlier)
				if !l.save(t.Context(), earlier) {
					t.Fatal("it was not saved")
				}
				if before == "pages" {
					l = d.ledger()
				}
			case "a marker":
				for _, key := range []string{protocol.UploadPageKey(deskOrg, deskBox, "u", 0), protocol.UploadProgressKey(deskOrg, deskBox, "u")} {
					if err := d.bucket.Delete(t.Context(), key); err != nil {
						t.Fatal(err)
					}
				}
			}
			late := []protocol.UploadReport{told("u", 1, 600, 2, "a"), told("u", 300, 600, 2, "a")}
			l.take(t.Context(), late)
			d.session("u", 600, func(u *protocol.Upload) { u.State, u.Cleaned = protocol.UploadAborted, true })
			if before != "a marker" {
				d.sweep("u")
			}
			if !l.save(t.Context(), late) {
				t.Fatal("the late news hold up others")
			}
			d.nothing("u")
			if len(l.books) != 0 || len(l.unsure) != 0 {
				t.Errorf("%d books and %d commits are kept", len(l.books), len(l.unsure))
			}
		})
	}
}

// TestASessionIsBegunAnewUnderItsID is what a client gets that repeats its key when all about its first session is gone.
func TestASessionIsBegunAnewUnderItsID(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	l := d.ledger()
	fold := func(reports ...protocol.UploadReport) {
		l.take(t.Context(), reports)
		if !l.save(t.Context(), reports) {
			t.Fatal("it was not saved")
		}
	}
	d.session("u", 3, nil)
	fold(told("u", 0, 3, 1, "a"), told("u", 1, 3, 1, "a"))
	d.sweep("u")
	d.session("u", 300, func(u *protocol.Upload) { u.Multipart = "n" })
	next := told("u", 2, 300, 2, "b")
	next.Multipart = "n"
	fold(told("u", 2, 3, 1, "a"), next, told("u", 1, 3, 1, "a"))
	known, _ := d.parts("u", 300)
	if len(known) != 1 || known[2].ETag != "b" {
		t.Errorf("the parts are %v, want those of the new session alone", known)
	}
}

// TestWhatWasCommittedAndNotAcknowledgedComesAgain is a crash right after the commit.
func TestWhatWasCommittedAndNotAcknowledgedComesAgain(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.session("u", 3, nil)
	reports := []protocol.UploadReport{told("u", 0, 3, 1, "a"), told("u", 2, 3, 2, "a")}
	d.publish(reports...)
	l := d.ledger()
	l.take(t.Context(), reports)
	if !l.save(t.Context(), reports) {
		t.Fatal("it was not saved")
	}
	page, progress := protocol.UploadPageKey(deskOrg, deskBox, "u", 0), protocol.UploadProgressKey(deskOrg, deskBox, "u")
	before, _ := d.get(page, &protocol.UploadPage{})
	defer d.run()()
	d.folded()
	after, _ := d.get(page, &protocol.UploadPage{})
	if after != before {
		t.Errorf("the page was written once more")
	}
	if _, found := d.get(progress, &protocol.UploadProgress{}); !found {
		t.Error("the progress is gone")
	}
	if known, _ := d.parts("u", 3); len(known) != 2 {
		t.Errorf("the parts are %v", known)
	}
}

// TestLostRacesOfUploadsAreFoldedAgain has two ledgers that know the same of a session store different news of it.
func TestLostRacesOfUploadsAreFoldedAgain(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	const count = 600
	d.session("u", count, nil)
	a, b := d.ledger(), d.ledger()
	for round := range 3 {
		// In one page, and in different ones: their bits are in one progress in any case.
		left := []protocol.UploadReport{told("u", 3*round, count, 1, "a"), told("u", 3*round+1, count, 1, "a")}
		right := []protocol.UploadReport{told("u", 3*round+1, count, 2, "b"), told("u", 300+round, count, 1, "a")}
		a.take(t.Context(), left)
		b.take(t.Context(), right)
		if !a.save(t.Context(), left) || !b.save(t.Context(), right) {
			t.Fatal("it was not saved")
		}
		known, _ := d.parts("u", count)
		if want := 3 * (round + 1); len(known) != want || known[3*round+1].ETag != "b" {
			t.Fatalf("round %d: %d parts, want %d", round, len(known), want)
		}
	}
}

func TestUploadRecordsThatCannotBeReadHoldUpNobody(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	defer d.run()()
	d.session("page", 3, nil)
	d.session("progress", 600, nil)
	d.session("fine", 3, nil)
	d.publish(told("progress", 0, 600, 1, "a"), told("progress", 300, 600, 3, "a"))
	d.folded()
	for _, key := range []string{
		protocol.UploadPageKey(deskOrg, deskBox, "page", 0), protocol.UploadProgressKey(deskOrg, deskBox, "progress"),
		protocol.UploadSessionKey(deskOrg, deskBox, "session"),
	} {
		if _, err := d.bucket.Put(t.Context(), key, []byte("no JSON")); err != nil {
			t.Fatal(err)
		}
	}
	d.publish(told("page", 1, 3, 1, "a"), told("progress", 1, 600, 2, "a"), told("session", 0, 3, 1, "a"), told("fine", 0, 3, 1, "a"))
	d.folded()
	for id, want := range map[protocol.UploadID]int{"page": 1, "progress": 3, "fine": 1} {
		if known, _ := d.parts(id, 600); len(known) != want {
			t.Errorf("%s: the parts are %v, want %d", id, known, want)
		}
	}
	if _, progress := d.parts("progress", 600); !progress.Updated.Equal(day.Add(3 * time.Second)) {
		t.Errorf("progress was updated at %s", progress.Updated)
	}
}

func TestUploadLedgerStaysSmall(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	l := d.ledger()
	l.mostPages, l.mostBooks = 4, 3
	for i := range 10 {
		id := protocol.UploadID(fmt.Sprint("u", i))
		d.session(id, 1000, nil)
		reports := []protocol.UploadReport{told(id, 0, 1000, 1, "a"), told(id, 999, 1000, 1, "a")}
		l.take(t.Context(), reports)
		if !l.save(t.Context(), reports) {
			t.Fatal("it was not saved")
		}
		if len(l.books) > 3 || l.pages > 4 {
			t.Fatalf("%d books with %d pages are kept", len(l.books), l.pages)
		}
	}
	if l.crowded() {
		t.Error("it waits for a commit that would free nothing")
	}
}
