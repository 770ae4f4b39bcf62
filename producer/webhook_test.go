package producer

import (
	"strings"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

func TestDeliveryLog(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	d := newDescription(t, apiDescription)
	show := func(id protocol.BatchID) answer {
		got := s.call("one/read", "GET", "/v1/batches/"+string(id)+"/webhook", "")
		d.check(t, "GET", "/v1/batches/{id}/webhook", got)
		return got
	}
	without := s.accept(1)
	show(without.Batch).want(404, CodeNotFound)
	with := s.accept(1, func(a *protocol.Acceptance) {
		a.Options.Webhook = &protocol.Webhook{Sealed: []byte("s3cret"), Shown: "https://h.test/hook"}
	})
	log := decode[webhookLogView](show(with.Batch).want(200, ""))
	if log.State != webhookPending || log.URL != "https://h.test/hook" || len(log.Attempts) != 0 || log.Delivery != with.DeliveryID() {
		t.Errorf("before the end: %+v", log)
	}

	at := time.Now().UTC()
	failure := &protocol.Failure{Class: protocol.Unavailable, Code: "webhook_http_500", Message: "Webhook not delivered: 500", Status: 500}
	whole := *failure
	whole.Hint = "the whole of it"
	receipt := protocol.Receipt{
		Index: protocol.WebhookIndex, State: protocol.ItemRetrying, Status: 500, RetryAt: at.Add(time.Minute), Failure: &whole,
		Attempts: []protocol.Attempt{{Number: 1, Worker: "w", Start: at, End: at, Failure: failure}},
	}
	key := protocol.SummaryKey("one", with.Batch)
	s.put(s.batches, key, protocol.Summary{Version: 2, Batch: with.Batch, Org: "one", Total: 1, State: protocol.BatchSucceeded, Webhook: &receipt})
	log = decode[webhookLogView](show(with.Batch).want(200, ""))
	if log.State != webhookRetrying || log.NextAttemptAt == nil || len(log.Attempts) != 1 || log.Attempts[0].Status != 500 || log.Attempts[0].Failure.Hint == "" {
		t.Errorf("after a failure: %+v", log)
	}

	receipt.State, receipt.Status, receipt.Failure = protocol.ItemSucceeded, 204, nil
	receipt.Attempts = append(receipt.Attempts, protocol.Attempt{Number: 2, Worker: "w", Start: at, End: at})
	s.put(s.batches, key, protocol.Summary{Version: 2, Batch: with.Batch, Org: "one", Total: 1, State: protocol.BatchSucceeded, Webhook: &receipt})
	got := show(with.Batch).want(200, "")
	log = decode[webhookLogView](got)
	if log.State != webhookDelivered || log.NextAttemptAt != nil || len(log.Attempts) != 2 || log.Attempts[0].Status != 500 || log.Attempts[1].Status != 204 || log.Attempts[1].Failure != nil {
		t.Errorf("after the delivery: %+v", log)
	}
	if strings.Contains(string(got.body), "s3cret") {
		t.Error("the log tells the secret")
	}
	s.call("two/read", "GET", "/v1/batches/"+string(with.Batch)+"/webhook", "").want(404, CodeBatchNotFound)
}
