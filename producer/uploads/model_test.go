package uploads

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/copyfleet/copyfleet/protocol"
)

// model is what a session must be, told the simplest way.
type model struct {
	key     string
	length  int64
	parts   []string // the SHA-256 of each part that is there; "" of those that are not
	state   Status   // open stands for created, uploading and staged
	batches int
	session *Session // of its creation: the names
}

const open Status = "open"

func newModel(key string, length int64) *model {
	return &model{key: key, length: length, parts: make([]string, (length+small-1)/small), state: open}
}

func (m *model) size(number int) int64 { return min(small, m.length-int64(number)*small) }

func (m *model) missing() (missing []Range) {
	for n, digest := range m.parts {
		switch last := len(missing) - 1; {
		case digest != "":
		case last >= 0 && missing[last].Last == n-1:
			missing[last].Last = n
		default:
			missing = append(missing, Range{First: n, Last: n})
		}
	}
	return missing
}

// looks is what callers see of it.
type looks struct {
	Status             Status
	Accepted, Reserved int64
	Missing            []Range
	Next, Count        int
	Published          int64
	Files              int
	Failed             bool
}

func (m *model) looks() looks {
	want := looks{Status: m.state, Reserved: m.length, Missing: m.missing(), Next: len(m.parts), Count: len(m.parts)}
	for n, digest := range m.parts {
		if digest != "" {
			want.Accepted += m.size(n)
		}
	}
	if len(want.Missing) > 0 {
		want.Next = want.Missing[0].First
	}
	switch m.state { //nolint:exhaustive // the others need nothing
	case open:
		switch want.Status = StatusUploading; {
		case len(want.Missing) == 0:
			want.Status = StatusStaged
		case want.Accepted == 0:
			want.Status = StatusCreated
		}
	case StatusCompleted:
		want.Published, want.Files, want.Reserved = m.length, 1, 0
	case StatusAborted, StatusExpired, StatusFailed:
		want.Reserved, want.Failed = 0, m.state == StatusFailed
	}
	return want
}

func looksOf(s *Session) looks {
	return looks{
		Status: s.Status, Accepted: s.Accepted, Reserved: s.Reserved, Missing: s.Missing, Next: s.Next, Count: s.PartCount,
		Published: s.PublishedBytes, Files: s.PublishedFiles, Failed: s.State == protocol.UploadFailed && s.Failure != nil,
	}
}

// refusals are the codes by which a session that takes nothing more refuses.
var refusals = map[Status]string{
	StatusCompleting: RefusedCompleting, StatusCompleted: RefusedCompleted, StatusAborted: RefusedAborted, StatusExpired: RefusedExpired, StatusFailed: RefusedFailed,
}

// machine drives sessions and their models with the same operations.
type machine struct {
	*stage

	cfg    Config
	box    protocol.SandboxID
	models []*model
	keys   int
}

func (m *machine) request(key string, length int64) Request {
	r := request(key, length)
	r.Sandbox = m.box
	return r
}

// pick draws a session, and makes one if there is none.
func (m *machine) pick(t *rapid.T) *model {
	if len(m.models) == 0 {
		m.create(t, small) // which nothing else keeps from fitting
	}
	return m.models[rapid.IntRange(0, len(m.models)-1).Draw(t, "session")]
}

func (m *machine) fatal(t *rapid.T, format string, args ...any) {
	t.Helper()
	t.Fatalf(format, args...)
}

// code is that of a refusal; any other error is no answer.
func (m *machine) code(t *rapid.T, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	for _, code := range []string{
		RefusedNotFound, RefusedKeyReused, RefusedTooLarge, RefusedQuota, RefusedSessions, RefusedPart, RefusedLength, RefusedChecksum, RefusedBusy,
		RefusedMissing, RefusedWhole, RefusedCompleting, RefusedCompleted, RefusedAborted, RefusedExpired, RefusedFailed,
	} {
		if refused(err, code) {
			return code
		}
	}
	m.fatal(t, "no answer: %v", err)
	return ""
}

func (m *machine) taken() (sum int64, sessions int) {
	for _, other := range m.models {
		if other.state == open || other.state == StatusCompleting {
			sum, sessions = sum+other.length, sessions+1
		}
	}
	return sum, sessions
}

func (m *machine) Create(t *rapid.T) {
	parts := rapid.Int64Range(0, 4).Draw(t, "parts")
	m.create(t, max(0, parts*small+rapid.SampledFrom([]int64{-1, 0, 1}).Draw(t, "more")))
}

