package mixtest

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/producer"
)

// AckWait is that of every fleet here: so long do items stay with a dead worker.
const AckWait = "3s"

// Steady is the setting of a fleet whose workers live, and whose copies are counted: on a busy machine one that lives is silent for
// longer than [AckWait] now and then, and what it holds is copied once more.
const Steady = "ACK_WAIT=30s"

// Fleet is a set of processes on one NATS and one S3, with a world for their copies. It starts with no process of its
// own but those two; addresses stay the same when a process is started again.
type Fleet struct {
	*World

	NATS string // URL; "" if up has it to itself

	owner   testing.TB // whose end is that of all processes
	env     []string   // of every process
	listen  string
	natsDir string
}

const (
	org     = "ORG-dev"
	sandbox = "SBX-mix"
	bucket  = "mix"
)

// NewUp prepares a fleet that is one process with everything in it, "up". env are more settings, NAME=value without
// COPYFLEET_.
func NewUp(t testing.TB, env ...string) *Fleet {
	t.Helper()
	return NewUpOn(t, t.TempDir(), t.TempDir(), env...)
}

// NewUpOn is NewUp with its data and its sandboxes in directories that exist.
func NewUpOn(t testing.TB, data, sandboxes string, env ...string) *Fleet {
	t.Helper()
	f := newFleet(t, sandboxes, env)
	f.env = append(f.env, "COPYFLEET_DATA="+data, "COPYFLEET_S3_LISTEN="+FreeAddress(t))
	return f
}

// NewRoles prepares a fleet of separate processes, "api", "worker" and "aggregator", on a real nats-server, which runs
// already, and the MinIO given.
func NewRoles(t testing.TB, minio *miniotest.Server, env ...string) *Fleet {
	t.Helper()
	f := newFleet(t, t.TempDir(), env)
	f.Bucket = minio.NewBucket(t)
	address := FreeAddress(t)
	f.NATS, f.natsDir = "nats://"+address, t.TempDir()
	f.env = append(f.env, "COPYFLEET_NATS_URL="+f.NATS, "COPYFLEET_AUTO_SANDBOXES=true",
		"COPYFLEET_S3_ENDPOINT="+minio.Endpoint, "COPYFLEET_S3_ACCESS_KEY="+minio.AccessKey, "COPYFLEET_S3_SECRET_KEY="+minio.SecretKey)
	return f
}

func newFleet(t testing.TB, dir string, env []string) *Fleet {
	t.Helper()
	f := &Fleet{owner: t, listen: FreeAddress(t)}
	f.World = NewWorld(t, API{URL: "http://" + f.listen, Key: producer.NewAPIKey(), Org: org}, dir, sandbox, bucket)
	f.env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TMPDIR=" + t.TempDir(), "COPYFLEET_LISTEN=" + f.listen, "COPYFLEET_API_KEY=" + f.API.Key,
		"COPYFLEET_ORG=" + org, "COPYFLEET_SANDBOXES=" + (&url.URL{Scheme: "file", Path: dir}).String(),
		"COPYFLEET_EGRESS_ALLOW=127.0.0.0/8", "COPYFLEET_ACK_WAIT=" + AckWait,
	}
	f.env = append(f.env, settings(env)...)
	return f
}

// Setenv sets variables of the processes that are started from now on, NAME=value as the system has them.
func (f *Fleet) Setenv(env ...string) { f.env = append(f.env, env...) }

func settings(env []string) []string {
	list := make([]string, len(env))
	for i, setting := range env {
		list[i] = "COPYFLEET_" + setting
	}
	return list
}

// Start starts a role ("up", "api", "worker", "aggregator") and returns when it is ready. env are more settings for this
// process. It ends with the test that made the fleet, at the latest.
func (f *Fleet) Start(t testing.TB, role string, env ...string) *Process {
	t.Helper()
	p := launch(t, f.owner, role, program(t, copyfleetProgram), append(slices.Clip(f.env), settings(env)...), "--json", role)
	switch role {
	case "up":
		p.waitFor(t, p.says(readyLine))
	case "api":
		p.waitFor(t, f.answers)
		f.grant(t)
	default:
		p.waitFor(t, p.says("the "+role+" is ready"))
	}
	return p
}

// Join starts a load generator, "bench worker", with more arguments, and returns when it waits for a run.
func (f *Fleet) Join(t testing.TB, args ...string) *Process {
	t.Helper()
	p := launch(t, f.owner, "bench worker", program(t, copyfleetProgram), slices.Clip(f.env), append([]string{"--json", "bench", "worker"}, args...)...)
	p.waitFor(t, p.says("waits for a coordinator"))
	return p
}

// StartNATS starts the nats-server of a fleet of roles, on the data that it left.
func (f *Fleet) StartNATS(t testing.TB) *Process {
	t.Helper()
	return f.StartNATSWithin(t, 0)
}

// StartNATSWithin is StartNATS with a limit on what is stored, in bytes; 0: as much as there is room for.
func (f *Fleet) StartNATSWithin(t testing.TB, most int) *Process {
	t.Helper()
	limit := ""
	if most > 0 {
		limit = fmt.Sprintf("  max_file_store: %d\n", most)
	}
	config := filepath.Join(f.owner.TempDir(), "nats.conf")
	text := fmt.Sprintf("listen: %q\nmax_payload: 8MB\njetstream {\n  store_dir: %q\n  sync_interval: always\n%s}\n",
		strings.TrimPrefix(f.NATS, "nats://"), f.natsDir, limit)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := launch(t, f.owner, "nats-server", program(t, natsProgram), os.Environ(), "-c", config)
	p.waitFor(t, p.says("Server is ready"))
	return p
}

func (f *Fleet) answers() bool {
	answer, err := f.API.Call(context.Background(), http.MethodGet, "/healthz", nil, nil)
	return err == nil && answer.Status == http.StatusOK
}

// grant lets the org use the bucket; up grants it every bucket.
func (f *Fleet) grant(t testing.TB) {
	t.Helper()
	answer, err := repeat(func() (Answer, error) {
		return f.API.Call(t.Context(), http.MethodPut, "/v1/orgs/"+org+"/grants", nil, map[string]any{"bucket": f.Bucket})
	})
	if err != nil || answer.Status/100 != 2 {
		t.Fatalf("grant %s: status %d, %v: %s", f.Bucket, answer.Status, err, answer.Body)
	}
}
