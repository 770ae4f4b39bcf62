package uploads

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/copyfleet/copyfleet/protocol"
)

func TestPartSizes(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	for _, c := range []struct {
		length, size int64
		count        int64
	}{
		{0, 8 * mib, 0}, {1, 8 * mib, 1}, {8*mib - 1, 8 * mib, 1}, {8 * mib, 8 * mib, 1}, {8*mib + 1, 8 * mib, 2},
		{MostParts * 8 * mib, 8 * mib, MostParts}, {MostParts*8*mib + 1, 9 * mib, 8889}, {1 << 40, 105 * mib, 9987},
	} {
		size := partSize(c.length, SmallestPart)
		if count := (c.length + size - 1) / size; size != c.size || count != c.count || count > MostParts {
			t.Errorf("%d bytes: %d parts of %d bytes, want %d of %d", c.length, count, size, c.count, c.size)
		}
	}
}

// TestUploadIsPublished goes the plain way, with parts in another order and the clock of nobody.
func TestUploadIsPublished(t *testing.T) {
	t.Parallel()
	s := newStage(t, Config{})
	r := request("k", 2*small+1)
	r.Kind, r.Conflict, r.Whole, r.Metadata = protocol.UploadTree, protocol.UploadMerge, sha(content(0, 1)), []byte(`{"a":1}`)
	made := s.create(r)
	if made.Status != StatusCreated || made.PartCount != 3 || made.Reserved != r.Length || string(made.Metadata) != `{"a":1}` || made.Multipart == "" {
		t.Fatalf("created: %+v", made)
	}
	s.put(made, 2, content(0, 1))
	s.put(made, 0, content(0, small))
	refusal := wantRefused(t, second(s.svc.Complete(t.Context(), name(made), "", "")), RefusedMissing)
	if diff := cmp.Diff([]Range{{1, 1}}, refusal.Missing); diff != "" {
		t.Fatal(diff)
	}
	staged := s.put(made, 1, content(0, small))
	if staged.Status != StatusStaged || staged.Accepted != r.Length || staged.Next != 3 || !staged.Changed.After(staged.Updated) {
		t.Fatalf("staged: %+v", staged)
	}
	wantRefused(t, second(s.svc.Complete(t.Context(), name(made), sha(nil), "")), RefusedWhole)
	completing := s.complete(made)
	published := s.queue.submitted()
	if len(published) != 1 || published[0].Batch != completing.Batch || published[0].Pool != protocol.DefaultPool {
		t.Fatalf("submitted: %+v", published)
	}
	size := r.Length
	want := protocol.Item{
		ID: string(made.ID), Src: protocol.Location{Type: protocol.StagedUpload, Sandbox: sandbox, Upload: made.ID},
		Dest:   protocol.Location{Type: protocol.SandboxTree, Sandbox: sandbox, Path: "/workspace/file"},
		Expect: protocol.Expect{Size: &size, SHA256: r.Whole}, Conflict: protocol.MergeTree,
	}
	if diff := cmp.Diff(want, published[0].Item); diff != "" {
		t.Fatal(diff)
	}
	s.queue.end(completing.Batch, protocol.Receipt{State: protocol.ItemSucceeded, Bytes: size, Unpacked: &protocol.Unpacked{Files: 7, Bytes: 5}})
	if got := s.complete(made); got.Status != StatusCompleted || got.PublishedBytes != 5 || got.PublishedFiles != 7 || got.Reserved != 0 {
		t.Fatalf("completed: %+v", got)
	}
	s.sweep()
	if got := s.show(made); !got.Cleaned || got.Accepted != size || got.Next != 3 || got.Missing != nil || s.shelf.left() != 0 {
		t.Fatalf("after the sweep, with %d staged: %+v", s.shelf.left(), got)
	}
}

func second[T any](_ T, err error) error { return err }

