package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/copyfleet/copyfleet/loadtest/record"
	"github.com/copyfleet/copyfleet/loadtest/workload"
)

func pageOf(t *testing.T, run *record.Run) string {
	t.Helper()
	var b bytes.Buffer
	if err := HTML(&b, run, Summarize(run)); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPageGolden(t *testing.T) {
	t.Parallel()
	for name, run := range runs(t) {
		golden(t, name+".html", pageOf(t, run))
	}
}

// elements are the names of the elements of a page, and the attributes that could load or run something.
func elements(t *testing.T, page string) (names map[string]int, loads []string) {
	t.Helper()
	names = map[string]int{}
	tokens := html.NewTokenizer(strings.NewReader(page))
	for {
		switch tokens.Next() {
		case html.ErrorToken:
			if !errors.Is(tokens.Err(), io.EOF) {
				t.Fatal(tokens.Err())
			}
			return names, loads
		case html.StartTagToken, html.SelfClosingTagToken:
			token := tokens.Token()
			names[token.Data]++
			for _, a := range token.Attr {
				if a.Key == "src" || a.Key == "href" || a.Key == "style" || strings.HasPrefix(a.Key, "on") || strings.Contains(a.Val, "url(") {
					loads = append(loads, token.String())
				}
			}
		case html.TextToken, html.EndTagToken, html.CommentToken, html.DoctypeToken:
		}
	}
}

// Whatever a server, a file or an option says, the page has no script, loads nothing, and shows no character that changes how others are read.
func TestPageIsHarmless(t *testing.T) {
	t.Parallel()
	for name, run := range runs(t) {
		page := pageOf(t, run)
		names, loads := elements(t, page)
		if names["script"] > 0 || names["img"] > 0 || names["link"] > 0 || names["iframe"] > 0 || len(loads) > 0 {
			t.Errorf("%s has %v, %q", name, names, loads)
		}
		if strings.ContainsAny(page, "\x1b\u202e\x00") {
			t.Errorf("%s has a control character", name)
		}
	}
}

var svg = regexp.MustCompile(`(?s)<svg.*?</svg>`)

// Every picture is well-formed, all that it draws is within it, and every number in it is one.
func TestPicturesAreSound(t *testing.T) {
	t.Parallel()
	for name, run := range runs(t) {
		pictures := svg.FindAllString(pageOf(t, run), -1)
		if (len(pictures) == 0) != (name == "nothing" || name == "point") {
			t.Errorf("%s has %d pictures", name, len(pictures))
		}
		for _, picture := range pictures {
			if strings.Contains(picture, "NaN") || strings.Contains(picture, "Inf") {
				t.Errorf("%s: %s", name, picture)
			}
			decoder := xml.NewDecoder(strings.NewReader(picture))
			for {
				if _, err := decoder.Token(); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
			}
		}
		for _, c := range append(timeCharts(run.Totals), latencyCharts(run.Totals)...) {
			for _, s := range append(c.Lines, c.Areas...) {
				for pair := range strings.FieldsSeq(s.Points) {
					x, y := pairOf(t, pair)
					if x < c.Left || x > c.Right || y < c.Top || y > c.Bottom {
						t.Errorf("%s, %s: %s lies outside", name, c.Title, pair)
					}
				}
			}
			for _, b := range append(c.Bars, c.Shades...) {
				if b.X < c.Left || b.X+b.Width > c.Right+2 || b.Y < c.Top || b.Y+b.Height > c.Bottom+0.1 {
					t.Errorf("%s, %s: %+v lies outside", name, c.Title, b)
				}
			}
			if n := len(c.TicksX); n < 1 || n > 40 || len(c.TicksY) < 2 || len(c.TicksY) > 40 {
				t.Errorf("%s, %s: %d and %d ticks", name, c.Title, n, len(c.TicksY))
			}
		}
	}
}

// A day is drawn in a thousand points that leave out no extreme, and the page stays small.
func TestLongRunIsDrawnInFewPoints(t *testing.T) {
	t.Parallel()
	const day = 86_400
	totals := &record.Totals{From: time.Minute, To: day * time.Second, Seconds: make([]record.Second, day)}
	for at := range totals.Seconds {
		totals.Seconds[at] = record.Second{Ops: 100 + 10*math.Sin(float64(at)/1000), Bytes: 1 << 20}
	}
	totals.Seconds[5000].Ops, totals.Seconds[70_000].Ops, totals.Seconds[3].Errors = 0, 1000, 7
	list := points(totals, mostPoints)
	low, high, mean, errors, last := math.Inf(1), 0.0, 0.0, 0, 0
	for _, p := range list {
		if p.from != last || p.ops.low > p.ops.mean || p.ops.mean > p.ops.high {
			t.Fatalf("%+v", p)
		}
		low, high, errors, last = min(low, p.ops.low), max(high, p.ops.high), errors+p.errors, p.to
		mean += p.ops.mean * float64(p.to-p.from) / day
	}
	want := 0.0
	for _, s := range totals.Seconds {
		want += s.Ops / day
	}
	if len(list) > mostPoints || len(list) < mostPoints/2 || low != 0 || high != 1000 || errors != 7 || last != day || math.Abs(mean-want) > 1e-6 {
		t.Errorf("%d points from %v to %v, mean %v of %v, %d errors, until %d", len(list), low, high, mean, want, errors, last)
	}
	if page := pageOf(t, &record.Run{Totals: totals}); len(page) > 200_000 || !strings.Contains(page, "Each point is 1 min 27 s") {
		t.Errorf("the page has %d bytes", len(page))
	}
}

// The curves say what the histograms say.
func TestCurvesAreTheLatencies(t *testing.T) {
	t.Parallel()
	r := record.NewRecorder(0, nil)
	for i := range 1000 { // 1 ms to 1 s
		r.Add(&record.Op{Kind: workload.Get, Due: time.Duration(i) * time.Millisecond, Took: time.Duration(i+1) * time.Millisecond})
	}
	totals, err := r.Totals()
	if err != nil {
		t.Fatal(err)
	}
	c := percentileChart(curves(totals))
	pairs := strings.Fields(c.Lines[0].Points)
	for _, want := range []struct{ share, ms float64 }{{0, 1}, {0.5, 500}, {0.9, 900}, {0.99, 990}, {1, 1000}} {
		x := c.Right
		if want.share < 1 {
			x = c.across(nines(want.share) / 3)
		}
		y := c.up(math.Log(want.ms) / math.Log(1000))
		near := false
		for _, pair := range pairs {
			px, py := pairOf(t, pair)
			near = near || math.Abs(px-x) < 4 && math.Abs(py-y) < 4
		}
		if !near {
			t.Errorf("the curve does not pass %v: %.0f,%.0f", want, x, y)
		}
	}
}

func pairOf(t *testing.T, pair string) (x, y float64) {
	t.Helper()
	if _, err := fmt.Sscanf(pair, "%g,%g", &x, &y); err != nil {
		t.Fatalf("%s: %v", pair, err)
	}
	return x, y
}
