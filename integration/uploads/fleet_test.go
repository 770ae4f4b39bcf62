package uploads

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

// fleet is a fleet with a staging bucket of its own.
type fleet struct {
	*mixtest.Fleet

	minio   *miniotest.Server
	staging string
	nats    *mixtest.Process
	roles   map[string]*mixtest.Process
}

// newFleet starts NATS, a front, an aggregator and a worker.
func newFleet(t *testing.T, minio *miniotest.Server) *fleet {
	t.Helper()
	f := &fleet{Fleet: mixtest.NewRoles(t, minio), minio: minio, staging: minio.NewBucket(t), roles: map[string]*mixtest.Process{}}
	f.Setenv("COPYFLEET_STAGING_BUCKET=" + f.staging)
	f.nats = f.StartNATS(t)
	for _, role := range []string{"api", "aggregator", "worker"} {
		f.roles[role] = f.Start(t, role)
	}
	return f
}

// client is one that uploads a file of three parts, the last of which is short.
func (f *fleet) client(name string) *client { return newClient(f.API, f.Sandbox, name, 20*mib) }

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

// published fails the test unless the file has exactly the client's bytes, the session says so, and nothing is left of it.
func (f *fleet) published(t *testing.T, c *client) {
	t.Helper()
	content, err := os.ReadFile(f.OnDisk(c.path))
	if err != nil || digest(content) != digest(c.content) {
		t.Errorf("the file has %d bytes (%v), which are not those that were sent", len(content), err)
	}
	if err := c.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	size := int64(len(c.content))
	if s := c.session; s.Status != "completed" || s.Accepted != size || s.Published != size || s.Reserved != 0 || len(s.Missing) != 0 || s.Next != s.PartCount {
		t.Errorf("the session is %+v", s)
	}
	f.nothingLeft(t, c)
}

// nothingLeft fails the test if a hidden file, a staged object, an unfinished multipart upload, a record of parts or a share of the quota stays.
func (f *fleet) nothingLeft(t *testing.T, c *client) {
	t.Helper()
	var left []string
	if !mixtest.Until(comes, func() bool { left = f.left(t, c); return len(left) == 0 }) {
		t.Errorf("left behind: %q", left)
	}
	f.CheckNothingHidden(t)
}

func (f *fleet) left(t *testing.T, c *client) []string {
	t.Helper()
	var left []string
	for key, value := range f.Records(t, broker.UploadBucket) {
		plain, err := broker.Unpack(value)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case strings.HasSuffix(key, protocol.UploadSessionEnd):
			var u protocol.Upload
			if err := json.Unmarshal(plain, &u); err != nil {
				t.Fatal(err)
			}
			if !u.Cleaned {
				left = append(left, fmt.Sprintf("session %s, %s", u.ID, u.State))
			}
			left = append(left, f.unfinished(t, u.Key)...)
		case strings.HasSuffix(key, protocol.UploadQuotaEnd):
			var q protocol.UploadQuota
			if err := json.Unmarshal(plain, &q); err != nil {
				t.Fatal(err)
			}
			if q.Sum() != 0 {
				left = append(left, fmt.Sprintf("%d bytes of the quota", q.Sum()))
			}
		default:
			left = append(left, key)
		}
	}
	for object := range f.store(t).ListObjects(t.Context(), f.staging, minio.ListObjectsOptions{Recursive: true}) {
		left = append(left, fmt.Sprint("object ", object.Key, " ", object.Err))
	}
	if n := f.Hidden(); n > 0 {
		left = append(left, fmt.Sprint(n, " hidden files beside ", c.path))
	}
	return left
}

// unfinished are the multipart uploads at a key: MinIO lists those of whole buckets unreliably.
func (f *fleet) unfinished(t *testing.T, key string) []string {
	t.Helper()
	var left []string
	for upload := range f.store(t).ListIncompleteUploads(t.Context(), f.staging, key, true) {
		left = append(left, fmt.Sprint("multipart upload ", upload.Key, " ", upload.Err))
	}
	return left
}

// spoil replaces a part of the only session by other bytes.
func (f *fleet) spoil(t *testing.T, number, size int) {
	t.Helper()
	for key, value := range f.Records(t, broker.UploadBucket) {
		if !strings.HasSuffix(key, protocol.UploadSessionEnd) {
			continue
		}
		plain, err := broker.Unpack(value)
		var u protocol.Upload
		if err == nil {
			err = json.Unmarshal(plain, &u)
		}
		if err != nil {
			t.Fatal(err)
		}
		_, id, _ := strings.Cut(u.Multipart, ".") // behind the name of its checksums
		store, content := minio.Core{Client: f.store(t)}, make([]byte, size)
		sum := minio.ChecksumCRC64NVME.ChecksumBytes(content)
		header := http.Header{}
		header.Set(minio.ChecksumCRC64NVME.Key(), sum.Encoded())
		if _, err := store.PutObjectPart(t.Context(), u.Bucket, u.Key, id, number+1, bytes.NewReader(content), int64(size),
			minio.PutObjectPartOptions{CustomHeader: header, DisableContentSha256: true}); err != nil {
			t.Fatal(err)
		}
	}
}

// store keeps no connection, so that no goroutine of it outlives a call.
func (f *fleet) store(t *testing.T) *minio.Client {
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
