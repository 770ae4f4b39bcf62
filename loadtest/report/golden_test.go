package report

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/copyfleet/copyfleet/internal/display"
	"github.com/copyfleet/copyfleet/loadtest/record"
	"github.com/copyfleet/copyfleet/loadtest/workload"
)

var update = flag.Bool("update", false, "write the golden reports")

// madeUp is a run of 60 s with a warm-up of 5 s, of several kinds, sizes and hosts.
func madeUp(t *testing.T, seed uint64, seconds int, hosts ...string) *record.Run {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 7))
	recorder := record.NewRecorder(5*time.Second, nil)
	stop := time.Duration(seconds) * time.Second
	kinds := []workload.Kind{workload.Put, workload.Get, workload.Get, workload.Get, workload.Stat, workload.Delete}
	sizes := []int64{1 << 10, 64 << 10, 1 << 20}
	for place := range 8 {
		for at := time.Duration(place) * time.Millisecond; at < stop; {
			op := record.Op{Kind: kinds[r.IntN(len(kinds))], Due: at, Host: hosts[r.IntN(len(hosts))], Bytes: sizes[r.IntN(len(sizes))]}
			typical := map[workload.Kind]float64{workload.Put: 40, workload.Get: 20, workload.Stat: 6, workload.Delete: 12}[op.Kind]
			op.Took = time.Duration(typical * math.Exp(0.5*r.NormFloat64()+0.2*math.Sin(at.Seconds()/7)) * float64(time.Millisecond))
			if r.IntN(200) == 0 {
				op.Took *= 10
			}
			if op.Kind == workload.Get {
				op.First = op.Took / 3
			}
			if second := int(at / time.Second); r.IntN(3000) == 0 || second == 33 && r.IntN(4) == 0 {
				op.Fault = &record.Fault{Class: "unavailable", Code: "SlowDown", Message: "put s3://bucket/key: the server is too busy"}
			}
			at += op.Took
			recorder.Add(&op)
		}
	}
	recorder.Stop(stop, 0)
	totals, err := recorder.Totals()
	if err != nil {
		t.Fatal(err)
	}
	return &record.Run{Totals: totals, Headers: []*record.Header{{
		Format: record.Format, Run: "01JQ8Z5W", Generators: 1, Started: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), WarmUp: 5 * time.Second, Seed: seed, Version: "1.2.3",
		Options: json.RawMessage(`{"workload":"mixed","endpoints":["http://127.0.0.1:9000"],"bucket":"bench","prefix":"copyfleet-bench","size":"1KiB:1,64KiB:1,1MiB:1","mix":"put=10,get=50,stat=20,delete=20","concurrency":8,"rate":0,"autoterm":null,"seed":7}`),
		System:  record.System{Host: "loadgen-1", Go: "go1.26.0", OS: "linux", Arch: "amd64", CPUs: 16},
	}}}
}

// hostile is a run whose hosts, options and messages want to do harm.
func hostile(t *testing.T) *record.Run {
	t.Helper()
	const bad = "\x1b[2J</td><script>alert(1)</script>\u202e\U000e0041\"'`${x}"
	run := madeUp(t, 3, 20, "h", bad)
	h := run.Headers[0]
	h.Run, h.Version, h.System = bad, bad, record.System{Host: bad, Go: bad, OS: bad, Arch: bad}
	options, _ := json.Marshal(map[string]any{bad: bad, "deep": []any{map[string]any{bad: []any{bad, nil, true, 1e300}}}})
	h.Options = options
	run.Totals.Faults[0].Fault = record.Fault{Class: bad, Code: bad, Message: bad + "\n\n\n" + strings.Repeat("x", 500)}
	run.Partial = []string{bad, strings.Repeat("long ", 200)}
	return run
}

func nothing(t *testing.T) *record.Run {
	t.Helper()
	totals, err := record.NewRecorder(0, nil).Totals()
	if err != nil {
		t.Fatal(err)
	}
	return &record.Run{Totals: totals}
}

// allFailed is a run in which nothing went well.
func allFailed(t *testing.T) *record.Run {
	t.Helper()
	recorder := record.NewRecorder(0, nil)
	for i := range 100 {
		recorder.Add(&record.Op{Kind: workload.Get, Due: time.Duration(i) * 30 * time.Millisecond, Took: time.Millisecond, Host: "h", Fault: &record.Fault{Class: "denied", Code: "AccessDenied", Message: "no"}})
	}
	recorder.Stop(3*time.Second, 12)
	totals, err := recorder.Totals()
	if err != nil {
		t.Fatal(err)
	}
	return &record.Run{Totals: totals, Partial: []string{"no operation went well any more"}}
}

