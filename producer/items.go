package producer

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// itemView is an item as the API shows it: its receipt, from where to where, and what it waits for.
type itemView struct {
	protocol.Receipt

	Src     string       `json:"src,omitempty"`  // fit for people: no query, no userinfo, no header
	Dest    string       `json:"dest,omitempty"` // as Src
	Waiting *waitingView `json:"waiting,omitempty"`
	// Progress is how far an item is that runs.
	Progress *progressView `json:"progress,omitempty"`
}

// itemsView is a page of items.
type itemsView struct {
	Items      []itemView `json:"items"`
	NextCursor string     `json:"next_cursor,omitempty"`
}

const (
	defaultItems = 100
	maxItems     = 1000
	// maxPagesRead and maxPagesDecoded bound the pages of receipts that a request with a filter looks at; the cursor goes on from there. A
	// page in which nothing can match is not decoded.
	maxPagesRead    = 400
	maxPagesDecoded = 40
)

// listItems shows the items of a batch in index order.
func (s *Server) listItems(w http.ResponseWriter, r *http.Request) {
	query, bad := parseItemsQuery(r)
	if bad != nil {
		writeProblem(w, r, *bad)
		return
	}
	now, ok := s.snapshotOf(w, r)
	if !ok {
		return
	}
	page := itemsView{Items: []itemView{}}
	receipts, next, err := s.pipeline.find(r.Context(), now, query)
	if err == nil {
		page.Items, err = s.pipeline.shown(r.Context(), now, receipts)
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	if next < now.record.Total {
		page.NextCursor = encodeCursor(next)
	}
	writeJSON(w, http.StatusOK, page)
}

// showItem shows one item.
func (s *Server) showItem(w http.ResponseWriter, r *http.Request) {
	now, ok := s.snapshotOf(w, r)
	if !ok {
		return
	}
	index, err := strconv.Atoi(r.PathValue("index"))
	if err != nil || index < 0 || index >= now.record.Total || strconv.Itoa(index) != r.PathValue("index") {
		writeProblem(w, r, newProblem(CodeItemNotFound, "The batch has no such item; its items are numbered from 0."))
		return
	}
	receipts, _, err := s.pipeline.find(r.Context(), now, itemsQuery{from: index, limit: 1})
	var items []itemView
	if err == nil {
		items, err = s.pipeline.shown(r.Context(), now, receipts)
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, items[0])
}

// snapshotOf finds the batch of a request and reads all of it, or answers.
func (s *Server) snapshotOf(w http.ResponseWriter, r *http.Request) (*snapshot, bool) {
	record, ok := s.batchOf(w, r)
	if !ok {
		return nil, false
	}
	now, found, err := s.pipeline.look(r.Context(), record.Org, record.Batch, nil)
	switch {
	case err != nil:
		s.refuse(w, r, err)
	case !found:
		writeProblem(w, r, newProblem(CodeBatchNotFound, "There is no such batch."))
	}
	return now, err == nil && found
}

// find returns the receipts that a query asks for, and the index at which the next page begins.
func (p *Pipeline) find(ctx context.Context, now *snapshot, q itemsQuery) (found []protocol.Receipt, next int, err error) {
	next = q.from
	read, decoded := 0, 0
	for next < now.record.Total && len(found) < q.limit && read < maxPagesRead && decoded < maxPagesDecoded {
		end := min((protocol.PageOf(next)+1)*protocol.PageSize, now.record.Total)
		receipts, skipped, err := p.pageOf(ctx, now, next, end-next, &q)
		if err != nil {
			return nil, 0, err
		}
		read++
		if skipped {
			next = end
			continue
		}
		decoded++
		for i := range receipts {
			now.run(&receipts[i])
			next++
			if q.matches(&receipts[i]) {
				found = append(found, receipts[i])
			}
			if len(found) == q.limit {
				break
			}
		}
	}
	return found, next, nil
}

// pageOf reads the receipts of items of one page, or says that none of them can match.
func (p *Pipeline) pageOf(ctx context.Context, now *snapshot, first, n int, q *itemsQuery) (receipts []protocol.Receipt, skipped bool, err error) {
	record, summary := &now.record, &now.summary
	sign := q.sign(summary)
	if sign == nil || protocol.Inline(record.Total) {
		receipts, err = p.receipts(ctx, record, summary, first, n)
		return receipts, false, err
	}
	entry, err := p.batches.Get(ctx, protocol.PageKey(record.Org, record.Batch, protocol.PageOf(first)))
	if errors.Is(err, broker.ErrNotFound) {
		return nil, true, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read items %d to %d of %s: %w", first, first+n-1, record.Batch, err)
	}
	if !bytes.Contains(entry.Value, sign) {
		return nil, true, nil
	}
	var page protocol.Page
	if err := json.Unmarshal(entry.Value, &page); err != nil {
		return nil, false, fmt.Errorf("read items %d to %d of %s: %w", first, first+n-1, record.Batch, err)
	}
	receipts = noNews(record, first, n)
	lay(receipts, page.Receipts)
	for i := range receipts {
		receipts[i] = summary.Settle(receipts[i])
	}
	return receipts, false, nil
}

// shown joins receipts with what was asked for, and with the reason of those that wait.
func (p *Pipeline) shown(ctx context.Context, now *snapshot, receipts []protocol.Receipt) ([]itemView, error) {
	items := make([]itemView, len(receipts))
	why, far := waitingRoom{pipeline: p, now: now}, progressTable{pipeline: p, now: now}
	var manifest []protocol.ManifestItem
	number := -1
	for i := range receipts {
		v := &items[i]
		v.Receipt = receipts[i]
		if n := protocol.PageOf(v.Index); n != number {
			var err error
			number = n
			// A batch may be older than manifests, or is being removed.
			if manifest, err = p.manifestPage(ctx, &now.record, n); err != nil && !errors.Is(err, errNoManifest) {
				return nil, err
			}
		}
		if at := v.Index % protocol.PageSize; at < len(manifest) {
			v.ID = manifest[at].ID
			v.Src, v.Dest = manifest[at].Src.Redacted(), manifest[at].Dest.Redacted()
		}
		var err error
		if v.Waiting, err = why.of(ctx, &v.Receipt); err != nil {
			return nil, err
		}
		if v.Progress, err = far.of(ctx, &v.Receipt); err != nil {
			return nil, err
		}
	}
	return items, nil
}

type itemsQuery struct {
	from  int
	limit int
	state protocol.ItemState
	class protocol.Class
	code  string
	host  string
}

// matches reports whether an item is asked for. Class, code and host are those of its failure.
func (q *itemsQuery) matches(r *protocol.Receipt) bool {
	if q.state != "" && r.State != q.state {
		return false
	}
	if q.class == "" && q.code == "" && q.host == "" {
		return true
	}
	f := r.Failure
	return f != nil && (q.class == "" || f.Class == q.class) && (q.code == "" || f.Code == q.code) && (q.host == "" || f.Host == q.host)
}

// sign returns what a stored page contains if a receipt in it matches; nil: nothing tells. Inside a string of JSON
// the quotes would be escaped.
func (q *itemsQuery) sign(summary *protocol.Summary) []byte {
	switch {
	case q.code != "":
		return fmt.Appendf(nil, `"code":%q`, q.code)
	case q.class != "":
		return fmt.Appendf(nil, `"class":%q`, string(q.class))
	case q.host != "":
		return []byte(`"failure":`)
	case q.state == "" || q.state == protocol.ItemQueued || q.state == protocol.ItemRunning || q.state == summary.Rest:
		return nil
	}
	return stateSign(q.state)
}

func stateSign(state protocol.ItemState) []byte { return fmt.Appendf(nil, `"state":%q`, string(state)) }

// mentions reports whether a receipt in a stored page is in that state.
func mentions(page []byte, state protocol.ItemState) bool {
	return bytes.Contains(page, stateSign(state))
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
	q.class, q.code, q.host = protocol.Class(values.Get("class")), values.Get("code"), values.Get("host")
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
