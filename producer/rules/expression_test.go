package rules

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/copyfleet/copyfleet/producer/events"
)

// expressed compiles an expression on events of S3.
func expressed(t *testing.T, text string) *expression {
	t.Helper()
	x, faults := compileExpression(text, events.S3)
	if x == nil {
		t.Fatalf("%s: %+v", text, faults)
	}
	return x
}

// large is an event of about the size that one may have.
func large() *events.Event {
	list := make([]any, 20_000)
	for i := range list {
		list[i] = "x"
	}
	return &events.Event{Source: events.S3, Type: "s3:ObjectCreated:Put", Bucket: "b", Key: "k.csv", Size: 3, Fields: map[string]any{
		"id": "1", "data": map[string]any{"l": list, "n": json.Number("3"), "d": json.Number("0.5"), "far": json.Number("1e999"), "s": strings.Repeat("s3cret", 50_000), "deep": map[string]any{"a": []any{"b"}}},
	}}
}

func TestExpressions(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"size == 3 && type == 's3:ObjectCreated:Put' && key.endsWith('.csv') && bucket == 'b' && etag == ''": true,
		"data.n == 3 && event.data.n > 2.5 && data.d < 1 && data.d == 0.5":                                   true,
		"has(data.n) && !has(data.nope)":                                  true,
		"data.deep.a[0] == 'b' && 'a' in data.deep && event['id'] == '1'": true,
		"data.l.exists(x, x == 'y')":                                      false,
		"data.s.contains('nothing')":                                      false,
		"key.matches('^[a-z]+[.]csv$')":                                   true,
		"data.far == '1e999'":                                             true,
	} {
		if got, err := expressed(t, text).holds(t.Context(), large()); got != want || err != nil {
			t.Errorf("%s: %v, %v, want %v", text, got, err, want)
		}
	}
}

// TestEndless: an expression that would not end for ages is refused when it is applied, or fails on the event for its cost, which does not depend on
// the machine.
func TestEndless(t *testing.T) {
	t.Parallel()
	refused := 0
	numbers := "[" + strings.Repeat("1,", 500) + "1]"
	for _, text := range []string{
		"data.l.all(x, data.l.all(y, x == y || x != y))",
		"data.l.all(x, event == event)",
		"data.l.all(x, data.l != [1])",
		"data.l.all(x, !('y' in data.l))",
		"data.l.all(x, size([data.l, data.l] + [data.l]) == 3 && [data.l, data.l] == [data.l, data.l])",
		numbers + ".all(x, " + numbers + ".all(y, " + numbers + ".all(z, true)))",
		numbers + ".all(x, data.l.all(z, true))",
		"data.l.map(x, data.l.map(y, [x, y])).size() > 0",
		"data.l.map(x, data.s + data.s).size() > 0",
		"data.l.all(x, data.s.contains('nothing') || true)",
		"data.l.all(x, data.s.matches('(s+)+(s+)+(s+)+$') || true)",
		"data.l.all(x, bytes(data.s) != bytes('a'))",
		"(" + strings.Repeat("data.s+", 300) + "data.s).size() > 0",
		"'x'.matches('" + strings.Repeat("(a{1,30}", 30) + strings.Repeat("){1,30}", 30) + "')",
	} {
		x, _ := compileExpression(text, events.S3)
		if x == nil {
			refused++
			continue
		}
		if holds, err := x.evaluate(t.Context(), large()); holds || !errors.Is(err, errCost) {
			t.Errorf("%s: %v, %v, want that it costs too much", text, holds, err)
		}
	}
	if refused != 3 {
		t.Errorf("%d are refused when they are applied, want 3: the one with three loops, the one that is nested, and the one with the long pattern", refused)
	}
}

// TestPatternsAreLiteral: compiling what an event calls a pattern may take 100 MB and a second, for each of thousands in a list, and costs nothing if it fails.
func TestPatternsAreLiteral(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"key.matches(data.s)", "matches(key, data.s)", "data.l.exists(p,\n key.matches(p))", "!key.matches('a' + key)", "key == 'a' || data.l.all(p, matches(p, p))",
	} {
		_, faults := compileExpression(text, events.S3)
		want := fault{1 + strings.Count(text, "\n"), "the pattern of matches() is a literal text"}
		if len(faults) != 1 || faults[0] != want {
			t.Errorf("%s: %+v, want %+v", text, faults, want)
		}
	}
	for _, text := range []string{"matches(key, 'a+')", "data.l.exists(p, p.matches('a+'))"} {
		if _, faults := compileExpression(text, events.S3); len(faults) > 0 {
			t.Errorf("%s: %+v", text, faults)
		}
	}
}

// TestReasons: why an expression failed is told in words that hold nothing of the event.
func TestReasons(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"int(data.s) == 1":                      "",
		"double(data.s) == 1.0":                 "",
		"timestamp(data.s) > timestamp(0)":      "",
		"duration(data.s) > duration('1s')":     "",
		"data[data.s] == 1":                     "",
		"data.deep[data.s] == 1":                "",
		"data.nope == 1":                        "it has no nope; has() asks whether it has",
		"event.data.deep.nope":                  "it has no nope; has() asks whether it has",
		"data.s + 1 == 2":                       "no such overload",
		"size / (size - 3) == 1":                "division by zero",
		"size % (size - 3) == 1":                "modulus by zero",
		"data.l[99999] == 1":                    "index out of bounds",
		"size + 9223372036854775807 > size":     "failed on this event",
		"data.s == data.s ? data.s : 'b' == ''": "neither true nor false",
	} {
		x, faults := compileExpression(text, events.S3)
		if x == nil {
			t.Logf("%s is refused: %+v", text, faults)
			if want != "neither true nor false" {
				t.Errorf("%s: %+v", text, faults)
			}
			continue
		}
		holds, err := x.holds(t.Context(), large())
		if holds || err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") || len(err.Error()) > 300 {
			t.Errorf("%s: %v, %v, want an error with %q", text, holds, err, want)
		}
	}
}

func TestInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if holds, err := expressed(t, "data.l.all(x, x == 'x')").holds(ctx, large()); holds || !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v, want that it was interrupted", holds, err)
	}
}

// TestOneRuleManyGoroutines is for the race detector.
func TestOneRuleManyGoroutines(t *testing.T) {
	t.Parallel()
	r := parsed(t, onS3[:len(onS3)-2]+`, glob: '**', when: 'size > 2 && data.n == 3 && data.l.exists(x, x == "x")'}`+"\n"+rest)
	e := large()
	e.Bucket = "in-1"
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				if ok, err := r.Matches(t.Context(), e); !ok || err != nil {
					t.Errorf("%v, %v", ok, err)
				}
				if _, err := r.Render(e, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}
