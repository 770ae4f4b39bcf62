package events

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/producer/triggers"
)

// changes applies a rule again and again, and removes it.
func changes(t *testing.T, f *fleet) {
	t.Helper()
	const rule = "changing"
	bucket := f.publishing(t, natsJetStream)
	first := f.toSandbox(rule, bucket)
	second := strings.Replace(first, `path: "/`+rule, `path: "/`+rule+`/new`, 1)
	for i, step := range []struct {
		document string
		want     triggers.Applied
	}{
		{first, triggers.Applied{Name: rule, Version: 1, Change: "created"}}, {first, triggers.Applied{Name: rule, Version: 1, Change: "unchanged"}},
		{second, triggers.Applied{Name: rule, Version: 2, Change: "updated"}},
	} {
		if got := f.apply(t, step.document)[0]; got != step.want {
			t.Errorf("step %d: %+v, want %+v", i, got, step.want)
		}
		f.puts(t, bucket, fmt.Sprint(i), fmt.Sprint("object ", i))
		f.copied(t, rule, i+1)
	}
	f.holds(t, rule, "1", "object 1")
	f.holds(t, rule+"/new", "2", "object 2")
	batches, err := f.batches(t.Context(), rule)
	if err != nil || len(batches) != 3 || batches[0].Version != 2 || batches[1].Version != 1 {
		t.Errorf("the batches are %+v, %v", batches, err)
	}
	var old triggers.View
	if err := f.API.Get(t.Context(), "/v1/rules/"+rule+"?version=1", &old); err != nil || old.Version != 1 || strings.TrimSpace(old.Document) != strings.TrimSpace(first) {
		t.Errorf("the first version is shown as %+v, %v", old, err)
	}
	f.answers(t, f.API, http.MethodDelete, "/v1/rules/"+rule, nil, http.StatusNoContent, "")
	f.answers(t, f.API, http.MethodGet, "/v1/rules/"+rule, nil, http.StatusNotFound, "")
	f.answers(t, f.API, http.MethodDelete, "/v1/rules/"+rule, nil, http.StatusNotFound, "")
	f.puts(t, bucket, "while there was no rule", "x")
	if got := f.apply(t, first)[0]; got.Version != 3 || got.Change != "created" {
		t.Errorf("the rule is made again as %+v", got)
	}
}

// answers fails the test unless a call has a status and, if it is refused, a code.
func (f *fleet) answers(t *testing.T, api mixtest.API, method, path string, body any, status int, code string) {
	t.Helper()
	a, err := api.Call(t.Context(), method, path, nil, body)
	var problem struct {
		Code string `json:"code"`
	}
	if code != "" && err == nil {
		err = json.Unmarshal(a.Body, &problem)
	}
	if err != nil || a.Status != status || problem.Code != code {
		t.Errorf("%s %s: %d, %v, want %d %s: %s", method, path, a.Status, err, status, code, a.Body)
	}
}

