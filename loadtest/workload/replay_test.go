package workload

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"
)

func sample(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func schedule(t testing.TB, text []byte) *Schedule {
	t.Helper()
	s, err := ReadSchedule(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// items are those of a schedule.
func items(s *Schedule) (list []scheduled) {
	for i := range s.Len() {
		list = append(list, *s.item(i))
	}
	return list
}

// The samples are reports of one batch, as the program writes them.
func TestReportsOfBothForms(t *testing.T) {
	t.Parallel()
	var zipped, small bytes.Buffer
	gz := gzip.NewWriter(&zipped)
	_, _ = gz.Write(sample(t, "report.csv"))
	gz.Close()
	zs, err := zstd.NewWriter(&small)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = zs.Write(sample(t, "report.ndjson"))
	zs.Close()
	for name, text := range map[string][]byte{
		"csv": sample(t, "report.csv"), "ndjson": sample(t, "report.ndjson"), "csv, gzip": zipped.Bytes(), "ndjson, zstd": small.Bytes(),
		"with a byte order mark": append([]byte("\xef\xbb\xbf"), sample(t, "report.csv")...),
	} {
		s := schedule(t, text)
		want := []scheduled{{0, 0}, {114821497, 1}, {258062258, 5000}, {317978183, 70000}, {437865722, 300}}
		if diff := cmp.Diff(want, items(s), cmp.AllowUnexported(scheduled{})); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
		if s.Left != (Left{Failed: 1, Skipped: 1}) || s.Truncated || s.Bytes() != 75301 || s.Largest() != 70000 || s.Span() != 437865722 {
			t.Errorf("%s: %+v, %v, %d bytes, %d, %v", name, s.Left, s.Truncated, s.Bytes(), s.Largest(), s.Span())
		}
		if text := s.Left.String(); text != "1 that were not copied, 1 that were skipped" {
			t.Errorf("%q", text)
		}
	}
}

const csvStart = "receipt_bytes,id,receipt_state,receipt_started_at\n"

func csvItem(bytes, state, start string) string { return bytes + ",x," + state + "," + start + "\n" }

func jsonItem(bytes, state, start string) string {
	return `{"id":"x","receipt":{"state":"` + state + `","bytes":` + bytes + `,"attempts":[{"start":"` + start + `"},{"start":"bad"}]}}` + "\n"
}

const noon = "2026-11-22T12:00:00Z"

func TestReportsThatAreNone(t *testing.T) {
	t.Parallel()
	good, goodJSON := csvItem("5", "succeeded", noon), jsonItem("5", "succeeded", noon)
	for name, c := range map[string]struct{ text, want string }{
		"nothing":                {"", "it is empty"},
		"blank":                  {" \n\n", "it is empty"},
		"blanks without end":     {strings.Repeat("\n", 1<<20), "nothing but blanks"},
		"words":                  {"hello\nworld\n", "line 1: there are no columns"},
		"a manifest":             {`{"src":{"type":"httpGetLocation","url":"http://user:secret@x/"},"dest":{}}` + "\n", "line 1: it has no receipt"},
		"other JSON":             {"{\"a\":\n1}\n", "line 1: it is no item in JSON"},
		"JSON, then words":       {goodJSON + "secret\n" + goodJSON, "line 2: it is no item in JSON"},
		"a number as text":       {jsonItem(`"5"`, "succeeded", noon), "line 1: it is no item in JSON"},
		"a huge number":          {jsonItem("99999999999999999999", "succeeded", noon), "line 1: it is no item in JSON"},
		"a negative size":        {goodJSON + jsonItem("-5", "succeeded", noon), "line 2: an item of -5 bytes"},
		"a negative size in CSV": {csvStart + good + csvItem("-5", "succeeded", noon), "line 3: an item of -5 bytes"},
		"no number":              {csvStart + csvItem("five", "succeeded", noon), `line 2: "five" is no number of bytes`},
		"no state":               {csvStart + csvItem("5", "done", noon), `line 2: "done" is no state of an item`},
		"a long state":           {csvStart + csvItem("5", strings.Repeat("d", 10000), noon), "dddd\"… is no state"},
		"no time":                {csvStart + csvItem("5", "succeeded", "yesterday"), `line 2: "yesterday" is no time`},
		"before computers":       {csvStart + csvItem("5", "succeeded", "1812-01-01T00:00:00Z"), "is no time"},
		"after them":             {csvStart + csvItem("5", "succeeded", "9999-12-31T23:59:59Z"), "is no time"},
		"two years":              {goodJSON + jsonItem("1", "succeeded", "2028-11-22T12:00:00Z"), "line 2: it was begun 731 days from another item"},
		"a cell too many":        {csvStart + good + "1,2,3,4,5\n" + good, "line 3: it has another number of columns"},
		"a stray quote":          {csvStart + good + "1\",x,succeeded," + noon + "\n" + good, "line 3: a quote stands where none may be"},
		"an endless quote":       {csvStart + good + "\"" + strings.Repeat("line\n", 1<<20), "line 3: it is longer than"},
		"an endless line":        {goodJSON + `{"id":"` + strings.Repeat("x", 5<<20), "line 2: it is longer than"},
		"all failed":             {csvStart + csvItem("0", "failed", noon), "no item of it was copied: there is nothing to replay (1 that were not copied)"},
		"no items":               {csvStart, "nothing to replay (it has no items)"},
		"broken gzip":            {"\x1f\x8bxxxxxxxxxxxxxxxxxxxxxx", "gzip cannot be read"},
		"broken zstd":            {"\x28\xb5\x2f\xfdxxxxxxxxxxxxxxxxxxxx", "cannot be read"},
		"one cut line":           {`{"id":"x","rec`, "line 1: it is no item in JSON"},
	} {
		_, err := ReadSchedule(strings.NewReader(c.text))
		if !errors.Is(err, ErrReport) || !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%s: %.300v", name, err)
		}
		if err != nil && (len(err.Error()) > 400 || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%s: %.500v", name, err)
		}
	}
}

func TestWhatIsLeftOutIsCounted(t *testing.T) {
	t.Parallel()
	text := ""
	for _, state := range []string{"queued", "running", "retrying", "failed", "canceled"} {
		text += jsonItem("0", state, noon)
	}
	text += jsonItem("0", "skipped", noon) + jsonItem("5368709121", "succeeded", noon) + "\n" + jsonItem("5368709120", "succeeded", noon)
	text += `{"receipt":{"state":"succeeded","bytes":7}}` + "\r\n"
	s := schedule(t, []byte(text))
	if want := (Left{Failed: 5, Skipped: 1, TooLarge: 1, WithoutAt: 1}); s.Left != want || s.Len() != 1 || s.Left.Total() != 8 {
		t.Errorf("%+v, %d items", s.Left, s.Len())
	}
}

// A report that breaks off is replayed as far as it goes, and says so.
func TestReportsThatBreakOff(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"report.csv", "report.ndjson"} {
		whole := sample(t, name)
		for cut := range whole {
			if cut > 1000 && cut < len(whole)-700 { // the lines between are like those before and after
				continue
			}
			s, err := ReadSchedule(bytes.NewReader(whole[:cut]))
			if err != nil {
				if lines := bytes.Count(whole[:cut], []byte("\n")); lines > 1 {
					t.Fatalf("%s, %d bytes: %v", name, cut, err)
				}
				continue
			}
			// Whether a line is whole without its end cannot be told of CSV; what is taken of it is.
			ends := whole[cut-1] == '\n' || name == "report.ndjson" && whole[cut] == '\n'
			if ends && s.Truncated || !ends && !s.Truncated && name == "report.ndjson" {
				t.Errorf("%s, %d bytes: truncated: %v", name, cut, s.Truncated)
			}
			for _, item := range items(s) {
				if !slices.Contains([]int64{0, 1, 5000, 70000, 300}, item.size) {
					t.Fatalf("%s, %d bytes: an item of %d bytes", name, cut, item.size)
				}
			}
		}
	}
	var zipped bytes.Buffer
	gz := gzip.NewWriter(&zipped)
	for range 2000 {
		_, _ = gz.Write(sample(t, "report.ndjson"))
	}
	gz.Close()
	if s := schedule(t, zipped.Bytes()[:zipped.Len()/2]); !s.Truncated || s.Len() < 1000 {
		t.Errorf("%d items, truncated: %v", s.Len(), s.Truncated)
	}
}

// manyItems is the report of a batch of n items of sizes from 0 to 999.
func manyItems(n int) io.Reader {
	r := rand.New(rand.NewPCG(1, 1))
	start, at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), 0
	var line []byte
	return readerFunc(func(p []byte) (int, error) {
		if len(line) == 0 {
			switch {
			case at > n:
				return 0, io.EOF
			case at == 0:
				line = []byte(csvStart)
			default:
				line = append(line, csvItem(fmt.Sprint(r.IntN(1000)), "succeeded", start.Add(time.Duration(r.IntN(n))*time.Millisecond).Format(time.RFC3339Nano))...)
			}
			at++
		}
		copied := copy(p, line)
		line = line[copied:]
		return copied, nil
	})
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestScheduleTakesSixteenBytesAnItem(t *testing.T) {
	const n = 500_000
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	s, err := ReadSchedule(manyItems(n))
	if err != nil {
		t.Fatal(err)
	}
	if grown := int64(heap()) - int64(before); s.Len() != n || grown > 16*n+1<<20 {
		t.Errorf("%d items take %d bytes", s.Len(), grown)
	}
	last := int64(0)
	for i := range s.Len() {
		if s.item(i).at < last {
			t.Fatalf("item %d is out of order", i)
		}
		last = s.item(i).at
	}
	runtime.KeepAlive(s)
}

func TestReportsAreBounded(t *testing.T) {
	t.Parallel()
	r := reportRows{schedule: &Schedule{}, n: mostSchedule}
	if err := r.take(7, &reportRow{state: "failed"}); err == nil || !strings.Contains(err.Error(), "line 7: it has more than 10000000 items") {
		t.Error(err)
	}
}

// The generators of a run share a schedule: each item is made once, when it is due.
func TestReplayIsShared(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := &Schedule{}
		start := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
		n := rapid.IntRange(1, 40).Draw(t, "items")
		for range n {
			s.add(start.Add(time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "at"))), rapid.Int64Range(0, 1000).Draw(t, "size"))
		}
		s.settle()
		generators := rapid.IntRange(1, 5).Draw(t, "generators")
		kind := rapid.SampledFrom([]Kind{Put, Get, Copy, Multipart}).Draw(t, "kind")
		speed := rapid.SampledFrom([]float64{0, 0.5, 1, 3}).Draw(t, "speed")
		made := make([]bool, n)
		for g := range generators {
			l := NewLoad(Config{Generator: g, Generators: generators, Mix: Only(kind), Schedule: s, Speed: speed, Objects: map[bool]int{true: 1000}[kind == Get || kind == Copy]})
			if l.Open() != (speed > 0) {
				t.Fatalf("speed %v: open %v", speed, l.Open())
			}
			for op, ok := l.Prepare(); ok; op, ok = l.Prepare() {
				l.End(&op, true)
			}
			for i, op := range row(l, n+1) {
				at := g + i*generators
				item := s.item(at)
				due := time.Duration(0)
				if speed > 0 {
					due = time.Duration(float64(item.at) / speed)
				}
				if d := op.Due - due; made[at] || op.Kind != kind || op.Object.Size != item.size || d < -time.Microsecond || d > time.Microsecond {
					t.Fatalf("item %d %+v: %+v, again: %v", at, item, op, made[at])
				}
				made[at] = true
			}
		}
		if slices.Contains(made, false) {
			t.Fatalf("not all were made: %v", made)
		}
	})
}

