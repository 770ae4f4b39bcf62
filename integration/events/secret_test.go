package events

import (
	"bytes"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/copyfleet/copyfleet/producer/triggers"
)

const (
	token    = "s3cr3t-0f-the-rule-77a1"
	newToken = "s3cr3t-0f-the-rule-77a2"
)

// guarded serves files to those who know a token.
func guarded(t *testing.T, token *atomic.Value, denied *atomic.Int64) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+token.Load().(string) {
			denied.Add(1)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = w.Write([]byte("for you: " + r.URL.Path))
	}))
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return server.URL
}

// TestSecretsReachTheirPeerOnly has a rule send a named secret, and looks for it everywhere else.
func TestSecretsReachTheirPeerOnly(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "LOG_LEVEL=DEBUG")
	var expected atomic.Value
	var denied atomic.Int64
	expected.Store(token)
	peer := guarded(t, &expected, &denied)
	f.setSecret(t, token)
	document := strings.Replace(f.fromURLs("secretive", ready), `url: "{{event.data.url}}"`, `url: "`+peer+`/{{event.id}}", headers: {Authorization: "Bearer {{secret.peer}}"}`, 1)
	f.apply(t, document)
	send := func(id string) {
		t.Helper()
		a := f.send(t, f.API, "/v1/events/cloudevents", map[string]string{"Content-Type": "application/cloudevents+json"}, asText(t, f.cloudEvent(ready, "/test", id, id)))
		if a.Status != http.StatusAccepted {
			t.Fatalf("status %d: %s", a.Status, a.Body)
		}
	}
	send("one")
	f.copied(t, "secretive", 1)
	f.holds(t, "secretive", "one", "for you: /one")
	expected.Store(newToken)
	f.setSecret(t, newToken)
	send("two")
	f.copied(t, "secretive", 2)
	f.holds(t, "secretive", "two", "for you: /two")
	if n := denied.Load(); n != 0 {
		t.Errorf("the peer was asked %d times without the token", n)
	}
	expected.Store("another")
	send("three")
	f.counts(t, "secretive", func(c triggers.Counts) bool { return c.Copies == 3 })
	said := f.everythingSaid(t)
	for _, role := range []string{"api", "worker", "aggregator"} {
		f.roles[role].Signal(t, syscall.SIGTERM)
		f.roles[role].Wait(t)
		said["the log of the "+role] = f.roles[role].Log()
	}
	for place, text := range said {
		for _, secret := range []string{token, newToken} {
			if strings.Contains(text, secret) {
				at := strings.Index(text, secret)
				t.Errorf("%s shows the secret: …%s…", place, text[max(0, at-200):min(len(text), at+50)])
			}
		}
	}
	f.nowhereStored(t, token, newToken, f.API.Key)
}

func (f *fleet) setSecret(t *testing.T, value string) {
	t.Helper()
	answer, err := f.API.Call(t.Context(), http.MethodPut, "/v1/secrets/peer", nil, map[string]any{"value": value})
	if err != nil || answer.Status/100 != 2 {
		t.Fatalf("the secret: status %d, %v: %s", answer.Status, err, answer.Body)
	}
}

// everythingSaid is what the API tells of a rule, its secrets and its batches.
func (f *fleet) everythingSaid(t *testing.T) map[string]string {
	t.Helper()
	said := map[string]string{}
	get := func(method, path string, body any) {
		t.Helper()
		answer, err := f.API.Call(t.Context(), method, path, nil, body)
		if err != nil || answer.Status != http.StatusOK {
			t.Errorf("%s %s: status %d, %v: %s", method, path, answer.Status, err, answer.Body)
		}
		said[path] = string(answer.Body)
	}
	batches, err := f.batches(t.Context(), "secretive")
	if err != nil || len(batches) == 0 {
		t.Fatalf("%d batches, %v", len(batches), err)
	}
	for _, b := range batches {
		f.API.WaitFinal(t, b.ID, comes)
		for _, path := range []string{"", "/items", "/report.ndjson"} {
			get(http.MethodGet, "/v1/batches/"+b.ID+path, nil)
		}
	}
	for _, path := range []string{"/v1/secrets", "/v1/rules", "/v1/rules/secretive", "/v1/batches"} {
		get(http.MethodGet, path, nil)
	}
	get(http.MethodPost, "/v1/rules/test", map[string]any{"event": f.cloudEvent(ready, "/test", "four", "four")})
	if !strings.Contains(said["/v1/secrets"], "peer") || !strings.Contains(said["/v1/rules/test"], "secretive") {
		t.Errorf("the secrets are told as %s, the test as %s", said["/v1/secrets"], said["/v1/rules/test"])
	}
	return said
}

// nowhereStored fails the test if a word is in what NATS has stored.
func (f *fleet) nowhereStored(t *testing.T, words ...string) {
	t.Helper()
	looked := 0
	err := filepath.WalkDir(f.NATSDir(), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		looked += len(content)
		for _, word := range words {
			if bytes.Contains(content, []byte(word)) {
				t.Errorf("%s holds %s", path, word)
			}
		}
		return err
	})
	if err != nil || looked == 0 {
		t.Fatalf("looked at %d bytes, %v", looked, err)
	}
}