// create makes a session, or finds it refused where it must be.
func (m *machine) create(t *rapid.T, length int64) {
	m.keys++
	key := fmt.Sprintf("key-%d", m.keys)
	session, err := m.svc.Create(m.Context(), m.request(key, length))
	sum, sessions := m.taken()
	want := ""
	switch {
	case sessions >= m.cfg.Sessions:
		want = RefusedSessions
	case sum+length > m.cfg.Quota:
		want = RefusedQuota
	}
	if got := m.code(t, err); got != want {
		m.fatal(t, "creation of %d bytes beside %d is answered %q, want %q", length, sum, got, want)
	}
	if err == nil {
		made := newModel(key, length)
		made.session = session
		m.models = append(m.models, made)
	}
}

func (m *machine) CreateAgain(t *rapid.T) {
	it := m.pick(t)
	again, err := m.svc.Create(m.Context(), m.request(it.key, it.length))
	if err != nil || again.ID != it.session.ID {
		m.fatal(t, "creation repeated: %v, %v", again, err)
	}
	if _, err := m.svc.Create(m.Context(), m.request(it.key, it.length+1)); m.code(t, err) != RefusedKeyReused {
		m.fatal(t, "another creation under the same key: %v", err)
	}
}

func (m *machine) PutPart(t *rapid.T) {
	it := m.pick(t)
	number := rapid.IntRange(-1, len(it.parts)).Draw(t, "number")
	there := number >= 0 && number < len(it.parts)
	size := small
	if there {
		size = it.size(number)
	}
	data := content(rapid.Byte().Draw(t, "content")%3, size)
	part, want := partOf(number, data), ""
	switch how := rapid.SampledFrom([]string{"good", "good", "good", "unchecked", "short", "long", "corrupt", "announced short"}).Draw(t, "how"); how {
	case "unchecked":
		part.SHA256 = ""
	case "short":
		part.Body, want = bytes.NewReader(data[:size-1]), RefusedLength
	case "long":
		part.Body, want = bytes.NewReader(append(data[:size:size], 'x')), RefusedLength
	case "corrupt":
		part.SHA256, want = sha(append(data[:size:size], 'x')), RefusedChecksum
	case "announced short":
		part.Length, want = size-1, RefusedLength
	}
	if !there {
		want = RefusedPart
	}
	if it.state != open {
		want = refusals[it.state]
	}
	_, err := m.svc.PutPart(m.Context(), name(it.session), part)
	if got := m.code(t, err); got != want {
		m.fatal(t, "part %d of %s is answered %q, want %q", number, it.key, got, want)
	}
	if want == "" {
		it.parts[number] = sha(data)
	}
}

func (m *machine) Complete(t *rapid.T) {
	it := m.pick(t)
	session, err := m.svc.Complete(m.Context(), name(it.session), "", "")
	want := ""
	switch it.state { //nolint:exhaustive // the others are answered as they are
	case open:
		if len(it.missing()) > 0 {
			want = RefusedMissing
		} else {
			it.state, it.batches = StatusCompleting, it.batches+1
		}
	case StatusAborted, StatusExpired, StatusFailed:
		want = refusals[it.state]
	}
	if got := m.code(t, err); got != want {
		m.fatal(t, "completion of %s is answered %q, want %q", it.key, got, want)
	}
	if refusal, ok := errors.AsType[*Refusal](err); ok && want == RefusedMissing {
		if diff := cmp.Diff(it.missing(), refusal.Missing); diff != "" {
			m.fatal(t, "the missing parts of the refusal: (-want +got)\n%s", diff)
		}
	}
	if want == "" && session.Generation != it.batches {
		m.fatal(t, "%s was begun to publish %d times, want %d", it.key, session.Generation, it.batches)
	}
}

func (m *machine) EndBatch(t *rapid.T) {
	it := m.pick(t)
	if it.state != StatusCompleting {
		t.Skip("not completing")
	}
	receipt := protocol.Receipt{State: protocol.ItemFailed}
	lost := false
	switch how := rapid.SampledFrom([]string{"succeeded", "corrupt", "conflict", "unavailable", "canceled", "lost"}).Draw(t, "outcome"); how {
	case "succeeded":
		receipt.State, receipt.Bytes, it.state = protocol.ItemSucceeded, it.length, StatusCompleted
	case "corrupt", "conflict":
		receipt.Failure, it.state = &protocol.Failure{Class: protocol.Class(how), Code: "x", Message: "It does not do."}, StatusFailed
	case "canceled":
		receipt.State, it.state = protocol.ItemCanceled, open
	case "unavailable":
		receipt.Failure, it.state = &protocol.Failure{Class: protocol.Unavailable, Code: "x"}, open
	case "lost":
		receipt.Failure, it.state = &protocol.Failure{Class: protocol.Corrupt, Code: codePartLost}, open
		lost = len(it.parts) > 0
	}
	session := m.show(it.session)
	m.queue.end(session.Batch, receipt)
	if lost {
		number := rapid.IntRange(0, len(it.parts)-1).Draw(t, "lost part")
		m.lose(it.session, number)
		it.parts[number] = ""
	}
}

