package hostile

import (
	"io/fs"
	"path/filepath"
	"slices"
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
	f := mixtest.NewUp(t, mixtest.Steady)
	p := f.Start(t, "up", append(env, "NATS_LISTEN=127.0.0.1:0")...)
	return &watched{f, p.Log, connect(t, p.Ready(t)["nats"])}
}

func connect(t *testing.T, url string) jetstream.JetStream {
	t.Helper()
	return mixtest.Connect(t, url, nats.MaxReconnects(0))
}

// traces is what accepting anything would change: the last sequence of each stream, the rules, and the files.
type traces struct {
	Published map[string]uint64
	Files     []string
}

// idle are the streams that change without a call: workers rewrite their claims.
var idle = []string{"KV_cf-claims"}

// rules has the lease of the front that decides on events, which renews it; of all else there the subjects are counted.
const rules, lease = "KV_cf-rules", "$KV.cf-rules.lead"

func (w *watched) traces(t *testing.T) traces {
	t.Helper()
	seen := traces{Published: map[string]uint64{}}
	list := w.js.ListStreams(t.Context())
	for info := range list.Info() {
		if name := info.Config.Name; name != rules && !slices.Contains(idle, name) {
			seen.Published[name] = info.State.LastSeq
		}
	}
	stream, err := w.js.Stream(t.Context(), rules)
	if err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(t.Context(), jetstream.WithSubjectFilter(">"))
	if err != nil {
		t.Fatal(err)
	}
	for subject, n := range info.State.Subjects {
		if subject != lease {
			seen.Published[subject] = n
		}
	}
	if err := list.Err(); err != nil || len(seen.Published) < 6 {
		t.Fatalf("streams %v, %v", seen.Published, err)
	}
	sandboxes := filepath.Dir(filepath.Dir(w.Dir))
	err = filepath.WalkDir(sandboxes, func(name string, _ fs.DirEntry, err error) error {
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
