package hostile

import (
	"encoding/json"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(mixtest.Runner{M: m}) }

const limit = 240 * time.Second

func up(t *testing.T, env ...string) (*mixtest.Fleet, *mixtest.Process) {
	t.Helper()
	f := mixtest.NewUp(t, append([]string{mixtest.Steady}, env...)...)
	p := f.Start(t, "up")
	return f, p
}

// problem is an answer that refuses.
type problem struct {
	Status  int    `json:"status"`
	Code    string `json:"code"`
	Message string `json:"message"`
	Errors  []struct {
		Pointer string `json:"pointer"`
		Code    string `json:"code"`
	} `json:"errors"`
}

func refusal(t *testing.T, answer mixtest.Answer) problem {
	t.Helper()
	var p problem
	if err := json.Unmarshal(answer.Body, &p); err != nil {
		t.Fatalf("%v in %s", err, answer.Body)
	}
	if p.Status != answer.Status || answer.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("status %d, in the body %d, as %s", answer.Status, p.Status, answer.Header.Get("Content-Type"))
	}
	return p
}
