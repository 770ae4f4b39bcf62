package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// volume speaks to the batches API, whoever serves it.
type volume struct {
	url, key string
	client   *http.Client
}

func (f *fleet) volume() volume    { return volume{f.ready.API, f.ready.APIKey, f.client} }
func (p *pipeline) volume() volume { return volume{p.url, pipelineKey, p.client} }

// batchState is what a benchmark looks at in a batch.
type batchState struct {
	ID     string `json:"id"`
	State  string `json:"state"`
	Total  int    `json:"total"`
	Counts struct {
		Succeeded int `json:"succeeded"`
		Failed    int `json:"failed"`
		Canceled  int `json:"canceled"`
	} `json:"counts"`
}

func (s *batchState) ended() bool {
	return s.Counts.Succeeded+s.Counts.Failed+s.Counts.Canceled == s.Total && s.Total > 0
}

// volumeLimit bounds one batch.
const volumeLimit = 10 * time.Minute

// lines streams a manifest of n items; it is never in memory as a whole.
func lines(n int, line func(w io.Writer, i int)) io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		buffered := bufio.NewWriterSize(w, 256<<10)
		for i := range n {
			line(buffered, i)
		}
		w.CloseWithError(buffered.Flush())
	}()
	return r
}

// toSandboxLine is an item that copies a URL into a sandbox.
func toSandboxLine(url func(i int) string, dir string) func(w io.Writer, i int) {
	return func(w io.Writer, i int) {
		fmt.Fprintf(w, `{"id":"%d","src":{"type":"httpGetLocation","url":%q},"dest":{"type":"sandboxFileLocation","sandbox":%q,"path":"/%s/%s"}}`+"\n",
			i, url(i), sandboxID, dir, fileName(i))
	}
}

func (v volume) do(ctx context.Context, method, path, kind string, body io.Reader, want int, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, v.url+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+v.key)
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	resp, err := v.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != want {
		return fmt.Errorf("%s %s answered %s: %s", method, path, resp.Status, answer)
	}
	return json.Unmarshal(answer, into)
}

// submit streams a manifest and returns the accepted batch.
func (v volume) submit(ctx context.Context, manifest io.ReadCloser) (batchState, error) {
	defer manifest.Close()
	var accepted batchState
	err := v.do(ctx, http.MethodPost, "/v1/batches", "application/x-ndjson", manifest, http.StatusAccepted, &accepted)
	return accepted, err
}

// end waits for the end of a batch.
func (v volume) end(ctx context.Context, id string) (batchState, error) {
	wait := time.Millisecond
	for {
		var now batchState
		if err := v.do(ctx, http.MethodGet, "/v1/batches/"+id, "", nil, http.StatusOK, &now); err != nil {
			return now, err
		}
		if now.ended() {
			return now, nil
		}
		select {
		case <-ctx.Done():
			return now, fmt.Errorf("the batch is %s, %+v of %d: %w", now.State, now.Counts, now.Total, ctx.Err())
		case <-time.After(wait):
			wait = min(2*wait, 100*time.Millisecond) // asking costs the server something, too
		}
	}
}

// run submits a batch and waits for its end.
func (v volume) run(ctx context.Context, items int, line func(w io.Writer, i int)) (accepting, whole time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, volumeLimit)
	defer cancel()
	begun := time.Now()
	accepted, err := v.submit(ctx, lines(items, line))
	if err != nil {
		return 0, 0, err
	}
	accepting = time.Since(begun)
	ended, err := v.end(ctx, accepted.ID)
	if err == nil && (ended.Total != items || ended.Counts.Succeeded != items) {
		err = fmt.Errorf("%d items ended as %+v", items, ended)
	}
	return accepting, time.Since(begun), err
}

