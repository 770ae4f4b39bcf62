package redelivery

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

// NATS loses every acknowledgement of a batch that has ended: its consumers are set back to before it, which is more than a
// crash does, that loses those of the last 100 ms. All items come again, and the reports too.
func TestLostAcknowledgementsCopyNothingAgain(t *testing.T) {
	t.Parallel()
	for name, restart := range map[string]bool{"the worker lives on": false, "the worker is new": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := mixtest.NewRoles(t, miniotest.Shared(t), mixtest.Steady)
			server := f.StartNATS(t)
			f.Start(t, "api")
			f.Start(t, "aggregator")
			worker := f.Start(t, "worker")
			run(t, f, f.Small("first", 1)) // a worker that says it is ready has not made its consumers yet
			server.Kill9(t)
			forgotten := consumers(t, f.NATSDir())
			server = f.StartNATS(t)

			bulk, interactive := f.Mixed(t, "bulk", 300), f.Mixed(t, "inter", 50)
			ids := []string{run(t, f, bulk), run(t, f, interactive)}
			js := f.JetStream(t)
			through := func() {
				t.Helper()
				folded(t, js)
				for _, lane := range []string{"CF_WORK_BULK", "CF_WORK_INTERACTIVE"} {
					consumed(t, js, lane, f.Consumer())
				}
			}
			through()
			asked, before := f.AskedBelow("/get/"), f.Records(t, batchBucket)
			if restart {
				worker.Kill9(t)
			}
			server.Kill9(t)
			restore(t, forgotten)
			f.StartNATS(t)
			if restart {
				f.Start(t, "worker")
			}
			js = f.JetStream(t)
			through()
			if n := delivered(t, f, "CF_WORK_BULK"); n < uint64(len(bulk)) {
				t.Fatalf("%d items came again, must be %d: the test would prove nothing", n, len(bulk))
			}
			unchanged(t, f, before, "redelivery")
			if n := f.AskedBelow("/get/"); n != asked {
				t.Errorf("%d items were copied again", n-asked)
			}
			f.Check(t, ids[0], bulk, settles)
			f.Check(t, ids[1], interactive, settles)
			for _, c := range append(bulk, interactive...) {
				if url, ok := c.Dest["url"].(string); ok {
					if n := len(f.Taken(strings.TrimPrefix(url, f.URL))); n != 1 {
						t.Errorf("item %s was uploaded %d times", c.ID, n)
					}
				}
			}
			t.Logf("%d items, %d faults (acknowledgements lost), 0 lost, 0 copied again", len(bulk)+len(interactive), len(bulk)+len(interactive))
		})
	}
}

// delivered is how many messages the org's consumer of a stream has delivered since it was set back.
func delivered(t *testing.T, f *mixtest.Fleet, stream string) uint64 {
	t.Helper()
	c, err := f.JetStream(t).Consumer(t.Context(), stream, f.Consumer())
	if err != nil {
		t.Fatal(err)
	}
	return c.CachedInfo().Delivered.Consumer
}

// consumers reads the state files of all consumers, by name.
func consumers(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.Contains(name, "/obs/") {
			return err
		}
		files[name], err = os.ReadFile(name)
		return err
	})
	if err != nil || len(files) < len(protocol.Lanes)*protocol.Shards {
		t.Fatalf("%d files of consumers found below %s, %v", len(files), dir, err)
	}
	return files
}

// restore puts the files back, and removes those that there were not.
func restore(t *testing.T, files map[string][]byte) {
	t.Helper()
	dirs := map[string]bool{}
	for name, content := range files {
		dirs[filepath.Dir(name)] = true
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			if name := filepath.Join(dir, entry.Name()); !entry.IsDir() && files[name] == nil {
				if err := os.Remove(name); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}
