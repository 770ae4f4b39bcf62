package producer

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// TestNamesInPathsHaveAnEnd: a name becomes part of a subject, and the queue hangs up on a client that sends one of more than 4 KiB. One caller of the role
// read could else cut the front off from it for all orgs, again and again.
func TestNamesInPathsHaveAnEnd(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	newRules(s)
	s.server.events = s.server.triggers
	gone := s.conn.Epoch()
	names := regexp.MustCompile(`\{[^}]*\}`)
	for _, rt := range s.server.routes() {
		if !strings.Contains(rt.path, "{") {
			continue
		}
		for _, name := range []string{strings.Repeat("a", 6000), "%00", "a%20b%2F..", "A"} {
			a := s.call("one/admin", rt.method, names.ReplaceAllLiteralString(rt.path, name), "{}")
			if a.status >= http.StatusInternalServerError {
				t.Errorf("%s %s with a name of %d bytes: %d %s", rt.method, rt.path, len(name), a.status, a.body)
			}
		}
	}
	if a := s.call("one/read", "GET", "/v1/batches?rule="+strings.Repeat("a", 6000), ""); a.status >= http.StatusInternalServerError {
		t.Errorf("batches of a rule with a name of 6000 bytes: %d %s", a.status, a.body)
	}
	s.call("one/read", "GET", "/v1/rules", "").want(http.StatusOK, "")
	if now := s.conn.Epoch(); now != gone {
		t.Errorf("the connection to the queue broke %d times", now-gone)
	}
}

// TestTrialsHaveAnEnd: events of a megabyte and a hundred rules, which one body can hold, would else make an answer of 600 MB.
func TestTrialsHaveAnEnd(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	newRules(s)
	const rule = `name: t@
match: {source: cloudevents}
copy:
  src: {type: httpGetLocation, url: "https://h.test/x"}
  dest: {type: httpPostFormLocation, url: "https://h.test/y", fileField: f, form: {a: "{{event.data}}{{event.data}}{{event.data}}{{event.data}}{{event.data}}{{event.data}}"}}
---
`
	body := func(rules, events, size int) string {
		var text, list strings.Builder
		for i := range rules {
			text.WriteString(strings.Replace(rule, "@", itoa(i), 1))
		}
		for i := range events {
			list.WriteString(`,{"specversion":"1.0","id":"` + itoa(i) + `","source":"/s","type":"t","data":"` + strings.Repeat("x", size) + `"}`)
		}
		quoted, err := json.Marshal(text.String())
		if err != nil {
			t.Fatal(err)
		}
		return `{"event":[` + strings.TrimPrefix(list.String(), ",") + `],"rules":` + string(quoted) + `}`
	}
	p := s.call("one/read", "POST", "/v1/rules/test", body(100, 100, 10_000)).want(http.StatusBadRequest, CodeInvalidRequest).problem()
	if !strings.Contains(p.Detail, "Fewer events") {
		t.Errorf("refused with %+v", p)
	}
	if got := decode[trial](s.call("one/read", "POST", "/v1/rules/test", body(100, 100, 1)).want(http.StatusOK, "")); len(got.Results) != 10_000 {
		t.Errorf("%d results, want 10000", len(got.Results))
	}
}
