package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/copyfleet/copyfleet/loadtest/workload"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// run is a made-up run of some seconds: what a store with a few slow moments does.
func run(seed uint64, n int) []Op {
	r := rand.New(rand.NewPCG(seed, 1))
	ops := make([]Op, n)
	for i := range ops {
		kind := workload.Kinds()[r.IntN(5)]
		op := Op{Kind: kind, Due: time.Duration(r.Int64N(int64(8 * time.Second))), Host: []string{"a:9000", "b\"9000"}[r.IntN(2)]}
		op.Lag = time.Duration(r.Int64N(3) * 1000)
		op.Wait = time.Duration(r.Int64N(2) * r.Int64N(int64(10*time.Millisecond)))
		op.Took = op.Wait + time.Duration(math.Exp(r.NormFloat64()*2)*float64(time.Millisecond))
		if kind == workload.Get || kind == workload.Put {
			op.Bytes = r.Int64N(1 << (10 + r.IntN(15)))
		}
		if kind == workload.Get {
			op.First = op.Wait + (op.Took-op.Wait)/2 + 1
		}
		if r.IntN(50) == 0 {
			op.Fault = &Fault{Class: "Temporary", Code: "slow_down", Message: strings.Repeat("x", r.IntN(600))}
		}
		ops[i] = op
	}
	slices.SortFunc(ops, func(a, b Op) int { return int(a.end() - b.end()) })
	return ops
}

const (
	warmUp = time.Second
	stop   = 7 * time.Second
)

// recorded records a run as a generator does, which stops in its middle.
func recorded(t *testing.T, ops []Op, file *Writer) *Totals {
	t.Helper()
	r := NewRecorder(warmUp, file)
	stopped := false
	for i := range ops {
		if !stopped && ops[i].end() > stop {
			r.Stop(stop, 3)
			stopped = true
		}
		r.Add(&ops[i])
	}
	totals, err := r.Totals()
	if err != nil {
		t.Fatal(err)
	}
	return totals
}

// The sums agree with a slow and simple computation on all operations.
func TestSumsAreExact(t *testing.T) {
	t.Parallel()
	ops := run(1, 20_000)
	totals := recorded(t, ops, nil)
	var n, failed, outside, bytes int64
	var done, moved float64
	took := map[workload.Kind][]time.Duration{}
	for i := range ops {
		op := &ops[i]
		if op.Fault == nil {
			begin, end := (op.Due + op.Wait).Seconds(), op.end().Seconds()
			if share := (min(end, stop.Seconds()) - max(begin, warmUp.Seconds())) / (end - begin); share > 0 {
				done += share
				moved += share * float64(op.Bytes)
			}
		}
		switch {
		case op.Due < warmUp || op.Due >= stop:
			outside++
		case op.Fault != nil:
			failed++
		default:
			n++
			bytes += op.Bytes
			took[op.Kind] = append(took[op.Kind], op.Took)
		}
	}
	var sum Group
	byKind := map[workload.Kind]*Histogram{}
	for _, g := range totals.Groups {
		sum.Ops, sum.Errors, sum.Bytes, sum.Done, sum.Moved = sum.Ops+g.Ops, sum.Errors+g.Errors, sum.Bytes+g.Bytes, sum.Done+g.Done, sum.Moved+g.Moved
		if byKind[g.Kind] == nil {
			byKind[g.Kind] = &Histogram{}
		}
		byKind[g.Kind].Merge(&g.Latency)
	}
	if sum.Ops != n || sum.Errors != failed || sum.Bytes != bytes || int64(totals.Outside) != outside || totals.NotBegun != 3 {
		t.Errorf("%+v, %d outside; counted are %d, %d failed, %d bytes, %d outside", sum, totals.Outside, n, failed, bytes, outside)
	}
	if math.Abs(sum.Done-done) > 1e-6*done || math.Abs(sum.Moved-moved) > 1e-6*moved {
		t.Errorf("%v done and %v moved, not %v and %v", sum.Done, sum.Moved, done, moved)
	}
	if len(totals.Faults) == 0 || len(totals.Faults[0].Fault.Message) > mostMessage {
		t.Errorf("%+v", totals.Faults)
	}
	for kind, all := range took {
		slices.Sort(all)
		for _, q := range []float64{0.5, 0.9, 0.99, 0.999, 1} {
			exact := all[max(0, int(math.Ceil(q*float64(len(all))-1e-9))-1)]
			if got := byKind[kind].Quantile(q); math.Abs(float64(got-exact)) > 0.0011*float64(exact) {
				t.Errorf("%s: quantile %v is %v, not %v", kind, q, got, exact)
			}
		}
	}
	seconds := 0.0
	for at := 1; at < 7; at++ {
		seconds += totals.Seconds[at].Ops
	}
	if math.Abs(seconds-done) > 1e-6*done {
		t.Errorf("the seconds of the interval have %v operations, not %v", seconds, done)
	}
}

