package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// ruleAPI answers as the API of rules does, and keeps what it was asked.
type ruleAPI struct {
	*httptest.Server

	mu    sync.Mutex
	asked []string // method, URL, content type and body
}

func newRuleAPI(t *testing.T, answers map[string]string) *ruleAPI {
	t.Helper()
	api := &ruleAPI{}
	api.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // what is missing fails the comparison
		ask := r.Method + " " + r.URL.RequestURI()
		api.mu.Lock()
		api.asked = append(api.asked, ask+"\n"+r.Header.Get("Content-Type")+"\n"+string(body))
		api.mu.Unlock()
		answer, ok := answers[ask]
		status := http.StatusOK
		if !ok {
			answer, status = `{"code":"rule_not_found","message":"There is no such rule."}`, http.StatusNotFound
		} else if strings.Contains(answer, `"errors"`) {
			status = http.StatusBadRequest
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer) // the command tells if it did not arrive
	}))
	t.Cleanup(api.Close)
	return api
}

func (a *ruleAPI) last() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked[len(a.asked)-1]
}

func (a *ruleAPI) command(t *testing.T, args ...string) (exit int, stdout, stderr string) {
	t.Helper()
	return command(t, append(args, "--url", a.URL, "--api-key", "k")...)
}

func fileOf(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Several files are one request, so that all or none are applied, and each mistake is told with the line of its own file.
func TestApplySeveralFiles(t *testing.T) {
	t.Parallel()
	one := fileOf(t, "one.yaml", "name: one\n---\nname: two") // no line feed at its end
	two := fileOf(t, "two.yaml", "# a comment\n---\nname: three\n")
	three := fileOf(t, "three.json", "{\"name\":\n\"four\"}\n")
	const whole = "name: one\n---\nname: two\n# a comment\n---\nname: three\n---\n{\"name\":\n\"four\"}\n"
	api := newRuleAPI(t, map[string]string{"POST /v1/rules": `{"rules":[{"name":"one","version":2,"change":"updated"}]}`})
	exit, out, told := api.command(t, "rules", "apply", one, two, three)
	if exit != exitOK || !strings.Contains(out, "one         2  updated") {
		t.Fatal(exit, out, told)
	}
	if got := api.last(); got != "POST /v1/rules\napplication/yaml\n"+whole {
		t.Fatalf("sent %q", got)
	}
	wrong := newRuleAPI(t, map[string]string{"POST /v1/rules": `{"code":"invalid_rule","message":"m","errors":[
		{"pointer":"match.bucket","message":"is missing","line":3},{"pointer":"/line/4/x","message":"odd","line":4},
		{"pointer":"name","message":"bad","line":6},{"pointer":"name","message":"no","line":9}]}`})
	exit, out, told = wrong.command(t, "rules", "apply", one, two, three)
	want := "copyfleet: the rules have 4 mistakes; nothing was done (invalid_rule)\n  " + one + ":3: match.bucket: is missing\n  " + two + ":1: x: odd\n  " +
		two + ":3: name: bad\n  " + three + ":2: name: no\n"
	if exit != exitUsage || out != "" || told != want {
		t.Fatalf("%d %s%s\nwant %s", exit, out, told, want)
	}
	_, _, told = wrong.command(t, "rules", "apply", "--json", one, two, three)
	var failed struct {
		Error struct {
			Exit    int     `json:"exit"`
			Problem problem `json:"problem"`
		} `json:"error"`
	}
	last := mistake{Pointer: "name", Message: "no", Line: 2, File: three}
	if err := json.Unmarshal([]byte(told), &failed); err != nil || failed.Error.Exit != exitUsage || failed.Error.Problem.Errors[3] != last {
		t.Fatalf("%s, %v", told, err)
	}
}

const shownRule = `{"name":"in","version":3,"document":"name: in\n\u001b[2J","created_at":"2026-01-02T03:04:05Z","updated_at":"2026-02-02T03:04:05Z",
	"versions":[2,3],"counts":{"matched":9,"copies":5,"duplicates":2,"superseded":0,"loops":1,"refused":1,"recovered":2,"waiting":0},
	"problems":[{"at":"2026-02-02T03:04:05Z","event":"b/k","code":"loop","message":"its own"}],
	"last_sweep":{"id":"s","rule":"in","state":"done","started_at":"2026-02-02T03:04:05Z","listed":4,"known":2,"recovered":2,"refused":0},"batch":"bat_1"}`

func TestRulesAreShown(t *testing.T) {
	t.Parallel()
	api := newRuleAPI(t, map[string]string{
		"GET /v1/rules": `{"rules":[` + shownRule + `]}`, "GET /v1/rules/in": shownRule, "GET /v1/rules/in?version=2": shownRule, "DELETE /v1/rules/in": "",
		"GET /v1/secrets": `{"secrets":[{"name":"token","updated_at":"2026-02-02T03:04:05Z","used_by":["in","out"]}]}`,
	})
	for _, row := range []struct {
		exit int
		args []string
		says []string
	}{
		{exitOK, []string{"rules", "list"}, []string{"RULE", "in          3        9       5         2      1        1"}},
		{exitOK, []string{"rules", "list", "--json"}, []string{`"name":"in"`, `{"count":1}`}},
		{exitOK, []string{"rules", "show", "in"}, []string{
			"version   3; others: in@2", "9 matched: 5 copies (2 found by sweeps), 2 repeated, 1 in a loop, 1 refused\n", "batch     bat_1",
			"done: 4 objects, 2 known, 2 recovered", "b/k: loop: its own", "name: in\n\\x1b[2J\n",
		}},
		{exitOK, []string{"rules", "show", "in@2", "--document"}, []string{"name: in\n"}},
		{exitOK, []string{"rules", "show", "in", "--json"}, []string{`"copies":5`}},
		{exitUsage, []string{"rules", "show", "in@x"}, []string{"a version is a number"}},
		{exitNotFound, []string{"rules", "show", "other"}, []string{"copyfleet rules list"}},
		{exitOK, []string{"rules", "delete", "in"}, []string{"deleted: in\n"}},
		{exitNotFound, []string{"rules", "delete", "../keys"}, []string{"rule_not_found"}},
		{exitOK, []string{"secrets", "list"}, []string{"token", "in, out"}},
	} {
		exit, out, told := api.command(t, row.args...)
		if exit != row.exit {
			t.Errorf("%q ended with %d\n%s%s", row.args, exit, out, told)
		}
		for _, text := range row.says {
			if !strings.Contains(out+told, text) {
				t.Errorf("%q does not say %q\n%s%s", row.args, text, out, told)
			}
		}
	}
}

func TestRulesAreTried(t *testing.T) {
	t.Parallel()
	event := fileOf(t, "event.json", `{"Records":[]}`)
	file := fileOf(t, "rules.yaml", "name: in\n")
	const copies = `{"event":"b/k","rule":"in","matches":true,"copy":{"src":{"type":"objectLocation","bucket":"b","key":"k"},
		"dest":{"type":"httpPutLocation","url":"https://user:pw@example.com/x?sig=secret"}}}`
	const no, refusal = `{"event":"b/k","rule":"out","matches":false}`, `{"event":"b/k","rule":"bad","matches":true,"code":"escapes","message":"leaves /in"}`
	for results, want := range map[string]struct {
		exit int
		says string
	}{
		copies + "," + no: {exitOK, "b/k\n  in: s3://b/k -> https://example.com/x\n  out: does not match\n1 copy would be made; nothing was copied\n"},
		refusal:           {exitFailed, "  bad: refused: escapes: leaves /in\n0 copies would be made"},
		"":                {exitOK, "nothing to try"},
	} {
		api := newRuleAPI(t, map[string]string{"POST /v1/rules/test": `{"results":[` + results + `]}`})
		if exit, out, told := api.command(t, "rules", "test", event, "--rules", file); exit != want.exit || !strings.Contains(out, want.says) {
			t.Errorf("%d %s%s", exit, out, told)
		}
		if got := api.last(); got != "POST /v1/rules/test\napplication/json\n"+`{"event":{"Records":[]},"rules":"name: in\n"}` {
			t.Errorf("sent %q", got)
		}
	}
	api := newRuleAPI(t, nil)
	for _, row := range []struct {
		args []string
		says string
	}{
		{[]string{file}, "is not JSON"},
		{[]string{event, "--rules", "-", "--rules", "-"}, "once only"},
		{[]string{"-", "--rules", "-"}, "once only"},
	} {
		exit, _, told := api.command(t, append([]string{"rules", "test"}, row.args...)...)
		if exit != exitUsage || !strings.Contains(told, row.says) {
			t.Errorf("%q: %d %s", row.args, exit, told)
		}
	}
}

func TestSweepIsWaitedFor(t *testing.T) {
	t.Parallel()
	sweep := func(state string, refused string) string {
		return `{"id":"s1","rule":"in","state":"` + state + `","started_at":"2026-02-02T03:04:05Z","listed":4,"known":1,"recovered":2,"refused":` + refused + `,"message":"m"}`
	}
	for _, row := range []struct {
		first, then string
		exit        int
		says        string
	}{
		{sweep("done", "0"), "", exitOK, "done: 4 objects, 1 known, 2 recovered"},
		{sweep("running", "0"), sweep("done", "1"), exitFailed, "1 refused"},
		{sweep("failed", "0"), "", exitTemporary, "the sweep of in failed: m"},
		{sweep("running", "0"), strings.Replace(sweep("done", "0"), "s1", "s2", 1), exitTemporary, "another one"},
	} {
		api := newRuleAPI(t, map[string]string{"POST /v1/rules/in/sweep?all=true": row.first, "GET /v1/rules/in": `{"name":"in","last_sweep":` + row.then + `}`})
		if exit, out, told := api.command(t, "rules", "sweep", "in", "--all"); exit != row.exit || !strings.Contains(out+told, row.says) {
			t.Errorf("%+v: %d %s%s", row, exit, out, told)
		}
	}
}

// A secret comes from a file or the standard input, whole but for the end of its last line, and is shown nowhere.
func TestSecretIsSet(t *testing.T) {
	t.Parallel()
	api := newRuleAPI(t, map[string]string{"PUT /v1/secrets/token": `{"name":"token","updated_at":"2026-02-02T03:04:05Z","used_by":[]}`})
	exit, out, told := api.command(t, "secrets", "set", "token", "--value-file", fileOf(t, "s", "Bearer  x\ny\r\n"))
	if exit != exitOK || out != "set: token\n" || api.last() != "PUT /v1/secrets/token\napplication/json\n"+`{"value":"Bearer  x\ny"}` {
		t.Fatal(exit, out, told, api.last())
	}
	for text, want := range map[string]string{"": "is empty", "\n": "is empty", strings.Repeat("x", 17<<10): "too large"} {
		exit, out, told := api.command(t, "secrets", "set", "token", "--value-file", fileOf(t, "s", text))
		if exit != exitUsage || !strings.Contains(told, want) || strings.Contains(out+told, "xxx") {
			t.Errorf("%d %s%s", exit, out, told)
		}
	}
}

func TestEventsAreSent(t *testing.T) {
	t.Parallel()
	api := newRuleAPI(t, map[string]string{"POST /v1/events/s3": `{"events":2}`, "POST /v1/events/cloudevents": `{"events":1}`})
	for _, row := range []struct{ kind, text, sent, says string }{
		{"s3", `{"Records":[]}`, "POST /v1/events/s3\napplication/json\n", "2 events accepted\n"},
		{"cloudevents", `{"id":"1"}`, "POST /v1/events/cloudevents\napplication/cloudevents+json\n", "1 event accepted\n"},
		{"cloudevents", ` [{"id":"1"}]`, "POST /v1/events/cloudevents\napplication/cloudevents-batch+json\n", "1 event accepted\n"},
	} {
		exit, out, told := api.command(t, "events", "send", "--type", row.kind, fileOf(t, "e.json", row.text))
		if exit != exitOK || out != row.says || api.last() != row.sent+row.text {
			t.Errorf("%d %s%s %q", exit, out, told, api.last())
		}
	}
}

// An event that is sent as one of S3, because nothing else was said, and looks like another is not sent as that one: its sender is told.
func TestEventsOfAnotherType(t *testing.T) {
	t.Parallel()
	api := newRuleAPI(t, map[string]string{"POST /v1/events/s3": `{"code":"event_malformed","message":"m","errors":[{"pointer":"/Records","message":"m"}]}`})
	for text, hinted := range map[string]bool{`{"specversion":"1.0"}`: true, `[{}]`: true, `{"Records":1}`: false} {
		exit, out, told := api.command(t, "events", "send", fileOf(t, "e.json", text))
		if exit != exitUsage || out != "" || strings.Contains(told, "--type cloudevents") != hinted {
			t.Errorf("%s: %d %s%s", text, exit, out, told)
		}
	}
}
