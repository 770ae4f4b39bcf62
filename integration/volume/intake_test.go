package volume

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

const (
	large = 5000
	small = 600 // more than two pages
)

// TestEveryFormat accepts the same kind of batch in each form that a manifest may have, all at once.
func TestEveryFormat(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, f *mixtest.Fleet) {
		submit := func(media, query string, body []byte) string {
			t.Helper()
			answer, err := f.API.Post(t.Context(), "/v1/batches?"+query, media, nil, bytes.NewReader(body))
			if err != nil || answer.Status != http.StatusAccepted {
				t.Fatalf("%s: %d %v %s", media, answer.Status, err, answer.Body)
			}
			return answer.Batch()
		}
		batches := map[string]mixtest.Batch{}
		lines := mixed(t, f, "ndjson", large)
		batches[submit(mixtest.NDJSON, "label=ndjson", f.Lines(t, lines))] = lines
		table := mixed(t, f, "csv", small)
		batches[submit(mixtest.CSV, "", f.Table(t, table))] = table
		items := mixed(t, f, "json", small)
		batches[f.SubmitJSON(t, items, map[string]any{"label": "json"})] = items
		stored := mixed(t, f, "stored", small)
		batches[submitStored(t, f, stored)] = stored
		list, text := urlList(f, "tsv", small)
		batches[submit(mixtest.TSV, "sandbox="+f.Sandbox+"&path=/list", text)] = list

		for id := range batches { // what one has under way is hidden, too
			f.API.WaitFinal(t, id, limit)
		}
		n := 0
		for id, batch := range batches {
			f.Check(t, id, batch, limit)
			n += len(batch)
		}
		t.Logf("%d items in %d forms, 0 lost", n, len(batches))
	})
}

// submitStored puts a manifest into the bucket and names it.
func submitStored(t *testing.T, f *mixtest.Fleet, batch mixtest.Batch) string {
	t.Helper()
	manifest := f.PutObject(t, "manifests/list.ndjson", f.Lines(t, batch))
	answer, err := f.API.Call(t.Context(), http.MethodPost, "/v1/batches", nil, map[string]any{"manifest": manifest, "format": "ndjson"})
	if err != nil || answer.Status != http.StatusAccepted {
		t.Fatalf("by reference: %d %v %s", answer.Status, err, answer.Body)
	}
	return answer.Batch()
}

// urlList is a batch as a list of URLs with sizes and digests. Some lines have none, and every fiftieth has the digest of something else.
func urlList(f *mixtest.Fleet, name string, n int) (mixtest.Batch, []byte) {
	host := strings.TrimPrefix(f.URL, "http://")
	batch := make(mixtest.Batch, n)
	text := []byte("TsvHttpData-1.0\n")
	for i := range batch {
		path := fmt.Sprintf("/get/%s/%d.txt", name, i)
		c := mixtest.Copy{Content: fmt.Appendf(nil, "line %d of %s", i, name), Dest: mixtest.ToSandbox("/list/" + host + path)}
		url := f.Give(path, c.Content)
		c.Src = mixtest.FromURL(url)
		digest := md5.Sum(c.Content)
		if i%50 == 9 {
			digest, c.Fails = md5.Sum([]byte("something else")), protocol.Corrupt
		}
		if text = append(text, url...); i%7 != 0 || c.Fails != "" {
			text = fmt.Appendf(text, "\t%d\t%s", len(c.Content), base64.StdEncoding.EncodeToString(digest[:]))
		}
		text = append(text, '\n')
		batch[i] = c
	}
	return batch, text
}
