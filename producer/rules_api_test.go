package producer

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/producer/triggers"
)

// newRules puts rules behind the front of a stage.
func newRules(s *stage) {
	s.Helper()
	newRulesOn(s, emptyBuckets{})
}

// newRulesOn is newRules with other buckets.
func newRulesOn(s *stage, buckets triggers.Store) {
	s.Helper()
	service, err := triggers.New(s.Context(), triggers.Config{Logger: slog.New(slog.DiscardHandler)}, s.conn, s.sealer,
		NewTriggerQueue(Config{}, s.pipeline, s.registry), buckets)
	if err != nil {
		s.Fatal(err)
	}
	ctx, cancel := context.WithCancel(s.Context())
	done := make(chan struct{})
	go func() { defer close(done); service.Run(ctx) }()
	s.Cleanup(func() { cancel(); <-done })
	s.server.triggers = service
}

// emptyBuckets are buckets without objects.
type emptyBuckets struct{}

func (emptyBuckets) Stat(context.Context, string, string, string) (triggers.Object, error) {
	return triggers.Object{}, triggers.ErrNoObject
}

func (emptyBuckets) List(context.Context, string, string, func(triggers.Object) bool) error {
	return nil
}

// ruleText is a rule that sends a secret.
func ruleText(name, bucket string) string {
	return fmt.Sprintf(`name: %s
match: {source: s3, bucket: %s}
copy:
  src: {type: objectLocation, bucket: "{{bucket}}", key: "{{key}}"}
  dest: {type: httpPutLocation, url: "https://example.com/{{key}}", headers: {Authorization: "Bearer {{secret.token}}"}}
`, name, bucket)
}

var asYAML = []string{"Content-Type", "application/yaml"}

