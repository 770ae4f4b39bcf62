package hostile

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

// credential is in every place of a call that may hold one. No part of it is in anything else.
const credential = "hunter2-Zq81"

// credentials is a batch of copies that succeed, fail and wait, all with credentials.
func credentials(f *mixtest.Fleet, gate <-chan struct{}) mixtest.Batch {
	query := "?X-Amz-Credential=" + credential + "&X-Amz-Signature=" + credential
	headers := map[string]any{"Authorization": "Bearer " + credential, "X-Secret": credential, "Cookie": credential}
	get := func(url string) map[string]any {
		return map[string]any{"type": "httpGetLocation", "url": url + query + "#" + credential, "headers": headers}
	}
	put := func(url string) map[string]any {
		return map[string]any{"type": "httpPutLocation", "url": url + query, "headers": headers}
	}
	form := func(url string) map[string]any {
		return map[string]any{"type": "httpPostFormLocation", "url": url + query, "form": map[string]any{"policy": credential, "x-" + credential: "v"}, "headers": headers}
	}
	source := get(f.Give("/quick", []byte("content")))
	return mixtest.Batch{
		{ID: "canary-quick", Src: source, Dest: mixtest.ToSandbox("/quick")},
		{ID: "canary-slow", Src: get(f.GiveHalf("/slow", make([]byte, 1000), gate)), Dest: mixtest.ToSandbox("/slow")},
		{ID: "canary-object", Src: source, Dest: f.ToObject("canary")},
		{ID: "canary-no-bucket", Src: source, Dest: map[string]any{"type": "objectLocation", "bucket": f.Bucket, "key": strings.Repeat("long/", 200)}},
		{ID: "canary-404", Src: get(f.URL + "/missing"), Dest: mixtest.ToSandbox("/a")},
		{ID: "canary-500", Src: get(f.GiveAfter("/busy", nil, 99)), Dest: mixtest.ToSandbox("/b")},
		{ID: "canary-refused", Src: get("http://127.0.0.1:1/x"), Dest: mixtest.ToSandbox("/c")},
		{ID: "canary-unknown-host", Src: get("http://no-such-host.invalid/x"), Dest: mixtest.ToSandbox("/d")},
		{ID: "canary-forbidden", Src: get("http://10.0.0.1/x"), Dest: mixtest.ToSandbox("/e")},
		{ID: "canary-put", Src: source, Dest: put(f.URL + "/put")},
		{ID: "canary-put-refused", Src: source, Dest: put("http://127.0.0.1:1/x")},
		{ID: "canary-form", Src: source, Dest: form("http://127.0.0.1:1/x")},
		{ID: "canary-form-refused", Src: source, Dest: form(f.URL + "/form")},
	}
}

// TestNoProcessTellsCredentials looks into the logs of all processes of a fleet of roles at their most talkative, into
// every message of every stream while work waits in it, and into every answer.
func TestNoProcessTellsCredentials(t *testing.T) {
	t.Parallel()
	f := mixtest.NewRoles(t, miniotest.Start(t), "LOG_LEVEL=DEBUG", "IDLE_TIMEOUT=10m") // the slow one is to wait for all others
	logs := map[string]func() string{"nats-server": f.StartNATS(t).Log}
	for _, role := range []string{"api", "aggregator", "worker"} {
		logs[role] = f.Start(t, role).Log
	}
	gate := make(chan struct{})
	batch := credentials(f, gate)
	called, err := f.API.Copy(t.Context(), f.Sandbox, map[string]string{"Prefer": "respond-async", "Idempotency-Key": "key-" + credential}, batch.Files())
	if err != nil || called.Status != http.StatusAccepted {
		t.Fatalf("status %d, %v: %s", called.Status, err, called.Body)
	}
	if !mixtest.Until(limit, func() bool {
		view, err := f.API.Batch(t.Context(), called.Batch())
		return err == nil && view.Counts["succeeded"]+view.Counts["failed"] == len(batch)-1
	}) {
		t.Fatal("the others did not end while one waits")
	}
	js := connect(t, f.NATS)
	stored := everyMessage(t, js)
	close(gate)
	f.API.WaitFinal(t, called.Batch(), limit)
	stored = append(stored, everyMessage(t, js)...)
	if !slices.ContainsFunc(stored, func(m string) bool { return strings.HasPrefix(m, "CF_WORK_") && strings.Contains(m, "canary-slow") }) {
		t.Error("the items are not among the messages that were looked at")
	}
	for _, m := range stored {
		told(t, f, "a message", m)
	}
	items := send(t, f, http.MethodGet, "/v1/batches/"+called.Batch()+"/items", nil, nil)
	if strings.Count(string(items.Body), "canary-") != len(batch) {
		t.Errorf("the receipts: %s", items.Body)
	}
	told(t, f, "the receipts", string(items.Body))
	told(t, f, "the batch", string(send(t, f, http.MethodGet, "/v1/batches/"+called.Batch(), nil, nil).Body))
	for name, log := range logs {
		if log() == "" {
			t.Errorf("%s has no log", name)
		}
		told(t, f, "the log of "+name, log())
	}
}

// told fails the test if a text holds what nobody may read there. The key of an idempotent call only names a batch.
func told(t *testing.T, f *mixtest.Fleet, where, text string) {
	t.Helper()
	for what, secret := range map[string]string{"a caller's credential": credential, "the API key": f.API.Key, "a signature of ours": "X-Amz-Signature="} {
		if at := strings.Index(text, secret); at >= 0 {
			t.Errorf("%s tells %s: …%s…", where, what, text[max(0, at-200):min(len(text), at+100)])
		}
	}
}

// sealed is what a message of work carries in base64, where a plain text would hide from a search.
func sealed(message []byte) []byte {
	var work protocol.Work
	_ = json.Unmarshal(message, &work) // what is no work carries nothing
	return work.Sealed
}

// everyMessage reads all that is in JetStream, each message as stream, subject, headers and data.
func everyMessage(t *testing.T, js jetstream.JetStream) []string {
	t.Helper()
	var all []string
	names := js.StreamNames(t.Context())
	for name := range names.Name() {
		stream, err := js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		info := stream.CachedInfo().State
		for seq := info.FirstSeq; seq <= info.LastSeq; seq++ {
			m, err := stream.GetMsg(t.Context(), seq)
			if err != nil {
				continue // deleted, or replaced by a later one
			}
			plain, err := broker.Unpack(m.Data)
			if err != nil {
				plain = nil // a sealed page may begin like a compressed value
			}
			all = append(all, fmt.Sprintf("%s %s %v %s %s %s", name, m.Subject, m.Header, m.Data, plain, sealed(m.Data)))
		}
	}
	if err := names.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}
