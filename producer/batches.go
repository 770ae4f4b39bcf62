package producer

import (
	"context"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// batchView is a batch as the API shows it.
type batchView struct {
	ID        protocol.BatchID    `json:"id"`
	Org       protocol.OrgID      `json:"org"`
	State     protocol.BatchState `json:"state"`
	Lane      protocol.Lane       `json:"lane"`
	Label     string              `json:"label,omitempty"`
	Total     int                 `json:"total"` // 0 while the batch is being accepted
	Counts    countsView          `json:"counts"`
	Bytes     int64               `json:"bytes"`
	Moving    int64               `json:"bytes_moving,omitempty"` // of the items that run, as far as news of them came; not in Bytes yet
	CreatedAt time.Time           `json:"created_at"`
	StartedAt *time.Time          `json:"started_at,omitempty"`
	EndedAt   *time.Time          `json:"ended_at,omitempty"`
	// Reason says why a batch is paused, was stopped, or never ran.
	Reason          string             `json:"reason,omitempty"`
	Rates           ratesView          `json:"rates"`
	ETA             *int64             `json:"eta_seconds,omitempty"` // absent: nobody can tell
	ErrorGroups     []errorGroupView   `json:"error_groups"`
	ErrorGroupsLeft int                `json:"error_groups_left,omitempty"` // failed items that are in none of the groups
	Attempts        int                `json:"attempts,omitempty"`
	Rate            float64            `json:"rate,omitempty"`
	Canary          int                `json:"canary,omitempty"`
	MaxFailed       any                `json:"max_failed,omitempty"` // a number of items, or a share such as "5%"
	RerunOf         protocol.BatchID   `json:"rerun_of,omitempty"`
	UploadID        protocol.UploadID  `json:"upload_id,omitempty"` // the session that the batch publishes
	Reruns          []protocol.BatchID `json:"reruns,omitempty"`    // where its failed items were run again; in the view of one batch only
	Webhook         *webhookView       `json:"webhook,omitempty"`
	Rule            string             `json:"rule,omitempty"` // whose events asked for the batch
	RuleVersion     int                `json:"rule_version,omitempty"`
}

// countsView counts the items by state; they add up to the total.
type countsView struct {
	Queued    int `json:"queued"`
	Running   int `json:"running"`
	Retrying  int `json:"retrying"`
	Succeeded int `json:"succeeded"`
	Failed    int `json:"failed"`
	Canceled  int `json:"canceled"`
	Skipped   int `json:"skipped"`
}

// ratesView is how fast a batch ran in the last seconds; zero where there is no recent figure.
type ratesView struct {
	Items float64 `json:"items_per_second"`
	Bytes float64 `json:"bytes_per_second"`
}

// errorGroupView is how many items failed in the same way.
type errorGroupView struct {
	Class   protocol.Class `json:"class"`
	Code    string         `json:"code"`
	Host    string         `json:"host,omitempty"`
	Count   int            `json:"count"`
	Example int            `json:"example"` // index of one of them
	Message string         `json:"message"` // of the example
}

// webhookView is who is told of the end, and whether that was done.
type webhookView struct {
	URL      string       `json:"url"` // without query and userinfo
	State    webhookState `json:"state"`
	Attempts int          `json:"attempts"`
}

type webhookState string

// The states of a webhook.
const (
	webhookPending   webhookState = "pending"
	webhookRetrying  webhookState = "retrying"
	webhookDelivered webhookState = "delivered"
	webhookFailed    webhookState = "failed"
)

// reasonAbandoned is shown of a batch whose acceptance was given up.
const reasonAbandoned = "The acceptance was never completed; no item ran. Send the request again."

// paceStale is the age from which the pace of a batch says nothing about now.
const paceStale = 15 * time.Second

func (s *Server) showBatch(w http.ResponseWriter, r *http.Request) {
	record, ok := s.batchOf(w, r)
	if !ok {
		return
	}
	view, err := s.view(r.Context(), &record)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, view)
}

// batchOf finds the batch of a request, or answers 404: a batch of another org is missing.
func (s *Server) batchOf(w http.ResponseWriter, r *http.Request) (protocol.Acceptance, bool) {
	id := protocol.BatchID(r.PathValue("id"))
	missing := newProblem(CodeBatchNotFound, "There is no such batch.")
	if !id.Valid() {
		writeProblem(w, r, missing)
		return protocol.Acceptance{}, false
	}
	record, found, err := s.pipeline.acceptance(r.Context(), principalOf(r).Org, id)
	if err != nil {
		s.refuse(w, r, err)
		return record, false
	}
	if !found {
		writeProblem(w, r, missing)
		return record, false
	}
	return record, true
}

// view shows a batch whose accept record was read. If it has been removed meanwhile, the record is what is left to be shown.
func (s *Server) view(ctx context.Context, record *protocol.Acceptance) (batchView, error) {
	now, found, err := s.pipeline.look(ctx, record.Org, record.Batch, nil)
	if err != nil {
		return batchView{}, err
	}
	if !found {
		now = &snapshot{record: *record}
	}
	v := now.view(time.Now())
	if now.summary.Tally.Failed+now.summary.Tally.Canceled > 0 {
		v.Reruns, err = s.pipeline.reruns(ctx, record.Org, record.Batch)
	}
	return v, err
}

