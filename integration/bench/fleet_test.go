package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// concurrency is how many files each contender copies at once: the slots of our worker, rclone's transfers.
const concurrency = 32

const (
	accessKey = "benchaccesskey"
	secretKey = "benchsecretkey0123456789"
	sandboxID = "SBX-bench"
)

// fleet is "copyfleet up" as a process.
type fleet struct {
	ready struct {
		API    string `json:"api"`
		S3     string `json:"s3"`
		NATS   string `json:"nats"`
		Org    string `json:"org"`
		APIKey string `json:"api_key"`
		Data   string `json:"data"`
	}
	process *process
	client  *http.Client
	source  *source
}

// tracer is the command to run "up" under, from COPYFLEET_UNDER: strace or perf, with their flags.
func tracer() []string { return strings.Fields(os.Getenv("COPYFLEET_UNDER")) }

// startFleet starts "copyfleet up" in a new directory and waits for its ready line.
func startFleet(b *testing.B, src *source, flags ...string) *fleet {
	b.Helper()
	args := append(tracer(), program(b, "COPYFLEET_BIN", "make build"), "up", "--json", "--log-level", "WARN", "--data", b.TempDir(),
		"--listen", "127.0.0.1:0", "--s3-listen", "127.0.0.1:0", "--slots", fmt.Sprint(concurrency),
		"--s3-access-key", accessKey, "--s3-secret-key", secretKey)
	cmd := exec.Command(args[0], append(args[1:], flags...)...)
	cmd.Env = environ()
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 4}
	b.Cleanup(transport.CloseIdleConnections)
	f := &fleet{source: src, client: &http.Client{Transport: transport}}
	f.process = start(b, cmd)
	decoded := make(chan error, 1)
	go func() { decoded <- json.NewDecoder(out).Decode(&f.ready) }()
	select {
	case err := <-decoded:
		if err != nil {
			b.Fatalf("the ready line: %v\n%s", err, f.process.log)
		}
	case <-time.After(startLimit):
		b.Fatalf("not ready after %s\n%s", startLimit, f.process.log)
	}
	return f
}

// location is a source or a destination, as it stands in a request.
type location map[string]string

func toSandbox(dir string) func(i int) location {
	return func(i int) location {
		return location{"type": "sandboxFileLocation", "path": "/" + dir + "/" + fileName(i)}
	}
}

func toBucket(bucket, prefix string) func(i int) location {
	return func(i int) location {
		return location{"type": "objectLocation", "bucket": bucket, "key": prefix + "/" + fileName(i)}
	}
}

// sandboxDir is where the files of a sandbox directory lie.
func (f *fleet) sandboxDir(dir string) string {
	return filepath.Join(f.ready.Data, "sandboxes", f.ready.Org, sandboxID, dir)
}

// body is a copy call for the files from first to before end.
func (f *fleet) body(first, end int, dest func(i int) location) ([]byte, error) {
	type file struct {
		Src  location `json:"src"`
		Dest location `json:"dest"`
	}
	files := make([]file, 0, end-first)
	for i := first; i < end; i++ {
		files = append(files, file{location{"type": "httpGetLocation", "url": f.source.at(i)}, dest(i)})
	}
	return json.Marshal(map[string]any{"files": files})
}

// copy makes one synchronous copy call and returns when all its items have ended, each with success.
func (f *fleet) copy(ctx context.Context, body []byte, items int) error {
	url := f.ready.API + "/api/orgs/" + f.ready.Org + "/sandboxes/" + sandboxID + "/file/copy"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+f.ready.APIKey)
	resp, err := f.client.Do(req)
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
	return allSucceeded(answer, items)
}

// allSucceeded checks the answer of a copy call: one result an item, all of them successes.
func allSucceeded(answer []byte, items int) error {
	var results struct {
		Results []struct {
			Success bool   `json:"success"`
			Error   string `json:"error"`
		} `json:"results"`
	}
	if err := json.Unmarshal(answer, &results); err != nil {
		return fmt.Errorf("the copy call's answer: %w", err)
	}
	if len(results.Results) != items {
		return fmt.Errorf("%d results for %d items", len(results.Results), items)
	}
	for i, r := range results.Results {
		if !r.Success {
			return fmt.Errorf("item %d: %s", i, r.Error)
		}
	}
	return nil
}

func TestAnswerMustTellOfEverySuccess(t *testing.T) {
	t.Parallel()
	for answer, good := range map[string]bool{
		`{"results":[{"success":true},{"success":true}]}`:               true,
		`{"results":[{"success":true}]}`:                                false,
		`{"results":[{"success":true},{"success":false,"error":"no"}]}`: false,
		`{}`: false,
	} {
		if err := allSucceeded([]byte(answer), 2); (err == nil) != good {
			t.Errorf("%s: %v", answer, err)
		}
	}
}
