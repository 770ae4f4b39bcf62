package volume

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
)

// TestFullQueue submits more than may wait: it is refused whole, with a time to come again, and taken when there is room.
func TestFullQueue(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, f *mixtest.Fleet) {
		gate := make(chan struct{})
		first := f.Small("first", 900)
		for i := range first {
			first[i].Src = mixtest.FromURL(f.GiveHalf(fmt.Sprint("/get/first/stuck/", i), first[i].Content, gate))
		}
		id := f.Submit(t, first, "")
		asked(t, f, "first/stuck", 1)
		second := f.Small("second", 600)
		lines := f.Lines(t, second)
		submit := func() mixtest.Answer {
			t.Helper()
			answer, err := f.API.Post(t.Context(), "/v1/batches", mixtest.NDJSON, map[string]string{"Idempotency-Key": "second"}, bytes.NewReader(lines))
			if err != nil {
				t.Fatal(err)
			}
			return answer
		}
		for range 3 {
			answer := submit()
			after, err := strconv.Atoi(answer.Header.Get("Retry-After"))
			if answer.Status != http.StatusTooManyRequests || err != nil || after < 1 {
				t.Errorf("%d, Retry-After %q: %s", answer.Status, answer.Header.Get("Retry-After"), answer.Body)
			}
		}
		if n := f.AskedBelow("/get/second/"); n != 0 {
			t.Errorf("%d items ran of a batch that was refused", n)
		}
		var page struct {
			Items []mixtest.BatchView `json:"items"`
		}
		if err := f.API.Get(t.Context(), "/v1/batches?state=running", &page); err != nil || len(page.Items) != 1 {
			t.Errorf("batches that run: %+v %v", page, err)
		}
		close(gate)
		var answer mixtest.Answer
		if !mixtest.Until(limit, func() bool { answer = submit(); return answer.Status == http.StatusAccepted }) {
			t.Fatalf("never accepted: %d %s", answer.Status, answer.Body)
		}
		f.API.WaitFinal(t, id, limit)
		f.Check(t, answer.Batch(), second, limit)
		f.Check(t, id, first, limit)
	}, "SLOTS=16", "MAX_QUEUED=1000", "IDLE_TIMEOUT=10m") // what is stuck is to stay so
}

// TestFullStore fills what NATS may store in the middle of an upload. The call is refused, nothing of it is kept that matters, what was accepted
// before runs to its end once there is room, and the call repeated makes one batch.
func TestFullStore(t *testing.T) {
	t.Parallel()
	room(t)
	f := mixtest.NewRoles(t, miniotest.Shared(t), mixtest.Steady)
	running := map[string]*mixtest.Process{"nats": f.StartNATSWithin(t, 3<<20)}
	start(t, f, running, "api", "aggregator", "worker")
	before := f.Small("before", 600)
	f.Check(t, f.Submit(t, before, ""), before, limit)

	random := rand.NewChaCha8([32]byte{1})
	noise := make([]byte, 3000) // does not compress, so that 1,500 items take more than there is room for
	batch := f.Small("large", 1500)
	for i := range batch {
		_, _ = random.Read(noise)
		url, _ := batch[i].Src["url"].(string)
		batch[i].Src = mixtest.FromURL(url + "?signature=" + hex.EncodeToString(noise))
	}
	lines := f.Lines(t, batch)
	submit := func() (mixtest.Answer, error) {
		return f.API.Post(t.Context(), "/v1/batches", mixtest.NDJSON, map[string]string{"Idempotency-Key": "large"}, bytes.NewReader(lines))
	}
	answer, err := submit()
	if err != nil || answer.Status != http.StatusServiceUnavailable && answer.Status != http.StatusTooManyRequests || answer.Header.Get("Retry-After") == "" {
		t.Fatalf("a full store is answered %d, Retry-After %q, %v: %s", answer.Status, answer.Header.Get("Retry-After"), err, answer.Body)
	}
	if n := f.AskedBelow("/get/large/"); n != 0 {
		t.Errorf("%d items ran of a batch that was refused", n)
	}
	kill(t, running, "nats")
	running["nats"] = f.StartNATS(t)
	if !mixtest.Until(limit, func() bool {
		answer, err = submit()
		return err == nil && answer.Status == http.StatusAccepted
	}) {
		t.Fatalf("not accepted although there is room: %d %v %s", answer.Status, err, answer.Body)
	}
	f.Check(t, answer.Batch(), batch, limit)
	if n := f.AskedBelow("/get/large/"); n != len(batch) {
		t.Errorf("%d items were run %d times", len(batch), n)
	}
}