func written(t *testing.T, ops []Op, partial string) []byte {
	t.Helper()
	var file bytes.Buffer
	w, err := NewWriter(&file, &Header{Run: "r", WarmUp: warmUp, Seed: 7, Options: json.RawMessage(`{"size":"4KiB"}`)})
	if err != nil {
		t.Fatal(err)
	}
	recorded(t, ops, w)
	if err := w.Close(partial); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

func opener(content []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
}

func text(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// What is read from the file is what the generator itself has summed up, to the last digit.
func TestFileSaysWhatTheRunSaid(t *testing.T) {
	t.Parallel()
	ops := run(2, 2000)
	file := written(t, ops, "")
	run, err := Sum(opener(file), Cut{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := text(t, run.Totals), text(t, recorded(t, ops, nil)); got != want {
		t.Errorf("read is\n%.600s\nrecorded was\n%.600s", got, want)
	}
	if h := run.Headers[0]; h.Seed != 7 || string(h.Options) != `{"size":"4KiB"}` || h.Format != Format || len(run.Partial) != 0 {
		t.Errorf("%+v %v", h, run.Partial)
	}
	cut, err := Sum(opener(file), Cut{Head: 2 * time.Second, Tail: 3 * time.Second})
	if err != nil || cut.Totals.From != 2*time.Second || cut.Totals.To != 4*time.Second {
		t.Fatalf("%+v, %v", cut, err)
	}
	n := int64(0)
	for _, g := range cut.Totals.Groups {
		n += g.Ops + g.Errors
	}
	want := int64(0)
	for i := range ops {
		if ops[i].Due >= 2*time.Second && ops[i].Due < 4*time.Second {
			want++
		}
	}
	if n != want {
		t.Errorf("%d operations in the interval that was cut, not %d", n, want)
	}
}

func TestTotalsSurviveTheWire(t *testing.T) {
	t.Parallel()
	totals := recorded(t, run(3, 1000), nil)
	var back Totals
	if err := json.Unmarshal([]byte(text(t, totals)), &back); err != nil {
		t.Fatal(err)
	}
	if got, want := text(t, &back), text(t, totals); got != want {
		t.Errorf("%.500s\n%.500s", got, want)
	}
	for _, bad := range []string{`{"hdr":"x"}`, `{"hdr":"HISTFAAAAB"}`, `[]`, `{"hdr":"` + strings.Repeat("A", 100) + `"}`} {
		if err := json.Unmarshal([]byte(bad), new(Histogram)); err == nil {
			t.Errorf("%s is a histogram", bad)
		}
	}
}

func TestGeneratorsAddUp(t *testing.T) {
	t.Parallel()
	a, b := run(4, 1500), run(5, 1000)
	both, err := Sum(opener(written(t, a, "")), Cut{})
	if err != nil {
		t.Fatal(err)
	}
	second, err := Sum(opener(written(t, b, "interrupted")), Cut{})
	if err != nil {
		t.Fatal(err)
	}
	both.Merge(second)
	all := slices.Concat(a, b)
	slices.SortFunc(all, func(a, b Op) int { return int(a.end() - b.end()) })
	want := recorded(t, all, nil)
	if len(both.Headers) != 2 || !slices.Equal(both.Partial, []string{"interrupted"}) || len(both.Totals.Groups) != len(want.Groups) {
		t.Fatalf("%d headers, %v, %d groups", len(both.Headers), both.Partial, len(both.Totals.Groups))
	}
	for i, g := range both.Totals.Groups {
		w := want.Groups[i]
		if g.Ops != w.Ops || g.Errors != w.Errors || g.Bytes != w.Bytes || math.Abs(g.Done-w.Done) > 1e-6 || g.Latency.Quantile(0.99) != w.Latency.Quantile(0.99) {
			t.Errorf("%s %s %s: %d %v, not %d %v", g.Kind, g.Class, g.Host, g.Ops, g.Done, w.Ops, w.Done)
		}
	}
}

// A generator that stopped early leaves the throughput of the others as it was.
func TestThroughputsAddUp(t *testing.T) {
	t.Parallel()
	puts := func(to time.Duration, done float64) *Totals {
		return &Totals{From: warmUp, To: to, Groups: []*Group{{Kind: workload.Put, Done: done}}}
	}
	for _, order := range []bool{true, false} {
		a, b := puts(11*time.Second, 1000), puts(3*time.Second, 40) // 100 and 20 a second
		if !order {
			a, b = b, a
		}
		a.Merge(b)
		if rate := a.Groups[0].Done / a.Length().Seconds(); math.Abs(rate-120) > 1e-9 {
			t.Errorf("%v a second", rate)
		}
	}
}

func TestFilesThatAreBrokenOrOfSomethingElse(t *testing.T) {
	t.Parallel()
	whole := written(t, run(6, 3000), "")
	for _, n := range []int{len(whole) / 2, len(whole) - 1} {
		run, err := Sum(opener(whole[:n]), Cut{})
		if err != nil || len(run.Partial) == 0 || n > len(whole)/2 && run.Totals.Length() == 0 {
			t.Errorf("of %d bytes of %d: %+v, %v", n, len(whole), run, err)
		}
	}
	for name, content := range map[string][]byte{"nothing": nil, "text": []byte("hello, this is no such file"), "other JSON": zipped(t, "{}\n")} {
		if _, err := Sum(opener(content), Cut{}); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	first := `{"format":"` + Format + `"}` + "\n"
	for _, line := range []string{
		`{}`, `{"k":"fly"}`, `{"k":"put","d":-1}`, `{"k":"put","t":1,"w":2}`, `{"k":"put","n":-1}`, `{"k":"get","f":-1}`, `{"stop_ns":-1}`, `{"stop_ns":9000000000000000000}`, `{"stop_ns":1,"not_begun":-1}`, `{"k":"put","t":9000000000000000000}`, `x`, `{"end":{"ops":5}}`,
		`"` + strings.Repeat("x", mostLine) + `"`,
	} {
		if run, err := Sum(opener(zipped(t, first+line+"\n")), Cut{}); err == nil {
			t.Errorf("%.60s: %+v", line, run.Totals)
		}
	}
	flipped := slices.Clone(whole)
	flipped[len(flipped)/2] ^= 0xff
	if run, err := Sum(opener(flipped), Cut{}); err == nil && len(run.Partial) == 0 {
		t.Error("a file with a wrong byte is whole")
	}
}

// A file of which nothing but its beginning was written, as by a process that was killed, says what it is of.
func TestFileSaysAtOnceWhatItIs(t *testing.T) {
	t.Parallel()
	var file bytes.Buffer
	if _, err := NewWriter(&file, &Header{Run: "r1"}); err != nil {
		t.Fatal(err)
	}
	if run, err := Sum(opener(file.Bytes()), Cut{}); err != nil || run.Headers[0].Run != "r1" || len(run.Partial) != 1 {
		t.Errorf("%+v, %v", run, err)
	}
}

func zipped(t *testing.T, text string) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, &Header{})
	if err != nil {
		t.Fatal(err)
	}
	out.Reset() // it has the first line
	w.zip.Reset(&out)
	if _, err := io.WriteString(w.zip, text); err != nil {
		t.Fatal(err)
	}
	if err := w.zip.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestClasses(t *testing.T) {
	t.Parallel()
	for size, want := range map[int64]string{
		0: "0-1KiB", 1024: "0-1KiB", 1025: "1KiB-4KiB", 4096: "1KiB-4KiB", 4097: "4KiB-16KiB", 1 << 20: "256KiB-1MiB", 1<<20 + 1: "1MiB-4MiB", 5 << 30: "above 4GiB",
	} {
		if got := ClassOf(size).String(); got != want {
			t.Errorf("%d bytes are in %s, not %s", size, got, want)
		}
	}
}

func TestTotalsStayBounded(t *testing.T) {
	t.Parallel()
	r := NewRecorder(0, nil)
	for i := range 1200 {
		host := strings.Repeat("h", i%600)
		r.Add(&Op{Kind: workload.Get, Due: time.Duration(i) * 2 * time.Minute, Took: time.Millisecond, Host: host})
		r.Add(&Op{Kind: workload.Get, Took: 1, Host: host, Fault: &Fault{Class: "Fatal", Code: host}})
	}
	totals, err := r.Totals()
	if err != nil {
		t.Fatal(err)
	}
	if len(totals.Groups) > mostGroups+1 || len(totals.Faults) > mostFaults+1 || len(totals.Seconds) > mostSeconds || len(r.groups) > mostGroups+1 {
		t.Errorf("%d groups, %d errors, %d seconds", len(totals.Groups), len(totals.Faults), len(totals.Seconds))
	}
	n := int64(0)
	for _, g := range totals.Groups {
		n += g.Ops + g.Errors
	}
	if n != 2400 {
		t.Errorf("%d operations of 2400", n)
	}
	failed := map[string]int64{}
	for _, f := range totals.Faults {
		failed[f.Fault.Code] += f.Count
	}
	if failed["hh"] != 2 || failed[otherCode] != 1200-2*mostFaults { // not those of the last code that there was room for
		t.Errorf("%v", failed)
	}
	if at := slices.IndexFunc(totals.Seconds, func(s Second) bool { return s.Ops > 1 }); at >= 0 {
		t.Errorf("second %d has %v operations, one of which comes in two minutes", at, totals.Seconds[at].Ops)
	}
}

func BenchmarkAdd(b *testing.B) {
	w, err := NewWriter(io.Discard, &Header{})
	if err != nil {
		b.Fatal(err)
	}
	r := NewRecorder(0, w)
	ops := run(1, 1000)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r.Add(&ops[i%len(ops)])
	}
	if err := w.Close(""); err != nil {
		b.Fatal(err)
	}
}

// What asks about an object or removes it moves none of its bytes, and still has its size.
func TestOnlyContentIsMoved(t *testing.T) {
	t.Parallel()
	r := NewRecorder(0, nil)
	for _, kind := range workload.Kinds() {
		r.Add(&Op{Kind: kind, Took: time.Second, Bytes: 1 << 20})
	}
	totals, err := r.Totals()
	if err != nil {
		t.Fatal(err)
	}
	moved := map[workload.Kind]bool{workload.Put: true, workload.Get: true, workload.Multipart: true, workload.Copy: true}
	sum := 0.0
	for _, g := range totals.Groups {
		if (g.Moved > 0) != moved[g.Kind] || (g.Bytes > 0) != moved[g.Kind] || g.Class != ClassOf(1<<20) {
			t.Errorf("%+v", g)
		}
		sum += g.Moved
	}
	if len(totals.Groups) != len(workload.Kinds()) || totals.Seconds[0].Bytes != sum {
		t.Errorf("%d groups move %v, the second %v", len(totals.Groups), sum, totals.Seconds[0].Bytes)
	}
}

// A share of few durations is reached by the one that is called its quantile, and by none below.
func TestQuantilesOfFew(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 200; n++ {
		var h Histogram
		for i := range n {
			h.Add(time.Duration(i+1) * time.Microsecond)
		}
		for _, share := range []float64{0, 0.1, 0.5, 0.9, 0.99, 0.999, 1} {
			got := int(h.Quantile(share).Round(time.Microsecond) / time.Microsecond)
			if float64(got) < share*float64(n)-1e-9 || got > 1 && float64(got-1) >= share*float64(n)-1e-9 {
				t.Errorf("of %d the quantile %v is the %dth", n, share, got)
			}
		}
	}
}

// A run whose store served nothing at its end was as long as it was: its throughput is not that of the time before.
func TestRunThatEndsInSilence(t *testing.T) {
	t.Parallel()
	r := NewRecorder(0, nil)
	r.Add(&Op{Kind: workload.Put, Took: time.Second})
	r.Stop(10*time.Second, 0)
	totals, err := r.Totals()
	if err != nil || totals.Length() != 10*time.Second {
		t.Errorf("%v, %v", totals.Length(), err)
	}
	r = NewRecorder(0, nil)
	r.Add(&Op{Kind: workload.Put, Took: 2500 * time.Millisecond})
	if totals, err = r.Totals(); err != nil || totals.Length() != 3*time.Second {
		t.Errorf("without a stop: %v, %v", totals.Length(), err)
	}
}

// Operations of a year each, which a small file can have by the thousand, take no longer to read than others by more than a day has seconds.
func TestLongOperationsAreReadSoon(t *testing.T) {
	t.Parallel()
	r := NewRecorder(0, nil)
	for range 2000 {
		r.Add(&Op{Kind: workload.Put, Due: 365 * 24 * time.Hour, Took: longestRun, Bytes: 1})
	}
	if len(r.totals.Seconds) != 0 {
		t.Errorf("%d seconds", len(r.totals.Seconds))
	}
}