func TestRulesOverHTTP(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	newRules(s)
	d := newDescription(t, apiDescription)
	ask := func(who, method, path, body string, status int, code Code, header ...string) answer {
		t.Helper()
		a := s.call(who, method, path, body, header...).want(status, code)
		if status != http.StatusNoContent {
			described, _, _ := strings.Cut(path, "?")
			switch {
			case strings.HasSuffix(described, "/sweep"):
				described = "/v1/rules/{name}/sweep"
			case strings.HasPrefix(described, "/v1/rules/") && described != "/v1/rules/test":
				described = "/v1/rules/{name}"
			case strings.HasPrefix(described, "/v1/secrets/"):
				described = "/v1/secrets/{name}"
			}
			d.check(t, method, described, a)
		}
		return a
	}
	const admin, reader, copier, other = "one/admin", "one/read", "one/copy", "two/admin"

	// Who may do what.
	ask(copier, "POST", "/v1/rules", ruleText("in", "bucket-b"), http.StatusForbidden, CodeForbidden, asYAML...)
	ask(copier, "DELETE", "/v1/rules/in", "", http.StatusForbidden, CodeForbidden)
	ask(copier, "PUT", "/v1/secrets/token", `{"value":"x"}`, http.StatusForbidden, CodeForbidden)
	ask(reader, "POST", "/v1/rules/in/sweep", "", http.StatusForbidden, CodeForbidden)

	// All or none, with lines.
	a := ask(admin, "POST", "/v1/rules", ruleText("in", "bucket-b")+"---\n"+ruleText("out", "NO BUCKET"), http.StatusBadRequest, CodeRuleInvalid, asYAML...)
	if p := decode[Problem](a); len(p.Errors) != 1 || p.Errors[0].Pointer != "/match/bucket" || p.Errors[0].Line != 8 {
		t.Errorf("refused with %s", a.body)
	}
	ask(admin, "POST", "/v1/rules", ruleText("test", "bucket-b"), http.StatusBadRequest, CodeRuleInvalid, asYAML...)
	ask(admin, "POST", "/v1/rules", "x", http.StatusUnsupportedMediaType, CodeUnsupportedMedia, "Content-Type", "text/csv")
	ask(admin, "POST", "/v1/rules", strings.Repeat("#", maxRules+1), http.StatusRequestEntityTooLarge, CodeBodyTooLarge, asYAML...)
	if got := decode[ruleList](ask(reader, "GET", "/v1/rules", "", http.StatusOK, "")); len(got.Rules) != 0 {
		t.Errorf("%d rules after a refusal", len(got.Rules))
	}
	for i, text := range []string{ruleText("in", "bucket-b"), ruleText("in", "bucket-c"), ruleText("in", "bucket-c")} {
		applied := decode[appliedRules](ask(admin, "POST", "/v1/rules", text, http.StatusOK, "", asYAML...)).Rules
		if want := (triggers.Applied{Name: "in", Version: min(i+1, 2), Change: []string{"created", "updated", "unchanged"}[i]}); len(applied) != 1 || applied[0] != want {
			t.Errorf("applied %+v, want %+v", applied, want)
		}
	}

	// What is there, for its own org alone.
	if got := decode[ruleList](ask(reader, "GET", "/v1/rules", "", http.StatusOK, "")); len(got.Rules) != 1 || got.Rules[0].Name != "in" {
		t.Errorf("listed %+v", got)
	}
	if got := decode[triggers.View](ask(reader, "GET", "/v1/rules/in?version=1", "", http.StatusOK, "")); got.Version != 1 || strings.TrimSpace(got.Document) != strings.TrimSpace(ruleText("in", "bucket-b")) {
		t.Errorf("shown %+v", got)
	}
	ask(reader, "GET", "/v1/rules/in?version=0", "", http.StatusBadRequest, CodeInvalidRequest)
	ask(reader, "GET", "/v1/rules/in?version=9", "", http.StatusNotFound, CodeRuleNotFound)
	ask(other, "GET", "/v1/rules/in", "", http.StatusNotFound, CodeRuleNotFound)
	ask(other, "DELETE", "/v1/rules/in", "", http.StatusNotFound, CodeRuleNotFound)
	ask(other, "POST", "/v1/rules/in/sweep", "", http.StatusNotFound, CodeRuleNotFound)
	if got := decode[ruleList](ask(other, "GET", "/v1/rules", "", http.StatusOK, "")); len(got.Rules) != 0 {
		t.Errorf("another org sees %+v", got)
	}
	ask(copier, "POST", "/v1/rules/in/sweep?all=x", "", http.StatusBadRequest, CodeInvalidRequest)
	ask(copier, "POST", "/v1/rules/in/sweep", "", http.StatusForbidden, CodeBucketNotGranted)

	// Trials that cannot be made.
	const notification = `{"Records":[{"eventName":"s3:ObjectCreated:Put","s3":{"bucket":{"name":"b"},"object":{"key":"k"}}}]}`
	for _, body := range []string{`{}`, `{"event":1}`, `{"event":` + notification + `,"more":1}`, `{"event":` + notification + `,"rules":1}`} {
		ask(reader, "POST", "/v1/rules/test", body, http.StatusBadRequest, CodeInvalidRequest)
	}
	ask(reader, "POST", "/v1/rules/test", `{"event":{"Records":[{}]}}`, http.StatusBadRequest, CodeEventMalformed)
	ask(reader, "POST", "/v1/rules/test", `{"event":[{"specversion":"1.0"}]}`, http.StatusBadRequest, CodeEventMalformed)
	a = ask(reader, "POST", "/v1/rules/test", `{"event":`+notification+`,"rules":"name: x\nodd: 1\n"}`, http.StatusBadRequest, CodeRuleInvalid)
	if !strings.Contains(string(a.body), `"line":2`) {
		t.Errorf("refused with %s", a.body)
	}
	ask(reader, "POST", "/v1/rules/test", `{"event":`+notification+`,"rules":""}`, http.StatusBadRequest, CodeRuleInvalid) // not those of the org

	ask(admin, "DELETE", "/v1/rules/in", "", http.StatusNoContent, "")
	ask(admin, "DELETE", "/v1/rules/in", "", http.StatusNotFound, CodeRuleNotFound)
}

