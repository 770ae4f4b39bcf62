package volume

import (
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(miniotest.Main(mixtest.Runner{M: m}))
}

// limit bounds what a test waits for; only a test that fails waits so long.
const limit = 240 * time.Second

// fleets bounds those that run at once: they want processors, the tests wait for them.
var fleets = make(chan struct{}, 3)

// room waits until there may be another fleet.
func room(t *testing.T) {
	t.Helper()
	fleets <- struct{}{}
	t.Cleanup(func() { <-fleets })
}

// up starts a fleet in one process.
func up(t *testing.T, env ...string) (*mixtest.Fleet, *mixtest.Process) {
	t.Helper()
	room(t)
	f := mixtest.NewUp(t, env...)
	process := f.Start(t, "up")
	return f, process
}

// roles starts a fleet of processes on a real nats-server and a real MinIO.
func roles(t *testing.T, env ...string) (*mixtest.Fleet, map[string]*mixtest.Process) {
	t.Helper()
	room(t)
	f := mixtest.NewRoles(t, miniotest.Shared(t), env...)
	running := map[string]*mixtest.Process{"nats": f.StartNATS(t)}
	for _, role := range []string{"api", "aggregator", "worker"} {
		running[role] = f.Start(t, role)
	}
	return f, running
}

// everywhere runs a test on both kinds of fleet.
func everywhere(t *testing.T, test func(t *testing.T, f *mixtest.Fleet), env ...string) {
	t.Helper()
	t.Run("up", func(t *testing.T) { t.Parallel(); f, _ := up(t, env...); test(t, f) })
	t.Run("roles", func(t *testing.T) { t.Parallel(); f, _ := roles(t, env...); test(t, f) })
}

// mixed makes a batch of n little items: HTTP to sandbox, sandbox to object, object to sandbox, and every twentieth has no source.
func mixed(t *testing.T, f *mixtest.Fleet, name string, n int) mixtest.Batch {
	t.Helper()
	const objects = 10
	var stored []map[string]any
	content := func(i int) []byte { return fmt.Appendf(nil, "item %d of %s", i, name) }
	for i := range objects {
		stored = append(stored, f.PutObject(t, fmt.Sprintf("src/%s/%d", name, i), content(i)))
	}
	batch := make(mixtest.Batch, n)
	for i := range batch {
		path := fmt.Sprintf("/%s/%d.txt", name, i)
		c := mixtest.Copy{ID: fmt.Sprintf("%s-%d", name, i), Content: content(i), Dest: mixtest.ToSandbox("/out" + path)}
		switch i % 20 {
		case 3, 13:
			c.Src, c.Dest = f.FromSandbox(t, "/in"+path, c.Content), f.ToObject("out"+path)
		case 5, 15:
			c.Src, c.Content = stored[i%objects], content(i%objects)
		case 7:
			c.Src, c.Fails = mixtest.FromURL(f.URL+"/none"+path), protocol.NotFound
		default:
			c.Src = mixtest.FromURL(f.Give("/get"+path, c.Content))
		}
		batch[i] = c
	}
	return batch
}
