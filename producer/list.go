package producer

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// batchesView is a page of batches.
type batchesView struct {
	Items      []batchView `json:"items"`
	NextCursor string      `json:"next_cursor,omitempty"`
}

const (
	defaultBatches = 50
	maxBatches     = 200
	// maxBatchesRead bounds the batches that a request with a filter reads, maxBatchesPassed those that it passes over; the cursor
	// goes on from there.
	maxBatchesRead   = 1000
	maxBatchesPassed = 100_000
	// passAtOnce is how many batches are taken from the index at once.
	passAtOnce = 256
	// listPatience is how long a list waits for the index to be loaded.
	listPatience = 5 * time.Second
)

// errLoading says that the index does not know all batches yet.
var errLoading = errors.New("the list of batches is still being loaded")

// listBatches shows the batches of the caller's org, the newest first.
func (s *Server) listBatches(w http.ResponseWriter, r *http.Request) {
	query, bad := parseBatchesQuery(r)
	if bad != nil {
		writeProblem(w, r, *bad)
		return
	}
	page, err := s.pipeline.list(r.Context(), principalOf(r).Org, query)
	if errors.Is(err, errLoading) {
		writeProblem(w, r, newProblem(CodeNotReady, "The server has just started and does not know all batches yet. Try again."))
		return
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, page)
}

// list returns a page of the batches of an org. A batch that is accepted meanwhile comes before the first page and disturbs none.
func (p *Pipeline) list(ctx context.Context, org protocol.OrgID, q batchesQuery) (batchesView, error) {
	page := batchesView{Items: []batchView{}}
	loading := time.NewTimer(listPatience)
	defer loading.Stop()
	select {
	case <-p.views.index.loaded:
	case <-loading.C:
		return page, errLoading
	case <-ctx.Done():
		return page, errLoading
	}
	at, read := q.after, 0
	for passed := 0; passed < maxBatchesPassed; {
		next := p.views.index.before(org, at, passAtOnce)
		for i := range next {
			if len(page.Items) == q.limit || read == maxBatchesRead {
				page.NextCursor = at.cursor()
				return page, nil
			}
			passed++
			at = next[i].place
			if !q.mayMatch(&next[i]) {
				continue
			}
			read++
			view, found, err := p.listed(ctx, org, at.id)
			if err != nil {
				return page, err
			}
			if found && (q.state == "" || view.State == q.state) {
				page.Items = append(page.Items, view)
			}
		}
		if len(next) < passAtOnce {
			return page, nil
		}
	}
	page.NextCursor = at.cursor()
	return page, nil
}

// listed reads one batch of the list. One that retention has removed is taken off it.
func (p *Pipeline) listed(ctx context.Context, org protocol.OrgID, id protocol.BatchID) (batchView, bool, error) {
	now, found, err := p.look(ctx, org, id, nil)
	if err != nil {
		return batchView{}, false, err
	}
	p.views.index.noted(org, id, now, found)
	if !found {
		return batchView{}, false, nil
	}
	return now.view(time.Now()), true, nil
}

type batchesQuery struct {
	after place // zero: from the newest on
	limit int
	state protocol.BatchState
	label string
	rule  string
}

// mayMatch reports whether a batch is asked for, as far as the index can tell.
func (q *batchesQuery) mayMatch(b *indexed) bool {
	return !b.void && (q.label == "" || b.label == q.label) && (q.rule == "" || b.rule == q.rule) && (q.state == "" || b.final == "" || b.final == q.state)
}

var batchStates = []protocol.BatchState{
	protocol.BatchAccepting, protocol.BatchQueued, protocol.BatchRunning, protocol.BatchPaused, protocol.BatchCanceling,
	protocol.BatchSucceeded, protocol.BatchCompletedWithErrors, protocol.BatchFailed, protocol.BatchCanceled,
}

func parseBatchesQuery(r *http.Request) (batchesQuery, *Problem) {
	values := r.URL.Query()
	q := batchesQuery{limit: defaultBatches, label: values.Get("label"), rule: values.Get("rule"), state: protocol.BatchState(values.Get("state"))}
	refuse := func(message string) (batchesQuery, *Problem) {
		p := newProblem(CodeInvalidRequest, message)
		return q, &p
	}
	if text := values.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxBatches {
			return refuse("limit must be a number from 1 to " + strconv.Itoa(maxBatches) + ".")
		}
		q.limit = n
	}
	if q.state != "" && !slices.Contains(batchStates, q.state) {
		return refuse("state must be one of accepting, queued, running, paused, canceling, succeeded, completed_with_errors, failed, canceled.")
	}
	if text := values.Get("cursor"); text != "" {
		var ok bool
		if q.after, ok = decodePlace(text); !ok {
			return refuse("cursor must be a next_cursor of an earlier answer.")
		}
	}
	return q, nil
}

const placePrefix = "b1:"

// cursor is the place in a form for callers.
func (p place) cursor() string {
	return base64.RawURLEncoding.EncodeToString([]byte(placePrefix + strconv.FormatInt(p.created, 10) + ":" + string(p.id)))
}

func decodePlace(cursor string) (place, bool) {
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return place{}, false
	}
	rest, ok := strings.CutPrefix(string(raw), placePrefix)
	if !ok {
		return place{}, false
	}
	digits, id, ok := strings.Cut(rest, ":")
	created, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil || !protocol.BatchID(id).Valid() {
		return place{}, false
	}
	return place{created, protocol.BatchID(id)}, true
}