// Where there are more sizes than objects, each get is of the object whose size is nearest.
func TestReplayOfNearestSizes(t *testing.T) {
	t.Parallel()
	s, err := ReadSchedule(manyItems(3000))
	if err != nil {
		t.Fatal(err)
	}
	for _, most := range []int{1, 2, 10, 300} {
		l := NewLoad(Config{Mix: Only(Get), Schedule: s, Objects: most})
		var there []int64
		for op, ok := l.Prepare(); ok; op, ok = l.Prepare() {
			l.End(&op, true)
			there = append(there, op.Object.Size)
		}
		if len(there) > most || len(there) < most*2/3 {
			t.Errorf("%d objects, not %d", len(there), most)
		}
		if most > 1 && (slices.Min(there) > 1 || slices.Max(there) < 998) {
			t.Errorf("sizes from %d to %d", slices.Min(there), slices.Max(there))
		}
		for i, op := range row(l, 3001) {
			want := s.item(i).size
			for _, size := range there {
				if abs(size-want) < abs(op.Object.Size-want) {
					t.Fatalf("an item of %d bytes was the object of %d, though there is one of %d", want, op.Object.Size, size)
				}
			}
		}
	}
}

func abs(n int64) int64 { return max(n, -n) }

func TestReplayKeepsTheLimitsOfALoad(t *testing.T) {
	t.Parallel()
	s, err := ReadSchedule(manyItems(1000))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(row(NewLoad(Config{Mix: Only(Put), Schedule: s, Count: 7}), 100)); n != 7 {
		t.Errorf("%d operations, not 7", n)
	}
	bytes := int64(0)
	for _, op := range row(NewLoad(Config{Mix: Only(Put), Schedule: s, MaxBytes: 20_000}), 1000) {
		bytes += op.Object.Size
	}
	if bytes > 20_000 || bytes < 19_000 {
		t.Errorf("%d bytes, not about 20000", bytes)
	}
	l := NewLoad(Config{Mix: Only(Put), Schedule: s, Speed: 2})
	due := 0
	for i := range s.Len() {
		if time.Duration(s.item(i).at/2) < 100*time.Millisecond {
			due++
		}
	}
	if n := l.DueBefore(100 * time.Millisecond); n != due || due == 0 {
		t.Errorf("%d are due before, not %d", n, due)
	}
	if op, ok := l.Next(); !ok || op.Due < 100*time.Millisecond {
		t.Errorf("%+v, %v", op, ok)
	}
	if n := l.DueBefore(time.Hour); n != s.Len()-due-1 {
		t.Errorf("%d are due to the end", n)
	}
	if _, ok := l.Next(); ok {
		t.Error("a replay goes on after its last item")
	}
}

