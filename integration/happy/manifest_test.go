package happy

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

const manifestEnds = 5 * time.Minute

// manifest submits a body as it is and returns the batch.
func manifest(t *testing.T, f *mixtest.Fleet, media, query, body string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.API.URL+"/v1/batches"+query, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	req.Header.Set("Authorization", "Bearer "+f.API.Key)
	req.Header.Set("Content-Type", media)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusAccepted {
		t.Fatalf("answered %s: %s, %v", resp.Status, answer, err)
	}
	return resp.Header.Get("Copyfleet-Batch")
}

// Every format, below and above a page, runs to its end.
func TestManifestsRun(t *testing.T) {
	t.Parallel()
	f := up(t)
	const n = 600
	contents, urls := make([]string, n), make([]string, n)
	for i := range n {
		contents[i] = fmt.Sprint("content ", i)
		urls[i] = f.Give(fmt.Sprint("/m/", i), []byte(contents[i]))
	}
	host, err := url.Parse(f.URL)
	if err != nil {
		t.Fatal(err)
	}
	var ndjson, csv, tsv strings.Builder
	csv.WriteString("url,path,size\n")
	tsv.WriteString("TsvHttpData-1.0\n")
	for i := range n {
		line, err := json.Marshal(map[string]any{
			"id": fmt.Sprint(i), "src": mixtest.FromURL(urls[i]), "sha256": mixtest.SHA256([]byte(contents[i])),
			"dest": map[string]any{"type": "sandboxFileLocation", "sandbox": f.Sandbox, "path": fmt.Sprint("/ndjson/", i)},
		})
		if err != nil {
			t.Fatal(err)
		}
		ndjson.Write(append(line, '\n'))
		fmt.Fprintf(&csv, "%s,%d,%d\n", urls[i], i, len(contents[i]))
		sum := md5.Sum([]byte(contents[i]))
		fmt.Fprintf(&tsv, "%s\t%d\t%s\n", urls[i], len(contents[i]), base64.StdEncoding.EncodeToString(sum[:]))
	}
	in := "&sandbox=" + f.Sandbox
	for _, c := range []struct{ name, media, query, body, dir string }{
		{"ndjson", "application/x-ndjson", "?label=x", ndjson.String(), "/ndjson/"},
		{"csv", "text/csv", "?path=/csv" + in, csv.String(), "/csv/"},
		{"tsv", "text/tab-separated-values", "?path=/tsv" + in, tsv.String(), "/tsv/" + host.Host + "/m/"},
		{"csv of one page", "text/csv", "?path=/page" + in, strings.Join(strings.SplitAfter(csv.String(), "\n")[:101], ""), "/page/"},
	} {
		t.Run(c.name, func(t *testing.T) {
			view := f.API.WaitFinal(t, manifest(t, f, c.media, c.query, c.body), manifestEnds)
			if view.State != protocol.BatchSucceeded || view.Counts["succeeded"] != view.Total || view.Total < 100 {
				t.Fatalf("batch %+v", view)
			}
			for i := range view.Total {
				got, err := f.Arrived(t.Context(), &mixtest.Copy{Dest: mixtest.ToSandbox(c.dir + fmt.Sprint(i))})
				if err != nil || string(got) != contents[i] {
					t.Fatalf("item %d arrived as %q: %v", i, got, err)
				}
			}
		})
	}
}
