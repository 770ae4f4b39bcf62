package protocol_test

import (
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// TestSignNotice compares with what another implementation (Python's hmac) says.
func TestSignNotice(t *testing.T) {
	t.Parallel()
	const want = "t=1795273200,v1=10324b13cfddd509331f1750cb0e40b7c5cf818078c1bee5bf154c4424dacda0"
	if got := protocol.SignNotice("a secret", time.Unix(1795273200, 5), []byte(`{"type":"batch.ended"}`)); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestDeliveriesHaveNames: one for all attempts, and one for each batch.
func TestDeliveriesHaveNames(t *testing.T) {
	t.Parallel()
	a := protocol.Acceptance{Org: "ORG", Batch: "bat_1", Created: time.Unix(1, 0)}
	again, elsewhere, later := a, a, a
	again.Created = a.Created.UTC() // as it comes out of JSON
	elsewhere.Org, later.Created = "OTHER", time.Unix(2, 0)
	if a.DeliveryID() != again.DeliveryID() {
		t.Error("two attempts have two names")
	}
	if a.DeliveryID() == elsewhere.DeliveryID() || a.DeliveryID() == later.DeliveryID() {
		t.Error("two batches share a name")
	}
}