func TestConflictPolicies(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind     protocol.UploadKind
		conflict protocol.UploadConflict
		want     protocol.ConflictPolicy
	}{
		{protocol.UploadFile, protocol.UploadError, protocol.FailIfThere}, {protocol.UploadFile, protocol.UploadReplace, protocol.Overwrite},
		{protocol.UploadFile, protocol.UploadMerge, protocol.Overwrite}, {protocol.UploadTree, protocol.UploadError, protocol.FailIfThere},
		{protocol.UploadTree, protocol.UploadReplace, protocol.Overwrite}, {protocol.UploadTree, protocol.UploadMerge, protocol.MergeTree},
	} {
		if got := itemOf(&protocol.Upload{Kind: c.kind, Conflict: c.conflict}).Conflict; got != c.want {
			t.Errorf("%s of a %s: %s, want %s", c.conflict, c.kind, got, c.want)
		}
	}
}

func TestSessionIsFoundByItsOwnersOnly(t *testing.T) {
	t.Parallel()
	s := newStage(t, Config{})
	made := s.create(request("k", 1))
	for what, n := range map[string]Name{
		"another org":       {"ORG-b", sandbox, made.ID},
		"another sandbox":   {org, "sb.2", made.ID},
		"another id":        {org, sandbox, protocol.KeyedUploadID(org, sandbox, "x")},
		"no id":             {org, sandbox, ""},
		"an id with a star": {org, sandbox, "*"},
	} {
		part := partOf(0, content(0, 1))
		for _, err := range []error{
			second(s.svc.Show(t.Context(), n)), second(s.svc.PutPart(t.Context(), n, part)),
			second(s.svc.Complete(t.Context(), n, "", "")), second(s.svc.Abort(t.Context(), n)),
		} {
			if !refused(err, RefusedNotFound) {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	if list, err := s.svc.List(t.Context(), Name{Org: "ORG-b", Sandbox: sandbox}, 10); err != nil || len(list) != 0 {
		t.Errorf("another org lists %v, %v", list, err)
	}
}

func TestListIsNewestFirst(t *testing.T) {
	t.Parallel()
	s := newStage(t, Config{})
	var want []protocol.UploadID
	for i := range 9 {
		want = append(want, s.create(request(fmt.Sprint(i), 1)).ID)
		s.pass(time.Second)
	}
	slices.Reverse(want)
	list, err := s.svc.List(t.Context(), Name{Org: org, Sandbox: sandbox}, 3)
	if err != nil {
		t.Fatal(err)
	}
	var got []protocol.UploadID
	for _, session := range list {
		got = append(got, session.ID)
	}
	if diff := cmp.Diff(want[:3], got); diff != "" {
		t.Error(diff)
	}
}

// TestQuotaHoldsUnderConcurrency creates sessions on two fronts at once: exactly as many as fit are taken.
func TestQuotaHoldsUnderConcurrency(t *testing.T) {
	t.Parallel()
	const fit = 10
	s := newStage(t, Config{Quota: fit * small})
	fronts := []*Service{s.svc, s.open(Config{Quota: fit * small})}
	var mu sync.Mutex
	taken, full := 0, 0
	var all sync.WaitGroup
	for i := range 32 {
		all.Go(func() {
			_, err := fronts[i%2].Create(t.Context(), request(fmt.Sprint(i), small))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				taken++
			case refused(err, RefusedQuota):
				full++
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if sessions, sum := s.reserved(sandbox); taken != fit || full != 32-fit || sessions != fit || sum != fit*small {
		t.Errorf("%d taken and %d refused, the quota has %d bytes of %d sessions", taken, full, sum, sessions)
	}
	// They all end at once, and all is free again.
	for i := range 32 {
		all.Go(func() {
			_, err := fronts[i%2].Abort(t.Context(), Name{org, sandbox, protocol.KeyedUploadID(org, sandbox, fmt.Sprint(i))})
			if err != nil && !refused(err, RefusedNotFound) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if sessions, sum := s.reserved(sandbox); sessions != 0 || sum != 0 {
		t.Errorf("the quota has %d bytes of %d sessions when all have ended", sum, sessions)
	}
}

// TestOneKeyIsOneSession creates the same session at once on two fronts, both of which begin an upload.
func TestOneKeyIsOneSession(t *testing.T) {
	t.Parallel()
	s := newStage(t, Config{})
	fronts := []*Service{s.svc, s.open(Config{})}
	var both sync.WaitGroup
	both.Add(2)
	s.shelf.on(func(step string) {
		if step == "begun" {
			both.Done()
			both.Wait()
		}
	})
	var sessions [2]*Session
	var all sync.WaitGroup
	for i, svc := range fronts {
		all.Go(func() {
			var err error
			if sessions[i], err = svc.Create(t.Context(), request("k", small)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if sessions[0] == nil || sessions[1] == nil || sessions[0].Multipart != sessions[1].Multipart || s.shelf.left() != 1 {
		t.Fatalf("the sessions are %+v and %+v, %d are staged", sessions[0], sessions[1], s.shelf.left())
	}
	s.shelf.on(nil)
	if got := s.put(sessions[0], 0, content(0, small)); got.Status != StatusStaged {
		t.Errorf("the part is in no session: %+v", got)
	}
}

func TestCreationGoesOnWhereItEnded(t *testing.T) {
	t.Parallel()
	s := newStage(t, Config{})
	s.shelf.fail(fmt.Errorf("the network: %w", ErrStagingAway))
	if _, err := s.svc.Create(t.Context(), request("k", small)); !errors.Is(err, ErrStagingAway) {
		t.Fatalf("creation without a staging storage: %v", err)
	}
	s.shelf.fail(nil)
	made := s.create(request("k", small))
	if sessions, sum := s.reserved(sandbox); made.Multipart == "" || sessions != 1 || sum != small {
		t.Errorf("%d bytes of %d sessions are reserved; %+v", sum, sessions, made)
	}
}

func TestRefusedCreationChangesNothing(t *testing.T) {
	t.Parallel()
	s := newStage(t, Config{Quota: 10, Largest: 8, Sessions: 2})
	wantRefused(t, second(s.svc.Create(t.Context(), request("a", 9))), RefusedTooLarge)
	s.create(request("b", 8))
	wantRefused(t, second(s.svc.Create(t.Context(), request("c", 3))), RefusedQuota)
	s.create(request("d", 0))
	wantRefused(t, second(s.svc.Create(t.Context(), request("e", 0))), RefusedSessions)
	if sessions, sum := s.reserved(sandbox); sessions != 2 || sum != 8 {
		t.Errorf("%d bytes of %d sessions are reserved", sum, sessions)
	}
	// What has expired makes room without a sweep.
	s.pass(DefaultExpiry + time.Second)
	s.create(request("e", 8))
	if sessions, sum := s.reserved(sandbox); sessions != 1 || sum != 8 {
		t.Errorf("%d bytes of %d sessions are reserved", sum, sessions)
	}
}

// broken is a body that ends in an error.
type broken struct{ io.Reader }

var errHungUp = errors.New("hung up")

func (b broken) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		err = errHungUp
	}
	return n, err
}

func TestBadBodyLeavesThePartAsItWas(t *testing.T) {
	t.Parallel()
	s := newStage(t, Config{})
	made := s.create(request("k", 2*small))
	good := content(1, small)
	s.put(made, 1, good)
	before := s.show(made)
	for _, number := range []int{0, 1} {
		part := partOf(number, content(2, small))
		part.Body = broken{partOf(0, content(2, small-1)).Body}
		if _, err := s.svc.PutPart(t.Context(), name(made), part); !errors.Is(err, ErrBody) || !errors.Is(err, errHungUp) {
			t.Errorf("a body that broke off: %v", err)
		}
		part = partOf(number, content(2, small))
		part.SHA256 = sha(good)
		wantRefused(t, second(s.svc.PutPart(t.Context(), name(made), part)), RefusedChecksum)
	}
	if diff := cmp.Diff(before, s.show(made)); diff != "" {
		t.Errorf("the session has changed (-before +after):\n%s", diff)
	}
	if got := s.shelf.uploads[made.Key+" "+made.Multipart]; len(got) != 1 || sha(got[1]) != sha(good) {
		t.Errorf("%d parts are staged", len(got))
	}
}

// TestTwoClientsOnOnePart sends other bytes for one part from many clients at once: the session ends with the part that the store has.
func TestTwoClientsOnOnePart(t *testing.T) {
	t.Parallel()
	s := newStage(t, Config{})
	made := s.create(request("k", small))
	var all sync.WaitGroup
	for seed := range byte(MostConcurrent) {
		all.Go(func() {
			got, err := s.svc.PutPart(t.Context(), name(made), partOf(0, content(seed, small)))
			if err != nil || got.Status != StatusStaged {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
	all.Wait()
	known, err := s.svc.known(t.Context(), &record{Upload: made.Upload}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if stored := s.shelf.uploads[made.Key+" "+made.Multipart][0]; known.SHA256 != sha(stored) {
		t.Error("KV and the store have different bytes of the part")
	}
}

func TestTooManyPartsAtOnce(t *testing.T) {
	t.Parallel()
	s := newStage(t, Config{})
	made := s.create(request("k", 9*small))
	var under, all sync.WaitGroup
	under.Add(MostConcurrent)
	open := make(chan struct{})
	s.shelf.on(func(step string) {
		if step == "part" {
			under.Done()
			<-open
		}
	})
	for n := range MostConcurrent {
		all.Go(func() {
			if _, err := s.svc.PutPart(t.Context(), name(made), partOf(n, content(0, small))); err != nil {
				t.Error(err)
			}
		})
	}
	under.Wait()
	if refusal := wantRefused(t, second(s.svc.PutPart(t.Context(), name(made), partOf(8, content(0, small)))), RefusedBusy); refusal.Retry == 0 {
		t.Error("the refusal does not say when to try again")
	}
	s.shelf.on(nil)
	close(open)
	all.Wait()
	if got := s.put(made, 8, content(0, small)); got.Status != StatusStaged {
		t.Errorf("%+v", got)
	}
}

// TestPartInFlightWhenTheSessionEnds stores a part whose session is completed, aborted or over by then: it does not count.
func TestPartInFlightWhenTheSessionEnds(t *testing.T) {
	t.Parallel()
	for code, end := range map[string]func(*stage, *Session){
		RefusedCompleting: func(s *stage, made *Session) { s.complete(made) },
		RefusedAborted: func(s *stage, made *Session) {
			if _, err := s.svc.Abort(s.Context(), name(made)); err != nil {
				s.Fatal(err)
			}
		},
		RefusedExpired: func(s *stage, _ *Session) { s.pass(DefaultExpiry + time.Second) },
	} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, Config{})
			made := s.create(request("k", small))
			s.put(made, 0, content(0, small))
			s.shelf.on(func(step string) {
				if step == "stored" {
					end(s, made)
				}
			})
			wantRefused(t, second(s.svc.PutPart(t.Context(), name(made), partOf(0, content(1, small)))), code)
			known, err := s.svc.known(t.Context(), &record{Upload: made.Upload}, 0)
			if err != nil || known.SHA256 != sha(content(0, small)) {
				t.Errorf("KV knows of %+v, %v", known, err)
			}
		})
	}
}

// TestAClockBehindDoesNotLoseAPart replaces a part that somebody with a clock ahead had the last word on.
func TestAClockBehindDoesNotLoseAPart(t *testing.T) {
	t.Parallel()
	s := newStage(t, Config{})
	made := s.create(request("k", small))
	s.pass(time.Hour)
	s.put(made, 0, content(0, small))
	s.lose(made, 0)
	s.pass(-time.Hour)
	if got := s.put(made, 0, content(1, small)); got.Status != StatusStaged {
		t.Errorf("%+v", got)
	}
}

func TestSweepGoesOnAfterACrash(t *testing.T) {
	t.Parallel()
	s := newStage(t, Config{})
	made := s.create(request("k", 2*small))
	s.put(made, 1, content(0, small))
	if _, err := s.svc.Abort(t.Context(), name(made)); err != nil {
		t.Fatal(err)
	}
	s.shelf.fail(ErrStagingAway)
	if _, err := s.svc.sweep(t.Context()); !errors.Is(err, ErrStagingAway) {
		t.Fatalf("a sweep without a storage: %v", err)
	}
	s.shelf.fail(nil)
	if err := s.svc.forgetParts(t.Context(), &record{Upload: made.Upload}); err != nil { // as if it had died before the record said so
		t.Fatal(err)
	}
	s.sweep()
	got := s.show(made)
	if !got.Cleaned || got.Status != StatusAborted || got.Accepted != small || got.Next != 0 || s.shelf.left() != 0 {
		t.Errorf("%+v", got)
	}
	// The id can be used again when the record is gone.
	s.pass(KeptFor + time.Second)
	s.sweep()
	again := s.create(request("k", 2*small))
	if again.ID != made.ID || again.Key == made.Key || again.Accepted != 0 {
		t.Errorf("%+v", again)
	}
}
