package mixtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// API is a fleet as its callers see it. Nothing is kept between calls, so that it outlives the processes behind the URL.
type API struct {
	URL, Key, Org string
}

// Answer is what a call came to.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Batch is the batch that the answer names.
func (a Answer) Batch() string { return a.Header.Get("Copyfleet-Batch") }

// BatchView is a batch as the API shows it.
type BatchView struct {
	ID     string              `json:"id"`
	State  protocol.BatchState `json:"state"`
	Total  int                 `json:"total"`
	Bytes  int64               `json:"bytes"`
	Counts map[string]int      `json:"counts"`
	Reason string              `json:"reason"`
}

// Ended is the number of items that have their outcome.
func (v BatchView) Ended() int {
	return v.Counts["succeeded"] + v.Counts["failed"] + v.Counts["canceled"] + v.Counts["skipped"]
}

// Call sends a request with a JSON body (nil: none). The connection is not used again: its server may be dead by then.
func (a API) Call(ctx context.Context, method, path string, header map[string]string, body any) (Answer, error) {
	var content io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return Answer{}, err
		}
		content = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, a.URL+path, content)
	if err != nil {
		return Answer{}, err
	}
	req.Close = true
	req.Header.Set("Authorization", "Bearer "+a.Key)
	req.Header.Set("Content-Type", "application/json")
	for name, value := range header {
		req.Header.Set(name, value)
	}
	return exchange(req)
}

func exchange(req *http.Request) (Answer, error) {
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return Answer{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return Answer{}, fmt.Errorf("read the answer %s: %w", resp.Status, err)
	}
	return Answer{Status: resp.StatusCode, Header: resp.Header, Body: data}, nil
}

// Copy posts a copy call to a sandbox.
func (a API) Copy(ctx context.Context, sandbox string, header map[string]string, files any) (Answer, error) {
	return a.Call(ctx, http.MethodPost, "/api/orgs/"+a.Org+"/sandboxes/"+sandbox+"/file/copy", header, map[string]any{"files": files})
}

// Get reads a resource into value.
func (a API) Get(ctx context.Context, path string, value any) error {
	answer, err := repeat(func() (Answer, error) { return a.Call(ctx, http.MethodGet, path, nil, nil) })
	if err != nil {
		return err
	}
	if answer.Status != http.StatusOK {
		return fmt.Errorf("GET %s: status %d: %s", path, answer.Status, answer.Body)
	}
	if err := json.Unmarshal(answer.Body, value); err != nil {
		return fmt.Errorf("GET %s: %w in %s", path, err, answer.Body)
	}
	return nil
}

// Batch reads a batch.
func (a API) Batch(ctx context.Context, id string) (BatchView, error) {
	var view BatchView
	err := a.Get(ctx, "/v1/batches/"+id, &view)
	return view, err
}

// Receipts reads all receipts of a batch, page by page.
func (a API) Receipts(ctx context.Context, id string) ([]protocol.Receipt, error) {
	var all []protocol.Receipt
	for cursor, pages := "", 0; pages < 2000; pages++ {
		var page struct {
			Items []protocol.Receipt `json:"items"`
			Next  string             `json:"next_cursor"`
		}
		if err := a.Get(ctx, "/v1/batches/"+id+"/items?limit=500&cursor="+url.QueryEscape(cursor), &page); err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if page.Next == "" {
			return all, nil
		}
		cursor = page.Next
	}
	return nil, fmt.Errorf("batch %s has no last page", id)
}

// Object reads an object through a presigned URL.
func (a API) Object(ctx context.Context, bucket, key string) ([]byte, error) {
	answer, err := a.Call(ctx, http.MethodPost, "/v1/presign", nil, map[string]any{"method": "GET", "bucket": bucket, "key": key, "expires_seconds": 60})
	if err != nil {
		return nil, err
	}
	var made struct {
		URL string `json:"url"`
	}
	if err := json.Unmarshal(answer.Body, &made); err != nil || made.URL == "" {
		return nil, fmt.Errorf("presign %s/%s: status %d: %s", bucket, key, answer.Status, answer.Body)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, made.URL, nil)
	if err != nil {
		return nil, err
	}
	req.Close = true
	answer, err = exchange(req)
	if err != nil {
		return nil, err
	}
	if answer.Status != http.StatusOK {
		return nil, fmt.Errorf("GET %s/%s: status %d", bucket, key, answer.Status)
	}
	return answer.Body, nil
}

// WaitFinal waits until a batch has ended. An API that is away is waited for.
func (a API) WaitFinal(t testing.TB, id string, limit time.Duration) BatchView {
	t.Helper()
	var view BatchView
	var err error
	if !Until(limit, func() bool {
		view, err = a.Batch(t.Context(), id)
		return err == nil && view.State.Final()
	}) {
		receipts, _ := a.Receipts(t.Context(), id)
		t.Fatalf("batch %s did not end within %s: %+v, %v\n%s", id, limit, view, err, unfinished(receipts))
	}
	return view
}

func unfinished(receipts []protocol.Receipt) string {
	var b bytes.Buffer
	for _, r := range receipts {
		if !r.State.Final() {
			fmt.Fprintf(&b, "  item %d (%s): %s, %d attempts, failure %+v\n", r.Index, r.ID, r.State, len(r.Attempts), r.Failure)
		}
	}
	return b.String()
}

// repeat makes a call again while it is answered 503, for a minute at most, as its caller would: a broker whose disk is busy does not answer the
// front in time now and then. The call must be one that may be repeated.
func repeat(call func() (Answer, error)) (Answer, error) {
	var answer Answer
	var err error
	Until(time.Minute, func() bool {
		answer, err = call()
		return err != nil || answer.Status != http.StatusServiceUnavailable
	})
	return answer, err
}

const poll = 20 * time.Millisecond

// Until asks a question again and again until the answer is yes, and returns false if it was not within the limit.
func Until(limit time.Duration, yes func() bool) bool {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		if yes() {
			return true
		}
		select {
		case <-deadline.C:
			return yes()
		case <-tick.C:
		}
	}
}
