package triggers

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

func TestEventsBecomeCopies(t *testing.T) {
	t.Parallel()
	s := newStage(t, copyRule)
	s.run()
	s.put("a b", 1, "")
	s.put("a b", 1, "")
	s.put("c", 2, "")
	s.publish("s3", map[string]any{"no": "records"})
	s.put("d", 3, "ACME-dev/copy")
	s.put("e", 4, "")
	until(t, "all are decided on", func() bool { return s.counts("copy").Matched == 5 })
	if got, want := s.counts("copy"), (Counts{Matched: 5, Copies: 3, Duplicates: 1, Loops: 1}); got != want {
		t.Errorf("counts %+v, want %+v", got, want)
	}
	items := s.desk.items()
	if len(items) != 3 || items[0].ID != "inbox/a b " || items[0].Trail[0] != "ACME-dev/copy" {
		t.Errorf("items %+v", items)
	}
	until(t, "the events are dropped", func() bool {
		orgs, _, err := s.conn.EventOrgs(t.Context())
		return err == nil && len(orgs) == 0
	})
}

// records counts the records of the journal.
func (s *stage) records() int {
	s.Helper()
	n := 0
	if _, err := s.conn.Triggers(s.Context(), acme, func(uint64, []byte) error { n++; return nil }); err != nil {
		s.Fatal(err)
	}
	return n
}

// TestRecordedBatchesAreSubmitted ends the loop between the record and the submission.
func TestRecordedBatchesAreSubmitted(t *testing.T) {
	t.Parallel()
	s := newStage(t, copyRule)
	s.desk.fail(errDown)
	stop := s.run()
	s.put("a", 1, "")
	until(t, "it is recorded", func() bool { return s.records() == 1 })
	stop()
	if len(s.desk.items()) != 0 {
		t.Fatal("submitted though the queue is down")
	}
	s.desk.fail(nil)
	s.apply(strings.ReplaceAll(copyRule, "to/", "elsewhere/")) // what was decided on stays as it was
	s.put("a", 1, "")
	s.run()
	until(t, "it is submitted", func() bool { return s.counts("copy").Duplicates == 1 })
	if items := s.desk.items(); len(items) != 1 {
		t.Errorf("%d items", len(items))
	}
	s.desk.mu.Lock()
	defer s.desk.mu.Unlock()
	if b := s.desk.batches[s.desk.order[0]]; b.Version != 1 {
		t.Errorf("submitted as of version %d", b.Version)
	}
}

// TestSubmittedBatchesAreNotSubmittedAgain restarts after the idle record: by then a batch may be over and removed.
func TestSubmittedBatchesAreNotSubmittedAgain(t *testing.T) {
	t.Parallel()
	s := newStage(t, copyRule)
	stop := s.run()
	s.put("a", 1, "")
	until(t, "the journal says that it is submitted", func() bool { return s.records() == 2 })
	stop()
	stop = s.run()
	s.put("b", 2, "")
	until(t, "it goes on", func() bool { return s.counts("copy").Copies == 2 })
	stop()
	if s.desk.again != 0 {
		t.Errorf("%d batches were submitted again", s.desk.again)
	}
}

// TestNewJournalMakesNewBatches loses the journal, so that its records are counted from 1 again while the batches of the old ones are still there.
func TestNewJournalMakesNewBatches(t *testing.T) {
	t.Parallel()
	s := newStage(t, copyRule)
	stop := s.run()
	s.put("a", 1, "")
	until(t, "the journal says that it is submitted", func() bool { return s.records() == 2 }) // and it is out of the stream
	stop()
	last, err := s.conn.Triggers(t.Context(), acme, func(uint64, []byte) error { return nil })
	if err == nil {
		err = s.conn.DropTriggers(t.Context(), acme, last+1)
	}
	if err != nil || s.records() != 0 {
		t.Fatalf("%d records are left: %v", s.records(), err)
	}
	s.run()
	s.put("b", 2, "")
	until(t, "the other one is submitted, too", func() bool { return len(s.desk.items()) == 2 })
}

