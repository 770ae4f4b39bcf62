package events

import (
	"bytes"
	"context"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

const (
	comes      = 240 * time.Second // how long something may take that must happen
	answers    = 10 * time.Second  // until a call is given up and repeated: what was sent to a process that died gets no answer
	publishers = 4                 // notifications that are sent at once
)

// The targets that a fleet's MinIO has, by the id in their ARNs.
const (
	natsCore      = "arn:minio:sqs::core:nats"
	natsJetStream = "arn:minio:sqs::js:nats"
	natsQueued    = "arn:minio:sqs::jsqueue:nats" // JetStream, kept on MinIO's disk while it cannot be sent
	webhook       = "arn:minio:sqs::hook:webhook"
	webhookQueued = "arn:minio:sqs::hookqueue:webhook"
)

// fleet is a fleet of roles with a MinIO of its own that can publish to it in each way.
type fleet struct {
	*mixtest.Fleet

	minio *miniotest.Server
	store *minio.Client
	nats  *mixtest.Process
	roles map[string]*mixtest.Process
}

// prepare starts a MinIO, and nothing of the fleet.
func prepare(t *testing.T, env ...string) *fleet {
	t.Helper()
	server := miniotest.Start(t)
	f := &fleet{Fleet: mixtest.NewRoles(t, server, env...), minio: server, roles: map[string]*mixtest.Process{}}
	f.targets(t.TempDir())
	server.Kill()
	server.Start()
	f.store = f.client(t)
	return f
}

// newFleet starts NATS, a front, an aggregator and a worker beside the MinIO.
func newFleet(t *testing.T, env ...string) *fleet {
	t.Helper()
	f := prepare(t, env...)
	f.nats = f.StartNATS(t)
	for _, role := range []string{"api", "aggregator", "worker"} {
		f.roles[role] = f.Start(t, role)
	}
	return f
}

// targets tells the MinIO where it may publish to. Of the targets only those have a queue on disk that are named so: the others lose what they cannot send.
func (f *fleet) targets(dir string) {
	subject := protocol.EventSubject(protocol.EventS3, protocol.OrgID(f.API.Org))
	set := func(kind, id string, settings ...string) {
		f.minio.Setenv("MINIO_NOTIFY_" + kind + "_ENABLE_" + id + "=on")
		for _, s := range settings {
			name, value, _ := strings.Cut(s, "=")
			f.minio.Setenv("MINIO_NOTIFY_" + kind + "_" + name + "_" + id + "=" + value)
		}
	}
	address := "ADDRESS=" + strings.TrimPrefix(f.NATS, "nats://")
	set("NATS", "core", address, "SUBJECT="+subject)
	set("NATS", "js", address, "SUBJECT="+subject, "JETSTREAM=on")
	set("NATS", "jsqueue", address, "SUBJECT="+subject, "JETSTREAM=on", "QUEUE_DIR="+filepath.Join(dir, "nats"))
	endpoint, token := "ENDPOINT="+f.API.URL+"/v1/events/s3", "AUTH_TOKEN="+f.API.Key
	set("WEBHOOK", "hook", endpoint, token)
	set("WEBHOOK", "hookqueue", endpoint, token, "QUEUE_DIR="+filepath.Join(dir, "webhook"))
}

// client keeps no connection, so that no goroutine of it outlives a call.
func (f *fleet) client(t *testing.T) *minio.Client {
	t.Helper()
	store, err := minio.New(strings.TrimPrefix(f.minio.Endpoint, "http://"), &minio.Options{
		Creds: credentials.NewStaticV4(f.minio.AccessKey, f.minio.SecretKey, ""), Region: "us-east-1", BucketLookup: minio.BucketLookupPath,
		Transport: &http.Transport{DisableKeepAlives: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// bucket makes a bucket that the org may use.
func (f *fleet) bucket(t *testing.T) string {
	t.Helper()
	name := f.minio.NewBucket(t)
	f.grant(t, f.API.Org, name)
	return name
}

func (f *fleet) grant(t *testing.T, org, bucket string) {
	t.Helper()
	answer, err := f.API.Call(t.Context(), http.MethodPut, "/v1/orgs/"+org+"/grants", nil, map[string]any{"bucket": bucket})
	if err != nil || answer.Status/100 != 2 {
		t.Fatalf("grant %s: status %d, %v: %s", bucket, answer.Status, err, answer.Body)
	}
}

// publishing makes a bucket whose objects MinIO tells of through a target.
func (f *fleet) publishing(t *testing.T, arn string, events ...string) string {
	t.Helper()
	bucket := f.bucket(t)
	f.connect(t, bucket, arn, events...)
	return bucket
}

// connect has MinIO tell of what happens in a bucket.
func (f *fleet) connect(t *testing.T, bucket, arn string, events ...string) {
	t.Helper()
	args := []string{"events", "connect", "--bucket", bucket, "--arn", arn}
	for _, e := range events {
		args = append(args, "--event", e)
	}
	if out := f.Command(t, nil, args...); out.Exit != 0 {
		t.Fatalf("copyfleet %v: exit code %d: %s%s", args, out.Exit, out.Stdout, out.Stderr)
	}
}

// put writes an object, and returns its ETag.
func (f *fleet) put(ctx context.Context, bucket, key string, content []byte, meta ...string) (string, error) {
	options := minio.PutObjectOptions{UserMetadata: map[string]string{}}
	for i := 0; i+1 < len(meta); i += 2 {
		options.UserMetadata[meta[i]] = meta[i+1]
	}
	info, err := f.store.PutObject(ctx, bucket, key, bytes.NewReader(content), int64(len(content)), options)
	return info.ETag, err
}

// puts writes an object or fails the test.
func (f *fleet) puts(t *testing.T, bucket, key, content string) {
	t.Helper()
	if _, err := f.put(t.Context(), bucket, key, []byte(content)); err != nil {
		t.Fatal(err)
	}
}

// dooms starts a role that is to die at a failpoint, in place of the one that runs.
func (f *fleet) dooms(t *testing.T, role, plan string) *mixtest.Process {
	t.Helper()
	f.roles[role].Kill9(t)
	f.roles[role] = f.Start(t, role, "FAILPOINT="+plan)
	return f.roles[role]
}

// again starts a role anew.
func (f *fleet) again(t *testing.T, role string) {
	t.Helper()
	f.roles[role].Kill9(t)
	f.roles[role] = f.Start(t, role)
}

// comeTo waits for the death of a process at its failpoint.
func comeTo(t *testing.T, p *mixtest.Process, plan string) {
	t.Helper()
	select {
	case <-p.Ended():
	case <-time.After(comes):
		t.Fatalf("the %s did not come to %s within %s", p.Name, plan, comes)
	}
	if !p.Killed() || !strings.Contains(p.Log(), failpoint.Env) {
		t.Fatalf("the %s did not die at its failpoint %s", p.Name, plan)
	}
}
