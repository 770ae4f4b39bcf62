package producer

import (
	"context"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// deadState tells whether a failed item was run again.
type deadState string

// The states of a dead letter.
const (
	stateDead  deadState = "dead"
	stateRerun deadState = "rerun"
)

// deadView is a failed item, as a list shows it.
type deadView struct {
	ID       string           `json:"id"` // "<batch>.<index>"
	State    deadState        `json:"state"`
	Batch    protocol.BatchID `json:"batch"`
	Label    string           `json:"label,omitempty"` // of the batch
	Index    int              `json:"index"`
	ItemID   string           `json:"item_id,omitempty"` // the caller's
	Src      string           `json:"src"`               // fit for people: no query, no userinfo, no header
	Dest     string           `json:"dest"`
	Class    protocol.Class   `json:"class"`
	Code     string           `json:"code"`
	Host     string           `json:"host,omitempty"`
	Message  string           `json:"message"`
	Status   int              `json:"http_status,omitempty"`
	Attempts int              `json:"attempts"`
	FailedAt *time.Time       `json:"failed_at,omitempty"`
	// RerunBatch is where it was run again.
	RerunBatch protocol.BatchID `json:"rerun_batch,omitempty"`
}

// deadListView is a page of dead letters.
type deadListView struct {
	Items      []deadView `json:"items"`
	NextCursor string     `json:"next_cursor,omitempty"`
}

// deadDetailView is all that is known of a dead letter, with what it takes to run it again.
type deadDetailView struct {
	deadView

	Item      rowView   `json:"item"` // a line of a manifest, with its receipt
	BatchView batchView `json:"batch_view"`
}

// listDead shows the failed items of the caller's org that were not run again, those of the newest batches first.
func (s *Server) listDead(w http.ResponseWriter, r *http.Request) {
	query, bad := parseDeadQuery(r)
	if bad != nil {
		writeProblem(w, r, *bad)
		return
	}
	page, err := s.pipeline.deadLetters(r.Context(), principalOf(r).Org, query)
	if err != nil {
		s.refuseList(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, page)
}

// showDead shows one dead letter with everything that it takes to run it again, its credentials only to an admin who asks.
func (s *Server) showDead(w http.ResponseWriter, r *http.Request) {
	secrets, problem := wantsSecrets(r)
	if problem != nil {
		writeProblem(w, r, *problem)
		return
	}
	detail, found, err := s.deadLetter(r.Context(), principalOf(r).Org, r.PathValue("id"), secrets)
	switch {
	case err != nil:
		s.refuse(w, r, err)
	case !found:
		writeProblem(w, r, newProblem(CodeDeadLetterNotFound, "There is no such dead letter: it names a batch and the index of a failed item in it."))
	default:
		writeJSON(w, http.StatusOK, detail)
	}
}

func (s *Server) deadLetter(ctx context.Context, org protocol.OrgID, name string, secrets bool) (*deadDetailView, bool, error) {
	id, index, ok := parseLetterID(name)
	if !ok {
		return nil, false, nil
	}
	now, found, err := s.pipeline.look(ctx, org, id, nil)
	if err != nil || !found || index >= now.record.Total {
		return nil, false, err
	}
	rows, err := s.pipeline.rows(ctx, now, protocol.PageOf(index), &itemsQuery{state: protocol.ItemFailed})
	if err != nil {
		return nil, false, err
	}
	for i := range rows {
		if rows[i].receipt.Index != index {
			continue
		}
		again, err := s.pipeline.runAgain(ctx, &now.record)
		if err != nil {
			return nil, false, err
		}
		return &deadDetailView{
			deadView: deadLetterOf(&now.record, &rows[i], again.where(index)),
			Item:     viewOf(&rows[i], secrets), BatchView: now.view(time.Now()),
		}, true, nil
	}
	return nil, false, nil
}

// deadLetterOf shows a failed item; again is the batch in which it was run again, if any.
func deadLetterOf(record *protocol.Acceptance, of *row, again protocol.BatchID) deadView {
	r := &of.receipt
	v := deadView{
		ID: letterID(record.Batch, r.Index), State: stateDead, Batch: record.Batch, Label: record.Label, Index: r.Index, ItemID: of.item.ID,
		Src: of.item.Src.Redacted(), Dest: of.item.Dest.Redacted(), Status: r.Status, Attempts: len(r.Attempts), RerunBatch: again,
	}
	if again != "" {
		v.State = stateRerun
	}
	if f := r.Failure; f != nil {
		v.Class, v.Code, v.Host, v.Message = f.Class, f.Code, f.Host, f.Message
	}
	if n := len(r.Attempts); n > 0 {
		v.FailedAt = known(r.Attempts[n-1].End)
	}
	return v
}

// runAgain is what was run again of a batch: entries of accepted batches only.
type runAgain []rerunEntry

func (p *Pipeline) runAgain(ctx context.Context, record *protocol.Acceptance) (runAgain, error) {
	earlier, _, err := p.rerunOf(ctx, record.Org, record.Batch)
	if err != nil {
		return nil, err
	}
	var list runAgain
	for _, e := range earlier.Entries {
		stands, err := p.standing(ctx, record.Org, &e)
		if err != nil {
			return nil, err
		}
		if stands == standsTaken {
			list = append(list, e)
		}
	}
	return list, nil
}

// where returns the batch in which an item was run again, or "".
func (a runAgain) where(index int) protocol.BatchID {
	for i := range a {
		if a[i].Ranges.has(index) {
			return a[i].Batch
		}
	}
	return ""
}

// parseLetterID takes the name of a dead letter apart.
func parseLetterID(name string) (protocol.BatchID, int, bool) {
	batch, digits, ok := strings.Cut(name, ".")
	index, err := strconv.Atoi(digits)
	if !ok || err != nil || index < 0 || index >= limitMaxItems || strconv.Itoa(index) != digits || !protocol.BatchID(batch).Valid() {
		return "", 0, false
	}
	return protocol.BatchID(batch), index, true
}

const deadPrefix = "d1:"

// deadPlace is where a list of dead letters goes on: at an item of a batch.
type deadPlace struct {
	place

	index int
}

func (d deadPlace) cursor() string {
	return base64.RawURLEncoding.EncodeToString([]byte(deadPrefix + strconv.FormatInt(d.created, 10) + ":" + letterID(d.id, d.index)))
}

func decodeDeadPlace(cursor string) (deadPlace, bool) {
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return deadPlace{}, false
	}
	rest, ok := strings.CutPrefix(string(raw), deadPrefix)
	digits, name, more := strings.Cut(rest, ":")
	created, err := strconv.ParseInt(digits, 10, 64)
	if !ok || !more || err != nil {
		return deadPlace{}, false
	}
	id, index, ok := parseLetterID(name)
	return deadPlace{place{created, id}, index}, ok
}