// TestOneDestinationAtATime parks what comes while a copy runs, also over a restart.
func TestOneDestinationAtATime(t *testing.T) {
	t.Parallel()
	s := newStage(t, copyRule)
	stop := s.run()
	s.put("a", 1, "")
	until(t, "the first is copied", func() bool { return len(s.desk.items()) == 1 })
	s.put("a", 3, "")
	s.put("a", 2, "")
	s.put("a", 4, "")
	s.put("b", 1, "")
	want := Counts{Matched: 5, Copies: 2, Superseded: 2, Waiting: 1}
	until(t, "one waits", func() bool { return s.counts("copy") == want })
	stop()
	s.run()
	s.put("c", 1, "")
	want.Matched, want.Copies = 6, 3
	until(t, "it waits still", func() bool { return s.counts("copy") == want })
	s.desk.end()
	want.Waiting, want.Copies = 0, 4
	until(t, "it is copied", func() bool { return s.counts("copy") == want })
	until(t, "the events are dropped", func() bool {
		orgs, _, err := s.conn.EventOrgs(t.Context())
		return err == nil && len(orgs) == 0
	})
}

// TestRefusedEventsAreToldOf has no valid copy, and an object that nobody can look at for a while.
func TestRefusedEventsAreToldOf(t *testing.T) {
	t.Parallel()
	s := newStage(t, copyRule+"---\n"+strings.NewReplacer("name: copy", "name: no", "outbox", "forbidden").Replace(copyRule))
	s.shelf.down = errDown
	s.run()
	event := created("a", 1, "")
	record, _ := event["Records"].([]any)[0].(map[string]any)
	object, _ := record["s3"].(map[string]any)["object"].(map[string]any)
	delete(object, "userMetadata")
	s.publish(protocol.EventS3, event)
	s.shelf.mu.Lock()
	s.shelf.down = nil
	s.shelf.objects["inbox/a"] = Object{Metadata: map[string]string{protocol.TrailHeader: "ACME-dev/copy"}}
	s.shelf.mu.Unlock()
	until(t, "both rules have decided", func() bool { return s.counts("copy").Loops == 1 && s.counts("no").Refused == 1 })
	s.mu.Lock()
	defer s.mu.Unlock()
	for rule, code := range map[string]string{"copy": codeLoop, "no": "forbidden"} {
		if p := s.shown[rule].Problems; len(p) != 1 || p[0].Code != code || p[0].Event != "inbox/a" {
			t.Errorf("%s: problems %+v", rule, p)
		}
	}
}

// TestJournalIsTrimmed forgets old decisions and keeps the counts.
func TestJournalIsTrimmed(t *testing.T) {
	t.Parallel()
	s := newStage(t, copyRule)
	stop := s.run()
	for i := range 5 {
		s.put("a"+strconv.Itoa(i), i+1, "")
		until(t, "it is copied", func() bool { return s.counts("copy").Copies == i+1 })
	}
	stop()
	before := s.records()
	o := s.org()
	if err := o.begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer o.reader.Close()
	o.now = func() time.Time { return time.Now().Add(DefaultMemory + time.Hour) }
	if err := o.trimJournal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := s.records(); got != 2 { // the last one, and that with all counts
		t.Errorf("%d records of %d are left", got, before)
	}
	s.run()
	s.put("a0", 1, "")
	until(t, "what is forgotten is copied again", func() bool { return s.counts("copy") == Counts{Matched: 6, Copies: 6} })
}

// TestBurst has more events than fit a record, and notifications of many events.
func TestBurst(t *testing.T) {
	t.Parallel()
	s := newStage(t, copyRule)
	const notes, each = 100, 100
	for i := range notes {
		var records []any
		for j := range each {
			records = append(records, created("k"+strconv.Itoa(i*each+j), i*each+j+1, "")["Records"].([]any)[0])
		}
		s.publish(protocol.EventS3, map[string]any{"Records": records})
	}
	begun := time.Now()
	s.run()
	until(t, "all are copied", func() bool { return s.counts("copy").Copies == notes*each })
	t.Log(time.Since(begun))
	if got := len(s.desk.items()); got != notes*each {
		t.Errorf("%d items", got)
	}
	s.desk.mu.Lock()
	defer s.desk.mu.Unlock()
	for id, b := range s.desk.batches {
		if len(b.Items) > RollingItems {
			t.Errorf("batch %s has %d items", id, len(b.Items))
		}
	}
}
