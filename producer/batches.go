package producer

import (
	"context"
	"encoding/base64"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// batchView is a batch as the API shows it.
type batchView struct {
	ID        protocol.BatchID    `json:"id"`
	Org       protocol.OrgID      `json:"org"`
	State     protocol.BatchState `json:"state"`
	Lane      protocol.Lane       `json:"lane"`
	Total     int                 `json:"total"`
	Counts    countsView          `json:"counts"`
	Bytes     int64               `json:"bytes"`
	CreatedAt time.Time           `json:"created_at"`
	StartedAt *time.Time          `json:"started_at,omitempty"`
	EndedAt   *time.Time          `json:"ended_at,omitempty"`
	// Reason says why a batch that never ran is over.
	Reason string `json:"reason,omitempty"`
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

// itemsView is a page of receipts.
type itemsView struct {
	Items      []protocol.Receipt `json:"items"`
	NextCursor string             `json:"next_cursor,omitempty"`
}

const (
	defaultItems = 100
	maxItems     = 1000
	// scanned bounds how many receipts one request with a state filter looks at; the cursor goes on from there.
	scanned = 20 * protocol.PageSize
)

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

// view derives what is shown of a batch from its records.
func (s *Server) view(ctx context.Context, record *protocol.Acceptance) (batchView, error) {
	summary, found, err := s.pipeline.summary(ctx, record.Org, record.Batch)
	if err != nil {
		return batchView{}, err
	}
	v := batchView{ID: record.Batch, Org: record.Org, State: protocol.BatchQueued, Lane: record.Lane, Total: record.Total, CreatedAt: record.Created}
	switch {
	case found:
		v.State, v.Bytes = summary.State, summary.Tally.Bytes
		v.StartedAt, v.EndedAt = known(summary.Started), known(summary.Ended)
	case record.State == protocol.AcceptAbandoned:
		v.State, v.Reason = protocol.BatchFailed, "The acceptance was never completed; no item ran. Send the request again."
		v.Counts.Canceled = record.Total
		return v, nil
	case record.State == protocol.AcceptPending && record.Chunks > 1:
		v.State = protocol.BatchAccepting
	}
	v.Counts = countsView{
		Retrying: summary.Tally.Retrying, Succeeded: summary.Tally.Succeeded, Failed: summary.Tally.Failed,
		Canceled: summary.Tally.Canceled, Skipped: summary.Tally.Skipped,
	}
	v.Counts.Queued = record.Total - summary.Tally.Ended() - summary.Tally.Retrying
	if v.State.Final() {
		return v, nil
	}
	running, err := s.pipeline.running(ctx, record)
	if err != nil {
		return v, err
	}
	v.Counts.Running = min(len(running), v.Counts.Queued)
	v.Counts.Queued -= v.Counts.Running
	if v.State == protocol.BatchQueued && v.Counts.Running > 0 {
		v.State = protocol.BatchRunning
	}
	return v, nil
}

func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// listItems shows the receipts of a batch in index order.
func (s *Server) listItems(w http.ResponseWriter, r *http.Request) {
	query, bad := parseItemsQuery(r)
	if bad != nil {
		writeProblem(w, r, *bad)
		return
	}
	record, ok := s.batchOf(w, r)
	if !ok {
		return
	}
	page, err := s.itemsFrom(r.Context(), &record, query)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, page)
}

func (s *Server) itemsFrom(ctx context.Context, record *protocol.Acceptance, query itemsQuery) (itemsView, error) {
	page := itemsView{Items: []protocol.Receipt{}}
	summary, _, err := s.pipeline.summary(ctx, record.Org, record.Batch)
	if err != nil {
		return page, err
	}
	running := map[int]bool{}
	if !summary.State.Final() {
		if running, err = s.pipeline.running(ctx, record); err != nil {
			return page, err
		}
	}
	at := query.from
	for end := min(record.Total, query.from+scanned); at < end && len(page.Items) < query.limit; {
		n := min(query.limit, end-at)
		if query.state != "" { // by whole pages, however few of their items are wanted
			n = min((protocol.PageOf(at)+1)*protocol.PageSize, end) - at
		}
		receipts, err := s.pipeline.receipts(ctx, record, &summary, at, n)
		if err != nil {
			return page, err
		}
		for i := range receipts {
			if receipts[i].State == protocol.ItemQueued && running[receipts[i].Index] {
				receipts[i].State = protocol.ItemRunning
			}
			at++
			if query.state == "" || receipts[i].State == query.state {
				page.Items = append(page.Items, receipts[i])
			}
			if len(page.Items) == query.limit {
				break
			}
		}
	}
	if at < record.Total {
		page.NextCursor = encodeCursor(at)
	}
	return page, nil
}

type itemsQuery struct {
	from  int
	limit int
	state protocol.ItemState
}

var itemStates = []protocol.ItemState{
	protocol.ItemQueued, protocol.ItemRunning, protocol.ItemRetrying, protocol.ItemSucceeded,
	protocol.ItemFailed, protocol.ItemCanceled, protocol.ItemSkipped,
}

func parseItemsQuery(r *http.Request) (itemsQuery, *Problem) {
	q := itemsQuery{limit: defaultItems}
	values := r.URL.Query()
	refuse := func(message string) (itemsQuery, *Problem) {
		p := newProblem(CodeInvalidRequest, message)
		return q, &p
	}
	if text := values.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxItems {
			return refuse("limit must be a number from 1 to " + strconv.Itoa(maxItems) + ".")
		}
		q.limit = n
	}
	if text := values.Get("cursor"); text != "" {
		from, ok := decodeCursor(text)
		if !ok {
			return refuse("cursor must be a next_cursor of an earlier answer.")
		}
		q.from = from
	}
	if text := values.Get("state"); text != "" {
		q.state = protocol.ItemState(text)
		if !slices.Contains(itemStates, q.state) {
			return refuse("state must be one of queued, running, retrying, succeeded, failed, canceled, skipped.")
		}
	}
	return q, nil
}

const cursorPrefix = "i1:"

func encodeCursor(index int) string {
	return base64.RawURLEncoding.EncodeToString([]byte(cursorPrefix + strconv.Itoa(index)))
}

func decodeCursor(cursor string) (int, bool) {
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return 0, false
	}
	digits, ok := strings.CutPrefix(string(raw), cursorPrefix)
	if !ok {
		return 0, false
	}
	index, err := strconv.Atoi(digits)
	return index, err == nil && index >= 0
}
