package hostile

import (
	"encoding/json"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
)

// watched is a fleet whose queue and directories a test looks into.
type watched struct {
	*mixtest.Fleet

	log func() string // of its process
	js  jetstream.JetStream
}

// watchedUp starts a fleet in one process whose NATS can be reached.
func watchedUp(t *testing.T, env ...string) *watched {
	t.Helper()
	f := mixtest.NewUp(t)
	p := f.Start(t, "up", append(env, "NATS_LISTEN=127.0.0.1:0")...)
	var ready struct {
		NATS string `json:"nats"`
	}
	_, line, _ := strings.Cut(p.Log(), `{"api":`)
	line, _, _ = strings.Cut(line, "\n")
	if err := json.Unmarshal([]byte(`{"api":`+line), &ready); err != nil {
		t.Fatalf("the ready line: %v", err)
	}
	return &watched{f, p.Log, connect(t, ready.NATS)}
}

func connect(t *testing.T, url string) jetstream.JetStream {
	t.Helper()
	conn, err := nats.Connect(url, nats.MaxReconnects(0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// traces is what accepting anything would change: the last sequence of each stream, and the files.
type traces struct {
	Published map[string]uint64
	Files     []string
}

// idle are the streams that change without a call: workers rewrite their claims.
var idle = []string{"KV_cf-claims"}

func (w *watched) traces(t *testing.T) traces {
	t.Helper()
	seen := traces{Published: map[string]uint64{}}
	list := w.js.ListStreams(t.Context())
	for info := range list.Info() {
		if !slices.Contains(idle, info.Config.Name) {
			seen.Published[info.Config.Name] = info.State.LastSeq
		}
	}
	if err := list.Err(); err != nil || len(seen.Published) < 6 {
		t.Fatalf("streams %v, %v", seen.Published, err)
	}
	sandboxes := filepath.Dir(filepath.Dir(w.Dir))
	err := filepath.WalkDir(sandboxes, func(name string, _ fs.DirEntry, err error) error {
		seen.Files = append(seen.Files, name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return seen
}

// unchanged fails the test if anything was left behind since before.
func (w *watched) unchanged(t *testing.T, before traces) {
	t.Helper()
	if diff := cmp.Diff(before, w.traces(t)); diff != "" {
		t.Errorf("left behind (-before +after):\n%s", diff)
	}
}
