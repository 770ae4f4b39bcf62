package report

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/display"
	"github.com/copyfleet/copyfleet/loadtest/record"
	"github.com/copyfleet/copyfleet/loadtest/workload"
)

// The last lines say in plain words what the table comes to.
func TestChangesText(t *testing.T) {
	t.Parallel()
	full := []int{200, 200, 200, 200, 200, 200}
	stat := func(ms int) Side { return steady(workload.Stat, full, time.Duration(ms)*time.Millisecond, nil) }
	failed := steady(workload.Stat, full, time.Millisecond, &record.Fault{Class: "denied"})
	for name, row := range map[string]struct {
		before, after Side
		want          string
	}{
		"same":     {side(1, 1, 1), side(2, 1, 1), "No difference: no figure changed by more than noise does or the tolerance allows. The largest change is that of "},
		"equal":    {stat(100), stat(100), "No difference: no figure changed.\n"},
		"little":   {slices.Repeat(stat(100), 5), slices.Repeat(stat(103), 5), "No difference: no figure changed by more than the tolerance. The largest change is that of "},
		"slower":   {side(1, 5, 1), side(2, 5, 1.25), "Worse: "},
		"faster":   {side(1, 5, 1.25), side(2, 5, 1), "Better: "},
		"failed":   {stat(100), failed, "Worse: operations a second of stat by -100 % (-100 to -100 %), the share of errors of stat by +100 points (+100 to +100 points)."},
		"repaired": {failed, stat(100), "Better: operations a second of stat by >+1M % (>+1M to >+1M %), "},
		"nothing":  {steady(workload.Put, []int{0, 0}, 1, nil), stat(1), "Nothing can be compared: "},
	} {
		changes, err := Compare(row.before, row.after, 0.05)
		if err != nil {
			t.Fatal(err)
		}
		for _, width := range []int{40, 80, 200} {
			var b strings.Builder
			if err := ChangesText(&b, changes, Look{Width: width}); err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(b.String()) {
				if display.Width(strings.TrimSuffix(line, "\n")) > width {
					t.Errorf("%s: wider than %d: %s", name, width, line)
				}
			}
			if flat := strings.Join(strings.Fields(b.String()), " ") + "\n"; !strings.Contains(flat, row.want) {
				t.Errorf("%s says not %q:\n%s", name, row.want, b.String())
			}
			if width == 80 {
				golden(t, "changes-"+name+".txt", b.String())
			}
		}
	}
}

// Sides that were loaded in other ways are said to be, option by option, once each.
func TestUnlike(t *testing.T) {
	t.Parallel()
	run := func(version string, cpus int, options ...string) *record.Run {
		r := &record.Run{}
		for _, text := range options {
			r.Headers = append(r.Headers, &record.Header{Version: version, Options: json.RawMessage(text), System: record.System{OS: "linux", Arch: "amd64", CPUs: cpus}})
		}
		return r
	}
	same := run("1", 2, `{"workload":"put","size":"4KiB","endpoints":["a","b"],"autoterm":{"windows":3},"seed":1}`)
	for name, row := range map[string]struct {
		before, after []*record.Run
		want          []string
	}{
		"same but for the seed": {[]*record.Run{same}, []*record.Run{run("1", 2, `{"size":"4KiB","workload":"put","endpoints":["a","b"],"autoterm":{"windows":3},"seed":2}`), same}, nil},
		"options": {[]*record.Run{same}, []*record.Run{run("1", 2, `{"workload":"get","size":"4KiB","endpoints":["a"],"rate":5,"autoterm":{"windows":4}}`)}, []string{
			"the sides differ in autoterm.windows: 3 before, 4 after", "the sides differ in endpoints: a,b before, a after",
			"the sides differ in rate: none before, 5 after", "the sides differ in workload: put before, get after",
		}},
		"a run of several": {[]*record.Run{run("1", 2, `{"size":"1KiB"}`), run("1", 2, `{"size":"2KiB"}`)}, []*record.Run{run("1", 2, `{"size":"1KiB"}`)}, []string{
			"the sides differ in size: 1KiB and 2KiB before, 1KiB after",
		}},
		"machine and version": {[]*record.Run{run("1", 2, `{}`)}, []*record.Run{run("2", 4, `{}`, `{}`)}, []string{
			"the sides differ in the machine: linux/amd64 with 2 CPUs before, linux/amd64 with 4 CPUs after",
			"the sides differ in the number of generators: 1 before, 2 after", "the sides differ in the version of copyfleet: 1 before, 2 after",
		}},
		"hostile": {[]*record.Run{run("1", 2, `{"a\u001b[2J":"\u001b[3J"}`)}, []*record.Run{run("1", 2, `{}`)}, []string{
			`the sides differ in a\x1b[2J: \x1b[3J before, none after`,
		}},
		"nothing": {nil, nil, nil},
	} {
		if got := Unlike(row.before, row.after); !slices.Equal(got, row.want) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// Options may be any JSON, or none: what is made of them is bounded.
func TestFlatOptions(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]option{
		"": nil, "null": nil, "{}": nil, `{"b":1,"a":{"c":[1,"x",{"d":true}],"e":null},"f":1e300}`: {{"b", "1"}, {"a.c", "1,x,d=true"}, {"f", "1e300"}},
		"{broken": {{"", "{broken"}},
	} {
		if got := flat(json.RawMessage(text)); !slices.Equal(got, want) {
			t.Errorf("%s is %+v", text, got)
		}
	}
	deep := strings.Repeat(`{"a":`, 1000) + "1" + strings.Repeat("}", 1000)
	if got := flat(json.RawMessage(deep)); len(got) > 1 {
		t.Errorf("%d options", len(got))
	}
	many := "{" + strings.Repeat(`"a":1,`, 10_000) + `"b":2}`
	if got := flat(json.RawMessage(many)); len(got) != mostOptions {
		t.Errorf("%d options", len(got))
	}
}

// Bytes are shown as a user would give them.
func TestShownOptions(t *testing.T) {
	t.Parallel()
	got := shown(&record.Header{Options: json.RawMessage(`{"part_size":5242880,"max_bytes":409600,"count":1024,"rate":0}`)})
	if want := []option{{"part_size", "5MiB"}, {"max_bytes", "400KiB"}, {"count", "1024"}}; !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
}
