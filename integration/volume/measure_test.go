package volume

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
)

const (
	traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	parent  = "00-" + traceID + "-00f067aa0ba902b7-01"
)

// metrics reads the sum of each metric over its labels.
func metrics(t *testing.T, f *mixtest.Fleet) map[string]float64 {
	t.Helper()
	answer, err := f.API.Call(t.Context(), http.MethodGet, "/metrics", nil, nil)
	if err != nil || answer.Status != http.StatusOK {
		t.Fatalf("%d %v", answer.Status, err)
	}
	sums := map[string]float64{}
	for _, m := range metricLine.FindAllStringSubmatch(string(answer.Body), -1) {
		value, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			t.Errorf("%q: %v", m[0], err)
		}
		sums[m[1]] += value
	}
	return sums
}

var metricLine = regexp.MustCompile(`(?m)^(copyfleet_\w+)(?:\{.*\})? (\S+)$`)

// TestMeasured has a large batch run under a trace, and finds it in each receipt and the whole of it in the metrics.
func TestMeasured(t *testing.T) {
	t.Parallel()
	f, _ := up(t, mixtest.Steady)
	batch := append(f.Small("measured", 580), failing(f, "missing", 20)...)
	answer, err := f.API.Call(t.Context(), http.MethodPost, "/v1/batches", map[string]string{"traceparent": parent}, map[string]any{"items": f.Items(batch)})
	if err != nil || answer.Status != http.StatusAccepted {
		t.Fatalf("%d %v %s", answer.Status, err, answer.Body)
	}
	receipts := f.Check(t, answer.Batch(), batch, limit)
	attempts, bytes := 0, int64(0)
	for i := range receipts {
		if receipts[i].TraceID != traceID {
			t.Fatalf("item %d has trace %q", i, receipts[i].TraceID)
		}
		attempts += len(receipts[i].Attempts)
		bytes += receipts[i].Bytes
	}
	wanted := map[string]float64{
		"copyfleet_accepted_items_total": 600, "copyfleet_attempts_total": float64(attempts), "copyfleet_copied_bytes_total": float64(bytes),
		"copyfleet_folded_reports_total": 600, "copyfleet_fed_items_total": 600, "copyfleet_queue_items": 0, "copyfleet_slots": 32,
	}
	var wrong []string
	mixtest.Until(limit, func() bool { // the last acknowledgements may be on their way when the batch has ended
		sums := metrics(t, f)
		wrong = nil
		for name, want := range wanted {
			if got, there := sums[name]; !there || got != want {
				wrong = append(wrong, fmt.Sprintf("%s is %v (there: %v), must be %v", name, got, there, want))
			}
		}
		return len(wrong) == 0
	})
	for _, what := range wrong {
		t.Error(what)
	}
}