// BenchmarkVolumeNoOp is the whole cycle of batches whose items move nothing: accepted over a socket, durable, queued, run,
// with receipts. The cost of an item is to be the same whatever the size of its batch.
//
// Items that take no time need many slots: with few of them a worker does nothing but wait for the disk between two fetches.
func BenchmarkVolumeNoOp(b *testing.B) {
	const slots = 256
	p := startPipeline(b, slots)
	api := p.volume()
	line := func(dir string) func(io.Writer, int) {
		return toSandboxLine(func(i int) string { return "http://127.0.0.1/" + strconv.Itoa(i) }, dir)
	}
	if _, _, err := api.run(b.Context(), 1000, line("warm")); err != nil {
		b.Fatal(err)
	}
	sizes := []int{scale(10_000), scale(100_000), scale(1_000_000)}
	accepting, whole := map[int]samples{}, map[int]samples{}
	for b.Loop() {
		for _, n := range sizes {
			accept, all, err := api.run(b.Context(), n, line("d"))
			if err != nil {
				b.Fatal(err)
			}
			accepting[n], whole[n] = append(accepting[n], accept), append(whole[n], all)
		}
	}
	onlyOurs(b)
	per := func(d time.Duration, n int) float64 { return float64(d) / float64(time.Microsecond) / float64(n) }
	least := per(whole[sizes[0]].median(), sizes[0])
	for _, n := range sizes {
		b.ReportMetric(float64(n)/accepting[n].median().Seconds(), fmt.Sprintf("accept-%d-items/s", n))
		b.ReportMetric(float64(n)/whole[n].median().Seconds(), fmt.Sprintf("whole-%d-items/s", n))
		b.ReportMetric(per(whole[n].median(), n)/least, fmt.Sprintf("item-%d/%d-x", n, sizes[0]))
	}
}

// BenchmarkVolumeFiles is a batch of 20,000 files of 4 KiB from HTTP into a sandbox, beside "rclone copyurl --urls" with the same
// concurrency. Both take turns.
func BenchmarkVolumeFiles(b *testing.B) {
	items := scale(20_000)
	for _, sync := range []string{"on", "off"} {
		b.Run("sync="+sync, func(b *testing.B) {
			src := newSource(b, items)
			f, peer := startFleet(b, src, "--file-sync", sync), newRclone(b, src)
			api, work := f.volume(), b.TempDir()
			before := memoryOf(b, f)
			race(b, items,
				contender{
					name: "copyfleet",
					copy: func(ctx context.Context, round string, items int) error {
						_, _, err := api.run(ctx, items, toSandboxLine(src.at, round))
						return err
					},
					check: func(_ context.Context, round string) error {
						return checkAndRemove(f.sandboxDir(round), src.files)
					},
				},
				contender{
					name: "rclone", cold: true,
					copy: func(ctx context.Context, round string, _ int) error {
						return peer.copy(ctx, filepath.Join(work, round))
					},
					check: func(_ context.Context, round string) error {
						return checkAndRemove(filepath.Join(work, round), src.files)
					},
				},
			)
			reportMemory(b, f, before)
		})
	}
}

// checkAndRemove checks a directory and makes room.
func checkAndRemove(dir string, files [][]byte) error {
	if err := checkDir(dir, files); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// BenchmarkVolumeMemory is the most memory of "up" while it takes and runs a batch: with a million items as with a hundred thousand. The
// items fail at once, at the address guard, and leave the largest receipts.
func BenchmarkVolumeMemory(b *testing.B) {
	sizes := []int{scale(100_000), scale(1_000_000)}
	peaks := map[int]int64{}
	for b.Loop() {
		for _, n := range sizes {
			peaks[n] = max(peaks[n], peakOf(b, n))
		}
	}
	onlyOurs(b)
	for _, n := range sizes {
		b.ReportMetric(float64(peaks[n])/(1<<20), fmt.Sprintf("peak-%d-MiB", n))
	}
	b.ReportMetric(float64(peaks[sizes[1]])/float64(peaks[sizes[0]]), fmt.Sprintf("peak-%d/%d-x", sizes[1], sizes[0]))
}

func peakOf(b *testing.B, items int) int64 {
	b.Helper()
	f := startFleet(b, nil)
	defer f.end(b)
	ctx, cancel := context.WithTimeout(b.Context(), volumeLimit)
	defer cancel()
	refused := func(i int) string { return "http://169.254.169.254/" + strconv.Itoa(i) }
	accepted, err := f.volume().submit(ctx, lines(items, toSandboxLine(refused, "none")))
	if err != nil {
		b.Fatal(err)
	}
	ended, err := f.volume().end(ctx, accepted.ID)
	if err != nil || ended.Counts.Failed != items {
		b.Fatalf("%d items ended as %+v: %v", items, ended, err)
	}
	return memoryOf(b, f)
}

// end stops the fleet before the benchmark does.
func (f *fleet) end(b *testing.B) {
	b.Helper()
	if err := f.process.stop(); err != nil {
		b.Error(err)
	}
}