// runs are all kinds of runs that a report has to be fit for. They are only read.
func runs(t *testing.T) map[string]*record.Run {
	t.Helper()
	made.Do(func() { made.runs = makeRuns(t) })
	return made.runs
}

var made struct {
	sync.Once

	runs map[string]*record.Run
}

func makeRuns(t *testing.T) map[string]*record.Run {
	t.Helper()
	late := madeUp(t, 2, 20, "h")
	for range 1000 {
		late.Totals.Lag.Add(30 * time.Millisecond)
	}
	late.Totals.NotBegun = 4321
	late.Spread = 40 * time.Millisecond
	late.Partial = []string{"it was interrupted", "generator 2 was lost", "it was interrupted"}
	many := make([]string, 40)
	for i := range many {
		many[i] = fmt.Sprintf("minio-%02d.storage.example.com:9000", i)
	}
	point := nothing(t)
	point.Totals.From, point.Totals.To = time.Second, time.Second // an interval without length
	return map[string]*record.Run{
		"mixed": madeUp(t, 1, 60, "10.0.0.1:9000", "10.0.0.2:9000"), "late": late, "hosts": madeUp(t, 4, 30, many...), "hostile": hostile(t), "nothing": nothing(t), "failed": allFailed(t),
		"point": point,
	}
}

// golden compares with a file, or writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; -update writes it):\n%s", path, diff)
	}
}

func TestTextGolden(t *testing.T) {
	t.Parallel()
	for name, run := range runs(t) {
		for _, look := range []Look{{}, {Width: 40}, {Width: 120, ASCII: true}} {
			var b bytes.Buffer
			if err := Text(&b, run, Summarize(run), look); err != nil {
				t.Fatal(err)
			}
			golden(t, fmt.Sprintf("%s-%d.txt", name, look.width()), b.String())
		}
	}
}

// Whatever the run and the width: nothing is wider, longer or a control character, and ASCII is ASCII.
func TestTextFits(t *testing.T) {
	t.Parallel()
	for name, run := range runs(t) {
		s := Summarize(run)
		for _, width := range []int{-1, 40, 47, 53, 60, 67, 80, 99, 133, 1000} {
			look := Look{Width: width, ASCII: width%2 == 0}
			var b strings.Builder
			if err := Text(&b, run, s, look); err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(b.String(), "\n")
			if len(lines) > mostLines+1 {
				t.Errorf("%s: %d lines at width %d", name, len(lines), width)
			}
			for _, line := range lines {
				if display.Width(line) > look.width() || display.Clean(line) != line {
					t.Errorf("%s at width %d: %q", name, width, line)
				}
				if look.ASCII && strings.ContainsFunc(line, func(r rune) bool { return r > 0x7e }) {
					t.Errorf("%s: not ASCII: %q", name, line)
				}
			}
		}
	}
}

// A report shouts where a run is partial, and says what makes its figures doubtful, each where it is so and only there.
func TestTextSaysWhatMatters(t *testing.T) {
	t.Parallel()
	signs := map[string]string{
		"PARTIAL RUN": "late hostile failed", "never begun": "late failed", "The generator itself was late": "late", "No operation went well": "failed",
		"Nothing was due": "nothing point", "it was interrupted (2 generators)": "late", "SIZE  ": "mixed late hosts hostile", "HOST  ": "mixed hosts hostile",
		"ERRORS  OF": "mixed late hostile failed", "SlowDown": "mixed late hostile", "a second, by MiB: fastest": "mixed late hosts hostile",
	}
	for name, run := range runs(t) {
		var b strings.Builder
		if err := Text(&b, run, Summarize(run), Look{Width: 100}); err != nil {
			t.Fatal(err)
		}
		for sign, where := range signs {
			if got, want := strings.Contains(b.String(), sign), slices.Contains(strings.Fields(where), name); got != want {
				t.Errorf("%s says %q: %v\n%s", name, sign, got, b.String())
			}
		}
	}
}

func TestTextTellsOfItsWriter(t *testing.T) {
	t.Parallel()
	run := nothing(t)
	r, w := io.Pipe()
	r.Close()
	if err := Text(w, run, Summarize(run), Look{}); err == nil {
		t.Error("what could not be written is not told")
	}
}
