package producer

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

const (
	// reportIdle is how long a reader of a report may take for one page of it.
	reportIdle = 30 * time.Second
	// maxReports bounds the reports that are being written at once, maxOrgReports those of one org.
	maxReports    = 32
	maxOrgReports = 8

	headerBatchState = "Copyfleet-Batch-State"
)

// reportForm is a form of a report.
type reportForm struct {
	name   string // of the file, and in the entity tag
	media  string
	header func() []byte // what comes first; nil: nothing
	render func(rows []row, secrets bool) ([]byte, error)
}

var (
	ndjsonReport = &reportForm{"ndjson", "application/x-ndjson", nil, ndjson}
	csvReport    = &reportForm{"csv", "text/csv; charset=utf-8; header=present", csvHeader, csvRows}
)

func (s *Server) reportNDJSON(w http.ResponseWriter, r *http.Request) { s.report(w, r, ndjsonReport) }
func (s *Server) reportCSV(w http.ResponseWriter, r *http.Request)    { s.report(w, r, csvReport) }

// report streams the items of a batch with their receipts. Each page is as it is when its turn comes; of a batch that has ended all
// pages are final. A report that cannot be ended is broken off, so that a part of it is never taken for the whole.
func (s *Server) report(w http.ResponseWriter, r *http.Request, form *reportForm) {
	query, secrets, bad := parseReportQuery(r)
	if bad != nil {
		writeProblem(w, r, *bad)
		return
	}
	now, ok := s.snapshotOf(w, r)
	if !ok {
		return
	}
	h := w.Header()
	if tag := form.tag(now, &query, secrets); tag != "" {
		h.Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	leave, ok := s.reports.join(now.record.Org)
	if !ok {
		h.Del("ETag")
		writeProblem(w, r, newProblem(CodeBusy, "Too many reports are being written; try again soon."))
		return
	}
	defer leave()
	out := &reportWriter{w: w, form: form, now: now, query: &query}
	if r.Method == http.MethodHead {
		out.begin()
		return
	}
	if err := s.pipeline.writeReport(r.Context(), now, &query, secrets, out); err != nil {
		if !out.begun {
			h.Del("ETag")
			s.refuse(w, r, err)
			return
		}
		if r.Context().Err() == nil {
			s.fault(r, "a report was broken off", err)
		}
		panic(http.ErrAbortHandler) //nolint:forbidigo // the one way to tell a reader that the rest is missing
	}
}

// writeReport writes all rows that a query asks for. Before the last of them it makes sure that retention has not taken
// any away: they are withheld if so.
func (p *Pipeline) writeReport(ctx context.Context, now *snapshot, q *itemsQuery, secrets bool, out *reportWriter) error {
	pages := protocol.Pages(now.record.Total)
	read := func(ctx context.Context, number int) ([]byte, error) {
		rows, err := p.rows(ctx, now, number, q)
		if err != nil || len(rows) == 0 {
			return nil, err
		}
		return out.form.render(rows, secrets)
	}
	err := inOrder(ctx, 0, pages, read, func(number int, text []byte) error {
		if number == pages-1 {
			if err := p.stillThere(ctx, now); err != nil {
				return err
			}
		}
		if len(text) == 0 {
			return nil
		}
		return out.write(text)
	})
	if err != nil {
		return fmt.Errorf("report on batch %s: %w", now.record.Batch, err)
	}
	return out.end()
}

// reportWriter writes a report. The head of the answer is written with the first rows, so that what fails before can still be told.
type reportWriter struct {
	w     http.ResponseWriter
	form  *reportForm
	now   *snapshot
	query *itemsQuery
	begun bool
}

// begin writes the head of the answer.
func (o *reportWriter) begin() {
	h := o.w.Header()
	h.Set("Content-Type", o.form.media)
	name := string(o.now.record.Batch)
	if o.query.state != "" {
		name += "-" + string(o.query.state)
	}
	h.Set("Content-Disposition", `attachment; filename="`+name+"."+o.form.name+`"`)
	h.Set(headerBatchState, string(o.now.state()))
	o.w.WriteHeader(http.StatusOK)
	o.begun = true
}

func (o *reportWriter) write(text []byte) error {
	// A writer that has no deadlines, such as a recorder in a test, needs none.
	_ = http.NewResponseController(o.w).SetWriteDeadline(time.Now().Add(reportIdle))
	if !o.begun {
		o.begin()
		if o.form.header != nil {
			text = slices.Concat(o.form.header(), text)
		}
	}
	if _, err := o.w.Write(text); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// end begins a report without rows.
func (o *reportWriter) end() error {
	if o.begun {
		return nil
	}
	return o.write(nil)
}

// tag is the entity tag of a report that will never be another one, and "" of others. It is weak: another version of the server may
// write the same rows in other bytes.
func (f *reportForm) tag(now *snapshot, q *itemsQuery, secrets bool) string {
	if !now.ended() {
		return ""
	}
	shown := "redacted"
	if secrets {
		shown = "secrets"
	}
	return `W/"` + string(now.record.Batch) + "-" + f.name + "-" + string(q.state) + "-" + shown + `"`
}

// parseReportQuery returns which items are wanted, and whether with their credentials.
func parseReportQuery(r *http.Request) (itemsQuery, bool, *Problem) {
	var q itemsQuery
	q.state = protocol.ItemState(r.URL.Query().Get("state"))
	if q.state != "" && !slices.Contains(itemStates, q.state) {
		p := newProblem(CodeInvalidRequest, "state must be one of queued, running, retrying, succeeded, failed, canceled, skipped.")
		return q, false, &p
	}
	secrets, p := wantsSecrets(r)
	return q, secrets, p
}

// wantsSecrets reports whether a call asks for credentials, and refuses one that may not.
func wantsSecrets(r *http.Request) (bool, *Problem) {
	switch r.URL.Query().Get("secrets") {
	case "", "false":
		return false, nil
	case "true":
		if principalOf(r).Role.Includes(RoleAdmin) {
			return true, nil
		}
		p := newProblem(CodeForbidden, "Only the role admin may see queries, headers and form fields; leave secrets=true out.")
		return false, &p
	}
	p := newProblem(CodeInvalidRequest, "secrets must be true or false.")
	return false, &p
}

// reports counts the reports that are being written.
type reports struct {
	mu    sync.Mutex
	all   int
	byOrg map[protocol.OrgID]int
}

// join enters a report if there is room for one more; leave takes it out.
func (r *reports) join(org protocol.OrgID) (leave func(), ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all >= maxReports || r.byOrg[org] >= maxOrgReports {
		return nil, false
	}
	if r.byOrg == nil {
		r.byOrg = map[protocol.OrgID]int{}
	}
	r.all++
	r.byOrg[org]++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.all--
		if r.byOrg[org]--; r.byOrg[org] == 0 {
			delete(r.byOrg, org)
		}
	}, true
}
