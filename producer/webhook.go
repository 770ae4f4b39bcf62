package producer

import (
	"net/http"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// webhookLogView is the delivery log of the notice of a batch's end.
type webhookLogView struct {
	URL   string       `json:"url"` // without query and userinfo
	State webhookState `json:"state"`
	// Delivery is what Copyfleet-Delivery says in all attempts.
	Delivery      string               `json:"delivery"`
	Attempts      []webhookAttemptView `json:"attempts"`
	NextAttemptAt *time.Time           `json:"next_attempt_at,omitempty"`
}

// webhookAttemptView is one try at the notice.
type webhookAttemptView struct {
	Number  int               `json:"number"` // from 1
	Worker  string            `json:"worker"`
	Start   time.Time         `json:"start"`
	End     time.Time         `json:"end"`
	Status  int               `json:"http_status,omitempty"` // absent: there was no answer
	Failure *protocol.Failure `json:"failure,omitempty"`     // absent: it was delivered
}

// showWebhook shows how the notice of a batch's end was delivered.
func (s *Server) showWebhook(w http.ResponseWriter, r *http.Request) {
	record, ok := s.batchOf(w, r)
	if !ok {
		return
	}
	snap := snapshot{record: record}
	if _, err := readInto(r.Context(), s.pipeline.batches, protocol.SummaryKey(record.Org, record.Batch), &snap.summary); err != nil {
		s.refuse(w, r, err)
		return
	}
	short := snap.webhook()
	if short == nil {
		writeProblem(w, r, newProblem(CodeNotFound, "Nobody is told of the end of this batch: it was submitted without a webhook."))
		return
	}
	log := webhookLogView{URL: short.URL, State: short.State, Delivery: snap.record.DeliveryID(), Attempts: []webhookAttemptView{}}
	if told := snap.summary.Webhook; told != nil {
		if !told.State.Final() {
			log.NextAttemptAt = known(told.RetryAt)
		}
		for i := range told.Attempts {
			log.Attempts = append(log.Attempts, webhookAttempt(told, i))
		}
	}
	writeJSON(w, http.StatusOK, log)
}

// webhookAttempt shows one attempt. The receipt itself has the status of the last one, and the whole of its failure.
func webhookAttempt(told *protocol.Receipt, i int) webhookAttemptView {
	a := told.Attempts[i]
	v := webhookAttemptView{Number: a.Number, Worker: a.Worker, Start: a.Start, End: a.End, Failure: a.Failure}
	if a.Failure != nil {
		v.Status = a.Failure.Status
	}
	if i == len(told.Attempts)-1 {
		v.Status = told.Status
		if v.Failure != nil && told.Failure != nil {
			v.Failure = told.Failure
		}
	}
	return v
}