// ended reports whether nothing of the batch changes any more.
func (s *snapshot) ended() bool {
	return s.told && s.summary.State.Final() || !s.told && s.record.State == protocol.AcceptAbandoned
}

// state joins what the four records say, the strongest word first.
func (s *snapshot) state() protocol.BatchState {
	switch {
	case s.told && s.summary.State.Final():
		return s.summary.State
	case s.ended():
		return protocol.BatchFailed
	case s.control.Wanted == protocol.WantStop:
		return protocol.BatchCanceling
	case s.record.Fed() && s.record.State != protocol.AcceptComplete:
		return protocol.BatchAccepting
	case s.control.Wanted == protocol.WantPause:
		return protocol.BatchPaused
	case s.told && s.summary.State != protocol.BatchQueued:
		return s.summary.State
	case len(s.held) > 0:
		return protocol.BatchRunning
	}
	return protocol.BatchQueued
}

// view derives what is shown of a batch. It depends on the time only in that an old pace is not shown.
func (s *snapshot) view(now time.Time) batchView {
	record, summary := &s.record, &s.summary
	v := batchView{
		ID: record.Batch, Org: record.Org, State: s.state(), Lane: record.Lane, Label: record.Label, Total: record.Total,
		Counts: s.counts(), Bytes: summary.Tally.Bytes, Moving: s.moving,
		CreatedAt: record.Created, StartedAt: known(earliest(summary.Started, s.begun)), EndedAt: known(summary.Ended), Reason: summary.Reason,
		ErrorGroups: make([]errorGroupView, len(summary.Groups)), ErrorGroupsLeft: summary.GroupsLeft,
		Attempts: record.Options.Attempts, Rate: record.Options.Rate, Canary: record.Options.Canary,
		MaxFailed: shownThreshold(record.Options.MaxFailed), RerunOf: record.RerunOf, UploadID: record.Upload, Webhook: s.webhook(),
		Rule: record.Rule, RuleVersion: record.RuleVersion,
	}
	for i, g := range summary.Groups {
		v.ErrorGroups[i] = errorGroupView(g)
	}
	switch {
	case v.State == protocol.BatchPaused, v.State == protocol.BatchCanceling:
		v.Reason = s.control.Reason
	case !s.told && record.State == protocol.AcceptAbandoned:
		v.Reason = reasonAbandoned
	}
	if !v.State.Final() && now.Sub(summary.Pace.At) <= paceStale {
		v.Rates = ratesView{Items: tenths(summary.Pace.Items), Bytes: tenths(summary.Pace.Bytes)}
		if left := record.Total - summary.Tally.Ended(); v.State == protocol.BatchRunning && summary.Pace.Items > 0 {
			seconds := int64(math.Ceil(float64(left) / summary.Pace.Items))
			v.ETA = &seconds
		}
	}
	return v
}

// tenths rounds a rate to what is worth showing.
func tenths(rate float64) float64 { return math.Round(rate*10) / 10 }

// counts derives the counts from the tally of the receipts and from what workers hold. An item that is held and waited for a retry
// before is running; which ones did is known where the receipts stand in the summary.
func (s *snapshot) counts() countsView {
	t := s.summary.Tally
	c := countsView{Retrying: t.Retrying, Succeeded: t.Succeeded, Failed: t.Failed, Canceled: t.Canceled, Skipped: t.Skipped}
	c.Queued = max(s.record.Total-t.Ended()-t.Retrying, 0)
	if s.ended() {
		c.Canceled += c.Queued // of a batch that never ran
		c.Queued = 0
		return c
	}
	held, again := len(s.held), 0
	for i := range s.summary.Receipts {
		if r := &s.summary.Receipts[i]; s.held[r.Index] {
			if !s.runs(r) {
				held-- // the worker has not rewritten its claim yet
			} else if r.State == protocol.ItemRetrying {
				again++
			}
		}
	}
	fresh := min(held-again, c.Queued)
	if !protocol.Inline(s.record.Total) {
		again = held - fresh
	}
	again = min(again, c.Retrying)
	c.Queued, c.Retrying, c.Running = c.Queued-fresh, c.Retrying-again, fresh+again
	return c
}

func (s *snapshot) webhook() *webhookView {
	asked := s.record.Options.Webhook
	if asked == nil {
		return nil
	}
	v := &webhookView{URL: asked.Shown, State: webhookPending}
	told := s.summary.Webhook
	if told == nil {
		return v
	}
	v.Attempts, v.State = len(told.Attempts), webhookRetrying
	switch {
	case told.State == protocol.ItemSucceeded:
		v.State = webhookDelivered
	case told.State.Final():
		v.State = webhookFailed
	}
	return v
}

// shownThreshold echoes a threshold in a form that is taken again; nil: there is none.
func shownThreshold(t protocol.Threshold) any {
	switch {
	case !t.Given:
		return nil
	case t.Share > 0:
		return strconv.FormatFloat(t.Share*100, 'g', 6, 64) + "%"
	}
	return t.Count
}

// earliest is the one of two times that was first, of those that are known.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
