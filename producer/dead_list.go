package producer

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"strconv"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// deadQuery says which dead letters are wanted.
type deadQuery struct {
	rerunFilter

	batch protocol.BatchID // "": of all batches
	state deadState        // "": dead and rerun
	after deadPlace        // zero: from the newest batch on
	limit int
}

const (
	defaultDead = 100
	maxDead     = 1000
)

func parseDeadQuery(r *http.Request) (deadQuery, *Problem) {
	values := r.URL.Query()
	q := deadQuery{limit: defaultDead, state: stateDead, batch: protocol.BatchID(values.Get("batch"))}
	q.class, q.code, q.host = protocol.Class(values.Get("class")), values.Get("code"), values.Get("host")
	refuse := func(message string) (deadQuery, *Problem) {
		p := newProblem(CodeInvalidRequest, message)
		return q, &p
	}
	if text := values.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxDead {
			return refuse("limit must be a number from 1 to " + strconv.Itoa(maxDead) + ".")
		}
		q.limit = n
	}
	if text := values.Get("state"); text != "" {
		if q.state = deadState(text); q.state != stateDead && q.state != stateRerun {
			return refuse("state must be dead or rerun.")
		}
	}
	if text := values.Get("cursor"); text != "" {
		var ok bool
		if q.after, ok = decodeDeadPlace(text); !ok {
			return refuse("cursor must be a next_cursor of an earlier answer.")
		}
	}
	return q, nil
}

// refuseList answers for an error of a list of batches.
func (s *Server) refuseList(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, errLoading) {
		writeProblem(w, r, newProblem(CodeNotReady, "The server has just started and does not know all batches yet. Try again."))
		return
	}
	s.refuse(w, r, err)
}

// candidates goes through the batches of an org that may have failed items, the newest first, from a place on. A zero place is newer than
// all. What it yields is read when its turn comes; a batch without failed items comes as nil, so that the caller can count. An error
// is the last that it yields.
func (p *Pipeline) candidates(ctx context.Context, org protocol.OrgID, at place) iter.Seq2[place, error] {
	return func(yield func(place, error) bool) {
		loading := time.NewTimer(listPatience)
		defer loading.Stop()
		select {
		case <-p.views.index.loaded:
		case <-loading.C:
			yield(place{}, errLoading)
			return
		case <-ctx.Done():
			yield(place{}, errLoading)
			return
		}
		for {
			next := p.views.index.before(org, at, passAtOnce)
			for i := range next {
				at = next[i].place
				if next[i].void || next[i].final == protocol.BatchSucceeded {
					continue
				}
				if !yield(at, nil) {
					return
				}
			}
			if len(next) < passAtOnce {
				return
			}
		}
	}
}

// failedOf reads what is known of a batch that may have failed items; nil: it has none that match.
func (p *Pipeline) failedOf(ctx context.Context, org protocol.OrgID, id protocol.BatchID, f *rerunFilter) (*snapshot, error) {
	now := &snapshot{}
	revision, err := readInto(ctx, p.batches, protocol.SummaryKey(org, id), &now.summary)
	if err != nil || revision == 0 || !f.mayMatch(&now.summary) {
		return nil, err
	}
	now.told, now.summarized = true, revision
	if now.accepted, err = readInto(ctx, p.batches, protocol.AcceptKey(org, id), &now.record); err != nil || now.accepted == 0 {
		return nil, err
	}
	return now, nil
}

// deadList is a list of dead letters while it is made. The work that it may cost is bounded.
type deadList struct {
	pipeline *Pipeline
	query    *deadQuery
	page     deadListView

	batches, read, decoded int
}

// deadLetters returns a page of dead letters.
func (p *Pipeline) deadLetters(ctx context.Context, org protocol.OrgID, q deadQuery) (deadListView, error) {
	l := deadList{pipeline: p, query: &q, page: deadListView{Items: []deadView{}}}
	if q.batch != "" {
		from := 0
		if q.after.id == q.batch {
			from = q.after.index
		}
		_, err := l.add(ctx, org, place{id: q.batch}, from)
		return l.page, err
	}
	if q.after.id != "" {
		more, err := l.add(ctx, org, q.after.place, q.after.index)
		if err != nil || !more {
			return l.page, err
		}
	}
	for at, err := range p.candidates(ctx, org, q.after.place) {
		if err != nil {
			return l.page, err
		}
		if more, err := l.add(ctx, org, at, 0); err != nil || !more {
			return l.page, err
		}
	}
	return l.page, nil
}

// full reports whether the page has all that it may have, or has cost all that it may.
func (l *deadList) full() bool {
	return len(l.page.Items) == l.query.limit || l.read >= maxPagesRead || l.decoded >= maxPagesDecoded
}

// add takes in the dead letters of a batch from an index on. It returns false when the page ends here; the cursor says where.
func (l *deadList) add(ctx context.Context, org protocol.OrgID, at place, from int) (bool, error) {
	if l.full() || l.batches == maxBatchesRead {
		l.page.NextCursor = deadPlace{at, from}.cursor()
		return false, nil
	}
	l.batches++
	if !at.id.Valid() {
		return true, nil
	}
	now, err := l.pipeline.failedOf(ctx, org, at.id, &l.query.rerunFilter)
	if err != nil || now == nil {
		return true, err
	}
	again, err := l.pipeline.runAgain(ctx, &now.record)
	if err != nil {
		return false, err
	}
	for from < now.record.Total {
		if l.full() {
			l.page.NextCursor = deadPlace{at, from}.cursor()
			return false, nil
		}
		if from, err = l.addPage(ctx, now, again, from); err != nil {
			return false, err
		}
	}
	return true, nil
}

// addPage takes in the dead letters of one page of receipts, and returns the index at which the list goes on.
func (l *deadList) addPage(ctx context.Context, now *snapshot, again runAgain, from int) (int, error) {
	number := protocol.PageOf(from)
	end := min((number+1)*protocol.PageSize, now.record.Total)
	rows, err := l.pipeline.rows(ctx, now, number, l.query.query())
	if err != nil {
		return from, err
	}
	l.read++
	if len(rows) > 0 {
		l.decoded++
	}
	for i := range rows {
		v := deadLetterOf(&now.record, &rows[i], again.where(rows[i].receipt.Index))
		if v.Index < from || v.State != l.query.state {
			continue
		}
		if len(l.page.Items) == l.query.limit {
			return v.Index, nil
		}
		l.page.Items = append(l.page.Items, v)
	}
	return end, nil
}
