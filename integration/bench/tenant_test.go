package bench

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkSecondTenant is how long another tenant's single item takes, from the call to its answer, while a first one has 200,000 items
// queued, and without that load: in the lane of waiting calls, and as a batch of its own in the bulk lane.
func BenchmarkSecondTenant(b *testing.B) {
	items, calls := scale(200_000), scale(300)
	src := newSource(b, 1)
	f := startFleet(b, src, "--file-sync", "off")
	other := f.tenant(b, "ORG-second")
	at := func(int) string { return src.at(0) }
	ways := map[string]func(ctx context.Context, i int) error{
		"call": func(ctx context.Context, i int) error { return other.one(ctx, src.at(0), i) },
		"batch": func(ctx context.Context, i int) error {
			_, _, err := other.run(ctx, 1, toSandboxLine(at, "b"+strconv.Itoa(i)))
			return err
		},
	}
	took := map[string]samples{}
	measure := func(ctx context.Context, load string) {
		for i := range calls {
			for way, once := range ways {
				begun := time.Now()
				if err := once(ctx, i); err != nil {
					b.Fatalf("%s, %s: %v", way, load, err)
				}
				took[way+"-"+load] = append(took[way+"-"+load], time.Since(begun))
			}
		}
	}
	for b.Loop() {
		ctx, cancel := context.WithTimeout(b.Context(), volumeLimit)
		measure(ctx, "alone")
		accepted, err := f.volume().submit(ctx, lines(items, toSandboxLine(at, "load")))
		if err != nil {
			b.Fatal(err)
		}
		measure(ctx, "loaded")
		var now batchState
		if err := f.volume().do(ctx, http.MethodGet, "/v1/batches/"+accepted.ID, "", nil, http.StatusOK, &now); err != nil {
			b.Fatal(err)
		}
		if now.ended() {
			b.Fatalf("the load was over before the measurement: %+v", now)
		}
		if err := f.volume().do(ctx, http.MethodPost, "/v1/batches/"+accepted.ID+"/cancel", "", nil, http.StatusOK, new(struct{})); err != nil {
			b.Fatal(err)
		}
		if _, err := f.volume().end(ctx, accepted.ID); err != nil {
			b.Fatal(err)
		}
		cancel()
	}
	onlyOurs(b)
	for way := range ways {
		for _, load := range []string{"alone", "loaded"} {
			b.ReportMetric(milliseconds(took[way+"-"+load].median()), way+"-"+load+"-p50-ms")
			b.ReportMetric(milliseconds(took[way+"-"+load].quantile(0.99)), way+"-"+load+"-p99-ms")
		}
	}
}

// tenant makes a key of another org.
func (f *fleet) tenant(b *testing.B, org string) volume {
	b.Helper()
	var made struct {
		Key string `json:"key"`
	}
	body := strings.NewReader(fmt.Sprintf(`{"org":%q,"role":"copy","name":"bench"}`, org))
	if err := f.volume().do(b.Context(), http.MethodPost, "/v1/keys", "application/json", body, http.StatusCreated, &made); err != nil {
		b.Fatal(err)
	}
	return volume{f.ready.API, made.Key, f.client}
}

// one makes a synchronous call for one file.
func (v volume) one(ctx context.Context, url string, i int) error {
	body := fmt.Sprintf(`{"files":[{"src":{"type":"httpGetLocation","url":%q},"dest":{"type":"sandboxFileLocation","path":"/c%d"}}]}`, url, i)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, v.url+"/api/orgs/ORG-second/sandboxes/"+sandboxID+"/file/copy", strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+v.key)
	resp, err := v.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the copy call answered %s: %s", resp.Status, answer)
	}
	return allSucceeded(answer, 1)
}
