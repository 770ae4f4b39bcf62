package mixtest

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// The media types of manifests.
const (
	NDJSON = "application/x-ndjson"
	CSV    = "text/csv"
	TSV    = "text/tab-separated-values"
	JSON   = "application/json"
)

// Acted is the answer to a cancel, a pause, a resume or a retry.
type Acted struct {
	Batch      BatchView `json:"batch"`
	Items      int       `json:"items"`
	NotStarted int       `json:"not_started"`
	Midway     int       `json:"stopped_midway"`
	Ended      int       `json:"already_ended"`
}

// Post sends a body of any type; its connection is not used again.
func (a API) Post(ctx context.Context, path, media string, header map[string]string, body io.Reader) (Answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.URL+path, body)
	if err != nil {
		return Answer{}, err
	}
	req.Close = true
	req.Header.Set("Authorization", "Bearer "+a.Key)
	req.Header.Set("Content-Type", media)
	for name, value := range header {
		req.Header.Set(name, value)
	}
	return exchange(req)
}

// Submit posts a batch as NDJSON with options from a query, and returns its id.
func (w *World) Submit(t testing.TB, batch Batch, query string) string {
	t.Helper()
	return w.SubmitKeyed(t, batch, query, "")
}

// SubmitKeyed is Submit with an idempotency key.
func (w *World) SubmitKeyed(t testing.TB, batch Batch, query, key string) string {
	t.Helper()
	header := map[string]string{"Idempotency-Key": cmp.Or(key, rand.Text())}
	lines := w.Lines(t, batch)
	answer, err := repeat(func() (Answer, error) {
		return w.API.Post(t.Context(), "/v1/batches?"+query, NDJSON, header, bytes.NewReader(lines))
	})
	if err != nil || answer.Status != http.StatusAccepted {
		t.Fatalf("submit: %d %v %s", answer.Status, err, answer.Body)
	}
	return answer.Batch()
}

// SubmitJSON posts a batch as JSON with options beside the items, and returns its id.
func (w *World) SubmitJSON(t testing.TB, batch Batch, options map[string]any) string {
	t.Helper()
	body := maps.Clone(options)
	if body == nil {
		body = map[string]any{}
	}
	body["items"] = w.Items(batch)
	header := map[string]string{"Idempotency-Key": rand.Text()}
	answer, err := repeat(func() (Answer, error) { return w.API.Call(t.Context(), http.MethodPost, "/v1/batches", header, body) })
	if err != nil || answer.Status != http.StatusAccepted {
		t.Fatalf("submit: %d %v %s", answer.Status, err, answer.Body)
	}
	return answer.Batch()
}

// Act cancels, pauses or resumes a batch.
func (a API) Act(t testing.TB, id, verb string) Acted {
	t.Helper()
	answer, err := repeat(func() (Answer, error) {
		return a.Call(t.Context(), http.MethodPost, "/v1/batches/"+id+"/"+verb, nil, nil)
	})
	if err != nil || answer.Status != http.StatusOK {
		t.Fatalf("%s: %d %v %s", verb, answer.Status, err, answer.Body)
	}
	var acted Acted
	if err := json.Unmarshal(answer.Body, &acted); err != nil {
		t.Fatal(err)
	}
	return acted
}

// WaitState waits until a batch is in a state.
func (a API) WaitState(t testing.TB, id string, state protocol.BatchState, limit time.Duration) BatchView {
	t.Helper()
	var view BatchView
	var err error
	if !Until(limit, func() bool { view, err = a.Batch(t.Context(), id); return err == nil && view.State == state }) {
		t.Fatalf("the batch did not come to be %s within %s: %+v %v", state, limit, view, err)
	}
	return view
}

// Items is a batch as POST /v1/batches takes it: locations in the sandbox name it.
func (w *World) Items(batch Batch) []map[string]any {
	items := batch.Files()
	for _, item := range items {
		for _, side := range []string{"src", "dest"} {
			place, _ := item[side].(map[string]any)
			if place["type"] == string(protocol.SandboxFile) {
				place = maps.Clone(place)
				place["sandbox"] = w.Sandbox
				item[side] = place
			}
		}
		if item["id"] == "" {
			delete(item, "id")
		}
	}
	return items
}

// Lines is a batch as NDJSON.
func (w *World) Lines(t testing.TB, batch Batch) []byte {
	t.Helper()
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	for _, item := range w.Items(batch) {
		if err := encoder.Encode(item); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// Table is a batch as CSV with a header row.
func (w *World) Table(t testing.TB, batch Batch) []byte {
	t.Helper()
	columns := []string{"id", "src_url", "src_bucket", "src_key", "src_sandbox", "src_path", "dest_url", "dest_bucket", "dest_key", "dest_sandbox", "dest_path"}
	var b bytes.Buffer
	table := csv.NewWriter(&b)
	_ = table.Write(columns)
	for _, item := range w.Items(batch) {
		row := make([]string, len(columns))
		for i, column := range columns {
			of := item
			if side, name, found := strings.Cut(column, "_"); found {
				of, _ = item[side].(map[string]any)
				column = name
			}
			row[i], _ = of[column].(string)
		}
		_ = table.Write(row)
	}
	table.Flush()
	if err := table.Error(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// PutObject stores an object through a presigned URL.
func (w *World) PutObject(t testing.TB, key string, content []byte) map[string]any {
	t.Helper()
	answer, err := w.API.Call(t.Context(), http.MethodPost, "/v1/presign", nil, map[string]any{
		"method": "PUT", "bucket": w.Bucket, "key": key, "expires_seconds": 60,
	})
	var made struct {
		URL string `json:"url"`
	}
	if err != nil || json.Unmarshal(answer.Body, &made) != nil || made.URL == "" {
		t.Fatalf("presign: %d %v %s", answer.Status, err, answer.Body)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, made.URL, bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	if answer, err = exchange(req); err != nil || answer.Status != http.StatusOK {
		t.Fatalf("PUT %s: %d %v %s", key, answer.Status, err, answer.Body)
	}
	return w.ToObject(key)
}

// Event is a server-sent event.
type Event struct{ Name, ID, Data string }

// Events reads the events of a batch until the stream ends, or until stop says so of an event. It returns the status and what was read; a
// connection that breaks ends the stream, too.
func (a API) Events(ctx context.Context, id, last string, stop func(Event) bool) (int, []Event, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.URL+"/v1/batches/"+url.PathEscape(id)+"/events", nil)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+a.Key)
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	events, err := readEvents(resp.Body, stop)
	return resp.StatusCode, events, err
}

const longestLine = 1 << 20

func readEvents(body io.Reader, stop func(Event) bool) ([]Event, error) {
	var events []Event
	var now Event
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, longestLine)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "event":
			now.Name = value
		case "id":
			now.ID = value
		case "data":
			now.Data += value
		case "":
			if lines.Text() == "" && now.Data != "" {
				events = append(events, now)
				if stop != nil && stop(now) {
					return events, nil
				}
				now = Event{}
			}
		}
	}
	if err := lines.Err(); err != nil {
		return events, fmt.Errorf("the event stream broke: %w", err)
	}
	return events, nil
}
