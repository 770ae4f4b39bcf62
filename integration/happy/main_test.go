package happy

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(mixtest.Runner{M: m}) }

const limit = 240 * time.Second

// up starts a fleet in one process.
func up(t *testing.T, env ...string) *mixtest.Fleet {
	t.Helper()
	f := mixtest.NewUp(t, append([]string{mixtest.Steady}, env...)...)
	f.Start(t, "up")
	return f
}

// roles starts a fleet of processes on a real nats-server and a real MinIO, with two workers.
func roles(t *testing.T, env ...string) *mixtest.Fleet {
	t.Helper()
	f := mixtest.NewRoles(t, miniotest.Start(t), append([]string{mixtest.Steady}, env...)...)
	f.StartNATS(t)
	f.Start(t, "api")
	f.Start(t, "aggregator")
	f.Start(t, "worker")
	f.Start(t, "worker")
	return f
}

// everywhere runs a test on both kinds of fleet.
func everywhere(t *testing.T, test func(t *testing.T, f *mixtest.Fleet)) {
	t.Helper()
	t.Run("up", func(t *testing.T) { t.Parallel(); test(t, up(t)) })
	t.Run("roles", func(t *testing.T) { t.Parallel(); test(t, roles(t)) })
}

// result is a line of the published answer.
type result struct {
	ID      string `json:"id,omitempty"`
	Success bool   `json:"success"`
	Error   string `json:"error,omitempty"`
}

// copies posts a copy call and returns its results, in order.
func copies(t *testing.T, f *mixtest.Fleet, files any) []result {
	t.Helper()
	answer, err := f.API.Copy(t.Context(), f.Sandbox, nil, files)
	if err != nil {
		t.Fatal(err)
	}
	if answer.Status != http.StatusOK {
		t.Fatalf("status %d: %s", answer.Status, answer.Body)
	}
	return results(t, answer)
}

func results(t *testing.T, answer mixtest.Answer) []result {
	t.Helper()
	var body struct {
		Results []result `json:"results"`
	}
	if err := json.Unmarshal(answer.Body, &body); err != nil {
		t.Fatalf("%v in %s", err, answer.Body)
	}
	return body.Results
}

// presigned is the answer of /v1/presign.
type presigned struct {
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"`
	Form    map[string]string `json:"form"`
}

func presign(t *testing.T, f *mixtest.Fleet, request map[string]any) presigned {
	t.Helper()
	if request["bucket"] == nil {
		request["bucket"] = f.Bucket
	}
	answer, err := f.API.Call(t.Context(), http.MethodPost, "/v1/presign", nil, request)
	if err != nil || answer.Status != http.StatusOK {
		t.Fatalf("presign: status %d, %v: %s", answer.Status, err, answer.Body)
	}
	var p presigned
	if err := json.Unmarshal(answer.Body, &p); err != nil {
		t.Fatal(err)
	}
	return p
}