func TestSpeeds(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]float64{"1": 1, "2.5": 2.5, "x4": 4, "10x": 10, "flat": 0} {
		if got, err := ParseSpeed(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "0", "-1", "NaN", "Inf", "1e9", "fast", "1e-9"} {
		if got, err := ParseSpeed(text); err == nil {
			t.Errorf("%s: %v", text, got)
		}
	}
}

func FuzzReadSchedule(f *testing.F) {
	f.Add(sample(f, "report.csv"))
	f.Add(sample(f, "report.ndjson"))
	f.Add([]byte(csvStart + csvItem("5", "succeeded", noon)))
	f.Add([]byte(jsonItem("5", "succeeded", noon) + "{"))
	f.Add([]byte("\x28\xb5\x2f\xfd\x04\x00\x01\x00\x00"))
	f.Add([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := ReadSchedule(bytes.NewReader(text))
		if err != nil {
			if !errors.Is(err, ErrReport) {
				t.Fatalf("%v", err)
			}
			return
		}
		last := scheduled{}
		for _, item := range items(s) {
			if item.at < last.at || item.size < 0 || item.size > MostBytes || time.Duration(item.at) > longestSpan {
				t.Fatalf("%+v after %+v", item, last)
			}
			last = item
		}
		if s.Len() == 0 || s.item(0).at != 0 || s.Len()+s.Left.Total() > len(text) && !bytes.HasPrefix(text, []byte("\x28")) && !bytes.HasPrefix(text, []byte("\x1f")) {
			t.Fatalf("%d items", s.Len())
		}
	})
}