func (m *machine) Abort(t *rapid.T) {
	it := m.pick(t)
	if it.state == StatusCompleting {
		m.queue.end(m.show(it.session).Batch, protocol.Receipt{State: protocol.ItemCanceled})
	}
	_, err := m.svc.Abort(m.Context(), name(it.session))
	want := ""
	switch it.state { //nolint:exhaustive // as above
	case open, StatusCompleting:
		it.state = StatusAborted
	case StatusCompleted:
		want = RefusedCompleted
	}
	if got := m.code(t, err); got != want {
		m.fatal(t, "abortion of %s is answered %q, want %q", it.key, got, want)
	}
}

func (m *machine) Expire(*rapid.T) {
	m.pass(m.cfg.Expiry + time.Second)
	for _, it := range m.models {
		if it.state == open {
			it.state = StatusExpired
		}
	}
	// Whoever is being published does not expire, but has no time left when its batch ends without success.
}

func (m *machine) Sweep(*rapid.T) { m.sweep() }

func (m *machine) Restart(*rapid.T) { m.svc = m.open(m.cfg) }

// check compares all sessions, and the quota, with what they must be.
func (m *machine) check(t *rapid.T) {
	for _, it := range m.models {
		got := m.show(it.session)
		if it.state == open && m.now().After(got.Expires) {
			it.state = StatusExpired
		}
		if diff := cmp.Diff(it.looks(), looksOf(got)); diff != "" {
			m.fatal(t, "session %s (-want +got):\n%s", it.key, diff)
		}
	}
	sum, sessions := m.taken()
	quotaSessions, quotaSum := m.reserved(m.box)
	if quotaSum < sum || quotaSessions < sessions { // those that expired give it back when they are looked at
		m.fatal(t, "the quota has %d bytes of %d sessions, want %d of %d", quotaSum, quotaSessions, sum, sessions)
	}
}

// TestSessionsAgreeWithAModel drives random operations, and compares every session after each.
func TestSessionsAgreeWithAModel(t *testing.T) {
	t.Parallel()
	cfg := Config{Quota: 10 * small, Expiry: time.Hour, Sessions: 4}
	tried := 0
	s := newStage(t, cfg)
	rapid.Check(t, func(r *rapid.T) {
		tried++
		s.shelf, s.queue = newShelf(), newBatches() // what a failed try has left is not looked at
		m := &machine{stage: s, cfg: cfg, box: protocol.SandboxID(fmt.Sprintf("sb-%d", tried))}
		m.svc = m.open(cfg)
		r.Repeat(map[string]func(*rapid.T){
			"": m.check, "Create": m.Create, "CreateAgain": m.CreateAgain, "PutPart": m.PutPart, "PutPart2": m.PutPart, "PutPart3": m.PutPart,
			"Complete": m.Complete, "EndBatch": m.EndBatch, "Abort": m.Abort, "Expire": m.Expire, "Sweep": m.Sweep, "Restart": m.Restart,
		})
		m.finish(r)
	})
}

// finish ends every session and looks that nothing is left.
func (m *machine) finish(t *rapid.T) {
	for _, it := range m.models {
		if it.state == StatusCompleting {
			m.queue.end(m.show(it.session).Batch, protocol.Receipt{State: protocol.ItemSucceeded, Bytes: it.length})
		}
	}
	m.pass(m.cfg.Expiry + time.Second)
	m.sweep()
	if sessions, sum := m.reserved(m.box); sessions != 0 || sum != 0 {
		m.fatal(t, "%d bytes of %d sessions are reserved when all have ended", sum, sessions)
	}
	if left := m.shelf.left(); left != 0 {
		m.fatal(t, "%d uploads or objects are staged when all have ended", left)
	}
	m.pass(KeptFor + time.Second)
	m.sweep()
	for _, it := range m.models {
		if _, err := m.svc.Show(m.Context(), name(it.session)); m.code(t, err) != RefusedNotFound {
			m.fatal(t, "%s is still there a day after its end: %v", it.key, err)
		}
	}
}
