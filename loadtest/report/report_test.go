package report

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/copyfleet/copyfleet/loadtest/record"
	"github.com/copyfleet/copyfleet/loadtest/workload"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSummary(t *testing.T) {
	t.Parallel()
	r := record.NewRecorder(time.Second, nil)
	ops := make([]record.Op, 0, 1001)
	for i := range 1000 { // 100 a second for 10 s, each of 10 ms, of 1 MiB; each tenth fails
		op := record.Op{Kind: workload.Get, Due: time.Duration(i) * 10 * time.Millisecond, Took: 10 * time.Millisecond, First: 2 * time.Millisecond, Bytes: 1 << 20, Host: "h"}
		if i%10 == 9 {
			op.Fault = &record.Fault{Class: "not_found", Code: "gone", Message: "it is gone"}
		}
		ops = append(ops, op)
	}
	ops = slices.Insert(ops, 600, record.Op{Kind: workload.Put, Due: 5 * time.Second, Took: time.Second, Bytes: 100 << 20, Host: "i"})
	for i := range ops {
		if i == 901 {
			r.Stop(9*time.Second, 4)
		}
		r.Add(&ops[i])
	}
	totals, err := r.Totals()
	if err != nil {
		t.Fatal(err)
	}
	s := Summarize(&record.Run{Totals: totals, Partial: []string{"interrupted"}})
	get := s.ByOperation["get"]
	near := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 0.001*want {
			t.Errorf("%s is %v, not %v", what, got, want)
		}
	}
	near("ops", get.Ops, 90)
	near("mib", s.MiB, 90+100.0/8)
	near("p50", get.Latency.P50, 10)
	near("max", s.Latency.Max, 1000)
	near("first byte", get.First.P99, 2)
	near("fastest", s.Seconds.Fastest.MiB, 190)
	near("slowest", s.Seconds.Slowest.MiB, 90)
	if get.Errors != 80 || s.NotBegun != 4 || s.Outside != 200 || s.Seconds.Count != 8 || s.Seconds.Fastest.At != 5 || len(s.Failures) != 1 || s.Failures[0].Count != 80 {
		t.Errorf("%+v", s)
	}
	if len(s.ByHost) != 2 || len(s.BySize) != 2 || s.BySize["256KiB-1MiB"].Operations != 720 {
		t.Errorf("%+v %+v", s.ByHost, s.BySize)
	}
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ops_per_second", "mib_per_second", "errors", "latency_ms", "by_operation", "partial"} {
		if fields[name] == nil {
			t.Errorf("there is no %s in %s", name, text)
		}
	}
	for text, want := range map[string]bool{
		"p99(get)>9ms": true, "p99(get) > 11ms": false, "max>=1s": true, "ops(get)<91": true, "ops(get)<89": false, "errors>0": true, "errors(put)>0": false,
		"error_share(get)>0.09": true, "error_share > 0.11": false, "mib<200": true, "first_p50(get)<=2ms": true, "first_p99(get)<3ms": true, "p50(delete)>1h": true,
		"ops(delete)<1": true, "first_p99(put)>1h": true,
	} {
		l, err := ParseLimit(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if holds, value := l.Holds(s); holds != want {
			t.Errorf("%s holds: %v, at %v", &l, holds, value)
		}
	}
	for text, want := range map[string]string{
		"p99(get)>9ms": "p99(get)>9ms holds: it is 10.0 ms", "errors>0": "errors>0 holds: it is 80",
		"p50(delete)>1h": "p50(delete)>1h holds: no delete went well, so there is no latency", "ops(delete)<1": "ops(delete)<1 holds: it is 0",
		"first_p50(put)>1h": "first_p50(put)>1h holds: nothing that was read has a first byte",
	} {
		l, err := ParseLimit(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := l.Tell(s); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
	for _, text := range []string{"", "p99", "p99>", "p99>50", "p98>5ms", "p99(fly)>5ms", "ops>5ms", "ops>-1", "p50>-1ms", "p99(get>5ms", "errors=0", "mib>NaN", strings.Repeat("p", 1000)} {
		if l, err := ParseLimit(text); err == nil {
			t.Errorf("%q is %+v", text, l)
		}
	}
}

func TestSummaryOfNothing(t *testing.T) {
	t.Parallel()
	r := record.NewRecorder(0, nil)
	totals, err := r.Totals()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := json.Marshal(Summarize(&record.Run{Totals: totals})); err != nil {
		t.Error(err)
	}
}

// TestBegunAtOnce is said: operations that began within less time than one took say little of what is done in a second.
func TestBegunAtOnce(t *testing.T) {
	t.Parallel()
	for stop, want := range map[time.Duration]bool{time.Millisecond: true, time.Second: false} {
		r := record.NewRecorder(0, nil)
		r.Add(&record.Op{Kind: workload.Put, Took: 100 * time.Millisecond, Bytes: 1, Host: "h"})
		r.Stop(stop, 0)
		totals, err := r.Totals()
		if err != nil {
			t.Fatal(err)
		}
		run := &record.Run{Totals: totals}
		if got := strings.Contains(strings.Join(remarks(run, Summarize(run)), " "), "All began within"); got != want {
			t.Errorf("all that began within %v of a run: it is said: %v", stop, got)
		}
	}
}

// TestCause is what a table has room for; a message that is only a place is shown as it is.
func TestCause(t *testing.T) {
	t.Parallel()
	for message, want := range map[string]string{
		"look at s3://b/copyfleet-bench/run/0/12: the endpoint does not answer: refused": "the endpoint does not answer: refused",
		"no":                                     "no",
		"read s3://b/x: ":                        "read s3://b/x: ",
		"a copy of s3://b/x to s3://b/y y: gone": "a copy of s3://b/x to s3://b/y y: gone",
	} {
		if got := cause(message); got != want {
			t.Errorf("%q: %q, not %q", message, got, want)
		}
	}
}
