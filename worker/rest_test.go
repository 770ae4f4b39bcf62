package worker

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/hosts"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage/memory"
)

// inStore is a kit whose sandboxes are at a host.
type inStore struct{ *partsKit }

func (inStore) InStore() {}

// TestItemWhoseHostRestsIsNotCharged has a worker find that the host of a part rests, while its item is spread.
func TestItemWhoseHostRestsIsNotCharged(t *testing.T) {
	t.Parallel()
	data, dest := bytesOf(manyParts, 3), &memory.Destination{}
	gate := make(chan struct{})
	open := sync.OnceFunc(func() { close(gate) })
	defer open() // also if the test fails: the worker's end waits for the parts
	k := newPartsKit(t, sourceOf(data), gated{dest, func(number int) error {
		if number > 1 {
			<-gate
		}
		return nil
	}})
	w, err := New(t.Context(), k.spreading("w1"), k.conn, Drivers{Sandboxes: inStore{k}}, k.sealer)
	if err != nil {
		t.Fatal(err)
	}
	k.start(t, w)
	k.publish(t, nil)
	until(t, "the item is spread", func() bool {
		plan, _, err := k.records.plan(t.Context(), k.ref)
		return err == nil && plan.Spread && len(k.reported()) == 1
	})
	plan, _, err := k.records.plan(t.Context(), k.ref)
	if err != nil {
		t.Fatal(err)
	}
	ref := k.ref
	ref.Part = 4
	failure := protocol.Failure{Class: protocol.Unavailable, Code: codeHostRest, Host: "endpoint", Message: "it rests"}
	state := protocol.PartState{Number: 4, Upload: plan.Upload, Worker: "w9", Failure: &failure}
	if err := k.keep(t.Context(), &protocol.PartReport{Ref: ref, Epoch: plan.Epoch, State: state}); err != nil {
		t.Fatal(err)
	}
	r := k.next(t)
	if r.State != protocol.ItemRetrying || r.Failure.Code != codeHostRest || len(r.Attempts) != 0 || r.RetryAt.IsZero() {
		t.Errorf("the receipt says %+v", r)
	}
	open()
	r = k.final(t)
	k.arrived(t, dest, &r, data)
	if len(r.Attempts) != 1 || r.ResumedFrom < testPart {
		t.Errorf("the receipt says %+v", r)
	}
}

// TestItemPutAwayIsNotClaimed: who shows items takes those that are claimed for running. Here a claim is rewritten for nothing else within minutes.
func TestItemPutAwayIsNotClaimed(t *testing.T) {
	t.Parallel()
	k := newPartsKitOn(t, brokerWaiting(t, time.Hour), sourceOf(bytesOf(manyParts, 3)), &memory.Destination{})
	w, err := New(t.Context(), k.config("w1"), k.conn, Drivers{Sandboxes: inStore{k}}, k.sealer)
	if err != nil {
		t.Fatal(err)
	}
	k.rests(t, w)
	k.start(t, w)
	k.publish(t, nil)
	r := k.next(t)
	if f := r.Failure; r.State != protocol.ItemRetrying || f == nil || f.Code != codeHostRest || f.Class != protocol.Throttled || f.Cause == "" || f.Hint == "" ||
		time.Until(r.RetryAt) < time.Minute {
		t.Fatalf("the receipt says %+v, %+v", r, r.Failure)
	}
	bucket := bucketFor(t, k.conn, broker.ClaimBucket)
	until(t, "the claim does not name the item any more", func() bool {
		entry, err := bucket.Get(t.Context(), protocol.Token("w1"))
		var claim protocol.Claim
		return err == nil && json.Unmarshal(entry.Value, &claim) == nil && len(claim.Held) == 0
	})
}

// TestHintOfTheLastAttemptPromisesNothing: an item that has waited for too long does not go on by itself, if it was its last attempt.
func TestHintOfTheLastAttemptPromisesNothing(t *testing.T) {
	t.Parallel()
	later := &hosts.LaterError{Key: hosts.Key{Host: "https://example.org"}, Resting: true, Spent: true, Wait: time.Second, Down: time.Hour}
	res := (&Worker{}).unserved(&job{}, later)
	if hint := res.failure.Hint; !strings.Contains(hint, "retry the item") || strings.Contains(hint, "by itself") {
		t.Errorf("the hint is %q", hint)
	}
	if hint := restFailure(later).Hint; !strings.Contains(hint, "by itself") {
		t.Errorf("that of an item that waits is %q", hint)
	}
}