// A secret goes in and never comes out.
func TestSecretsOverHTTP(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	newRules(s)
	const value = "hidden-in-the-store"
	var said strings.Builder
	ask := func(who, method, path, body string, status int, code Code) answer {
		t.Helper()
		a := s.call(who, method, path, body).want(status, code)
		said.Write(a.body)
		return a
	}
	ask("one/admin", "PUT", "/v1/secrets/token", `{"value":"`+value+`"}`, http.StatusOK, "")
	s.call("one/admin", "POST", "/v1/rules", ruleText("in", "bucket-b"), asYAML...).want(http.StatusOK, "")
	list := decode[secretList](ask("one/read", "GET", "/v1/secrets", "", http.StatusOK, ""))
	if len(list.Secrets) != 1 || list.Secrets[0].Name != "token" || len(list.Secrets[0].UsedBy) != 1 || list.Secrets[0].UsedBy[0] != "in" {
		t.Errorf("listed %+v", list)
	}
	for path, body := range map[string]string{
		"/v1/secrets/to%20ken": `{"value":"` + value + `"}`, "/v1/secrets/empty": `{"value":""}`, "/v1/secrets/none": `{}`,
		"/v1/secrets/large": `{"value":"` + strings.Repeat(value, 1000) + `"}`, "/v1/secrets/nul": `{"value":"` + value + `\u0000"}`,
		"/v1/secrets/more": `{"value":"` + value + `","` + value + `":1}`,
	} {
		a := s.call("one/admin", "PUT", path, body).want(http.StatusBadRequest, CodeInvalidRequest)
		if path != "/v1/secrets/more" { // there it is the name of a member
			said.Write(a.body)
		}
	}
	tries := func(want string) {
		t.Helper()
		const event = `{"Records":[{"eventName":"s3:ObjectCreated:Put","s3":{"bucket":{"name":"bucket-b"},"object":{"key":"k"}}}]}`
		tried := decode[trial](ask("one/read", "POST", "/v1/rules/test", `{"event":`+event+`}`, http.StatusOK, "")).Results
		if len(tried) != 1 || !tried[0].Matches || tried[0].Code != want {
			t.Errorf("the rule would make %+v, want %q", tried, want)
		}
	}
	tries("bucket_not_granted") // the secret is there
	ask("two/admin", "DELETE", "/v1/secrets/token", "", http.StatusNotFound, CodeSecretNotFound)
	if got := decode[secretList](ask("two/admin", "GET", "/v1/secrets", "", http.StatusOK, "")); len(got.Secrets) != 0 {
		t.Errorf("another org sees %+v", got)
	}
	ask("one/admin", "DELETE", "/v1/secrets/token", "", http.StatusNoContent, "")
	tries("unknown_secret")
	ask("one/admin", "DELETE", "/v1/secrets/token", "", http.StatusNotFound, CodeSecretNotFound)
	if strings.Contains(said.String()+s.log.String(), value) {
		t.Error("an answer or the log shows the secret")
	}
}

// stuckBuckets do not come to the end of a listing.
type stuckBuckets struct {
	emptyBuckets

	listing chan struct{} // closed by the first one
}

func (b stuckBuckets) List(ctx context.Context, _, _ string, _ func(triggers.Object) bool) error {
	select {
	case <-b.listing:
	default:
		close(b.listing)
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

// A sweep does not keep a front from stopping, and its caller is told.
func TestSweepAtShutdown(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.grant()
	b := stuckBuckets{listing: make(chan struct{})}
	newRulesOn(s, b)
	s.call("one/admin", "POST", "/v1/rules", ruleText("in", "results"), asYAML...).want(http.StatusOK, "")
	go func() {
		<-b.listing
		s.server.StopWaiting()
	}()
	swept := decode[triggers.Swept](s.call("one/copy", "POST", "/v1/rules/in/sweep", "").want(http.StatusOK, ""))
	if swept.State != "failed" || swept.Message == "" {
		t.Errorf("%+v", swept)
	}
}

// TestSweepRightAfterTheStart of a front waits for the rules.
func TestSweepRightAfterTheStart(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.grant()
	newRules(s)
	s.call("one/admin", "POST", "/v1/rules", ruleText("in", "results"), asYAML...).want(http.StatusOK, "")
	service, err := triggers.New(s.Context(), triggers.Config{Logger: slog.New(slog.DiscardHandler)}, s.conn, s.sealer,
		NewTriggerQueue(Config{}, s.pipeline, s.registry), emptyBuckets{})
	if err != nil {
		t.Fatal(err)
	}
	s.server.triggers = service // it does not run yet, nor is there a leader to be waited for but the other one
	answered := make(chan answer)
	go func() { answered <- s.call("one/copy", "POST", "/v1/rules/in/sweep", "") }()
	s.until("the sweep to wait", func() bool {
		s.server.waits.mu.Lock()
		defer s.server.waits.mu.Unlock()
		return len(s.server.waits.cancels) == 1
	})
	ctx, cancel := context.WithCancel(s.Context())
	done := make(chan struct{})
	go func() { defer close(done); service.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	(<-answered).want(http.StatusOK, "")
}

// A front without rules says so.
func TestNoRules(t *testing.T) {
	t.Parallel()
	b := newBundle(t, Config{})
	b.call("one/read", "GET", "/v1/rules", "").want(http.StatusNotFound, CodeNotFound)
	b.call("one/admin", "PUT", "/v1/secrets/x", `{"value":"x"}`).want(http.StatusNotFound, CodeNotFound)
}
