package volume

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

// guarded is a source that wants a header.
func guarded(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Token") != "new" {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		_, _ = w.Write([]byte("content of " + strings.TrimPrefix(r.URL.Path, "/")))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// again runs items again and returns the new batch.
func again(t *testing.T, f *mixtest.Fleet, path string, body any) string {
	t.Helper()
	answer, err := f.API.Call(t.Context(), http.MethodPost, path, nil, body)
	var made struct {
		Batch mixtest.BatchView `json:"batch"`
	}
	if err != nil || answer.Status != http.StatusAccepted || json.Unmarshal(answer.Body, &made) != nil || made.Batch.ID == "" {
		t.Fatalf("%s: %d %v %s", path, answer.Status, err, answer.Body)
	}
	return made.Batch.ID
}

// dead counts the dead letters that a query finds, page by page.
func dead(t *testing.T, f *mixtest.Fleet, query string) int {
	t.Helper()
	n := 0
	for cursor := ""; ; {
		var page struct {
			Items []json.RawMessage `json:"items"`
			Next  string            `json:"next_cursor"`
		}
		if err := f.API.Get(t.Context(), "/v1/dead-letters?limit=100&"+query+"&cursor="+cursor, &page); err != nil {
			t.Fatal(err)
		}
		n += len(page.Items)
		if cursor = page.Next; cursor == "" {
			return n
		}
	}
}

// TestRepair runs a large batch some of whose sources are missing and others closed, mends the missing ones and retries, and drives the
// others again with the header that they want.
func TestRepair(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, f *mixtest.Fleet) {
		const n = 1500
		closed := guarded(t)
		batch := f.Small("repair", n)
		var missing, locked mixtest.Batch
		for i := range batch {
			c := &batch[i]
			switch i % 10 {
			case 3:
				c.Src, c.Fails = mixtest.FromURL(f.URL+"/late/"+c.ID), protocol.NotFound
				missing = append(missing, *c)
			case 6:
				c.Content = []byte("content of " + c.ID)
				c.Src, c.Fails = mixtest.FromURL(closed+"/"+c.ID), protocol.Denied
				locked = append(locked, *c)
			}
		}
		id := f.Submit(t, batch, "")
		f.Check(t, id, batch, limit)
		if all, denied := dead(t, f, ""), dead(t, f, "class=denied"); all != n/5 || denied != n/10 {
			t.Errorf("%d dead letters, %d of them denied", all, denied)
		}
		for i := range missing {
			f.Give("/late/"+missing[i].ID, missing[i].Content)
			missing[i].Fails = ""
		}
		f.Check(t, again(t, f, "/v1/batches/"+id+"/retry", map[string]any{"filter": map[string]any{"class": "not_found"}}), missing, limit)
		for i := range locked {
			locked[i].Fails = ""
		}
		f.Check(t, again(t, f, "/v1/dead-letters/redrive", map[string]any{
			"filter": map[string]any{"class": "denied"}, "patch": map[string]any{"src_headers": map[string]any{"X-Token": "new"}},
		}), locked, limit)
		if left, rerun := dead(t, f, ""), dead(t, f, "state=rerun"); left != 0 || rerun != n/5 {
			t.Errorf("%d dead letters are left, %d were run again", left, rerun)
		}
		answer, err := f.API.Call(t.Context(), http.MethodPost, "/v1/batches/"+id+"/retry", nil, map[string]any{})
		if err != nil || answer.Status != http.StatusConflict {
			t.Errorf("a retry of nothing: %d %v", answer.Status, err)
		}
	})
}