// deletions are matched by the rules that name them only.
func deletions(t *testing.T, f *fleet) {
	t.Helper()
	bucket := f.publishing(t, natsJetStream, "s3:ObjectCreated:*", "s3:ObjectRemoved:*")
	if err := os.WriteFile(f.OnDisk("/tombstone"), []byte("it is gone"), 0o600); err != nil {
		t.Fatal(err)
	}
	gone := fmt.Sprintf(`name: gone
match: {source: s3, bucket: %s, events: ["s3:ObjectRemoved:*"]}
copy:
  id: "{{key}} {{sequencer}}"
  src: {type: sandboxFileLocation, sandbox: %[2]s, path: /tombstone}
  dest: {type: sandboxFileLocation, sandbox: %[2]s, path: "/gone/{{key}}"}
`, bucket, f.Sandbox)
	f.apply(t, f.toSandbox("born", bucket), gone)
	f.puts(t, bucket, "a", "hello")
	f.puts(t, bucket, "b", "hello")
	f.copied(t, "born", 2)
	if err := f.store.RemoveObject(t.Context(), bucket, "a", minio.RemoveObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	f.copied(t, "gone", 1)
	f.holds(t, "gone", "a", "it is gone")
	f.holds(t, "born", "a", "hello")
	f.copied(t, "born", 2)
	if c := f.counts(t, "born", func(c triggers.Counts) bool { return c.Copies == 2 }).Counts; c.Matched != 2 {
		t.Errorf("the counts of the rule on creations are %+v", c)
	}
}

// newKey makes a key, as an admin does.
func (f *fleet) newKey(t *testing.T, org, role string) mixtest.API {
	t.Helper()
	a, err := f.API.Call(t.Context(), http.MethodPost, "/v1/keys", nil, map[string]any{"org": org, "role": role, "name": "a test"})
	var key struct {
		Key string `json:"key"`
	}
	if err == nil {
		err = json.Unmarshal(a.Body, &key)
	}
	if err != nil || a.Status != http.StatusCreated {
		t.Fatalf("a key for %s: %d, %v: %s", org, a.Status, err, a.Body)
	}
	return mixtest.API{URL: f.API.URL, Key: key.Key, Org: org}
}

// tenants are two orgs, one of whose names begins with the other's, with rules and secrets of the same names.
func tenants(t *testing.T, f *fleet) {
	t.Helper()
	const rule = "of-two"
	other := f.newKey(t, f.API.Org+".2", "admin")
	theirs := &fleet{Fleet: &mixtest.Fleet{World: &mixtest.World{Peer: f.Peer, API: other, Sandbox: f.Sandbox, Dir: filepath.Join(filepath.Dir(filepath.Dir(f.Dir)), other.Org, f.Sandbox)}},
		minio: f.minio, store: f.store}
	// The bucket is granted to one of them. The other's copies of its objects are refused.
	bucket := f.publishing(t, natsCore)
	f.apply(t, f.toSandbox(rule, bucket))
	f.puts(t, bucket, "x", "ours")
	f.copied(t, rule, 1)
	f.answers(t, other, http.MethodGet, "/v1/rules/"+rule, nil, http.StatusNotFound, "rule_not_found")
	f.answers(t, other, http.MethodDelete, "/v1/rules/"+rule, nil, http.StatusNotFound, "rule_not_found")
	f.answers(t, other, http.MethodPost, "/v1/rules/"+rule+"/sweep", nil, http.StatusNotFound, "rule_not_found")
	theirs.apply(t, theirs.toSandbox(rule, bucket))
	theirs.notify(t, record{bucket: bucket, key: "x", sequencer: "1", etag: "e"})
	v := theirs.counts(t, rule, func(c triggers.Counts) bool { return c.Refused == 1 })
	if len(v.Problems) != 1 || v.Problems[0].Code != "bucket_not_granted" || v.Counts.Copies != 0 {
		t.Errorf("a bucket that was not granted: %+v", v)
	}
	if _, err := os.Stat(theirs.OnDisk("/" + rule + "/x")); err == nil {
		t.Error("it was copied all the same")
	}
	// What one is told does not trigger the other's rule.
	theirs.apply(t, theirs.fromURLs("clouds-of-two", ready+".two"))
	f.apply(t, f.fromURLs("clouds-of-two", ready+".two"))
	event := asText(t, f.cloudEvent(ready+".two", "/test", "1", "y"))
	if a := f.send(t, other, "/v1/events/cloudevents", map[string]string{"Content-Type": "application/cloudevents+json"}, event); a.Status != http.StatusAccepted {
		t.Fatalf("status %d: %s", a.Status, a.Body)
	}
	theirs.copied(t, "clouds-of-two", 1)
	theirs.holds(t, "clouds-of-two", "y", "at y")
	f.copied(t, "clouds-of-two", 0)
	// Their secret is not ours.
	f.answers(t, other, http.MethodPut, "/v1/secrets/theirs", map[string]any{"value": "x"}, http.StatusOK, "")
	f.apply(t, strings.Replace(f.fromURLs("borrows", ready+".borrow"), `url}}"`, `url}}", headers: {X-Token: "{{secret.theirs}}"}`, 1))
	if a := f.send(t, f.API, "/v1/events/cloudevents", map[string]string{"Content-Type": "application/cloudevents+json"},
		asText(t, f.cloudEvent(ready+".borrow", "/test", "1", "z"))); a.Status != http.StatusAccepted {
		t.Fatalf("status %d: %s", a.Status, a.Body)
	}
	if v := f.counts(t, "borrows", func(c triggers.Counts) bool { return c.Refused == 1 }); v.Problems[0].Code != "unknown_secret" {
		t.Errorf("another org's secret: %+v", v)
	}
}

// roles of keys: who copies may not make rules, which can send a secret anywhere.
func roles(t *testing.T, f *fleet) {
	t.Helper()
	const rule = "of-roles"
	f.apply(t, f.toSandbox(rule, f.bucket(t)))
	copier, reader := f.newKey(t, f.API.Org, "copy"), f.newKey(t, f.API.Org, "read")
	for _, api := range []mixtest.API{copier, reader} {
		if a := f.send(t, api, "/v1/rules", map[string]string{"Content-Type": "application/yaml"}, f.toSandbox("mine", "some-bucket")); a.Status != http.StatusForbidden {
			t.Errorf("a rule: status %d: %s", a.Status, a.Body)
		}
		for path, method := range map[string]string{"/v1/rules/" + rule: http.MethodDelete, "/v1/secrets/peer": http.MethodDelete} {
			if a, err := api.Call(t.Context(), method, path, nil, nil); err != nil || a.Status != http.StatusForbidden {
				t.Errorf("%s %s: %d, %v", method, path, a.Status, err)
			}
		}
		if err := api.Get(t.Context(), "/v1/rules/"+rule, &triggers.View{}); err != nil {
			t.Error(err)
		}
	}
	body := notification(record{bucket: "b", key: "k", sequencer: "1"})
	for api, want := range map[mixtest.API]int{copier: http.StatusAccepted, reader: http.StatusForbidden, {URL: f.API.URL, Key: "nobody"}: http.StatusUnauthorized} {
		if a := f.send(t, api, "/v1/events/s3", nil, body); a.Status != want {
			t.Errorf("a notification: status %d, want %d: %s", a.Status, want, a.Body)
		}
	}
}
