package mixtest

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// Store is an S3 and keys that may do everything with it.
type Store struct{ Endpoint, AccessKey, SecretKey string }

// StartUp starts "up" with keys for the S3 in it, which has the bucket of the fleet. env are more settings of all its processes, as [NewUp] has them.
func StartUp(t testing.TB, env ...string) (*Fleet, Store, *Process) {
	t.Helper()
	s := Store{AccessKey: "mixkey", SecretKey: "mixsecret"}
	f := NewUp(t, append(env, "S3_ACCESS_KEY="+s.AccessKey, "S3_SECRET_KEY="+s.SecretKey)...)
	p := f.Start(t, "up")
	s.Endpoint = p.Ready(t)["s3"]
	s.MakeBucket(t, f.Bucket)
	return f, s, p
}

// readyLine is how "up" begins to say that it is ready.
const readyLine = `{"api":`

// Ready is what "up" says of itself when it is ready: where its parts are, by their names.
func (p *Process) Ready(t testing.TB) map[string]string {
	t.Helper()
	var line string
	p.waitFor(t, func() (whole bool) {
		_, line, _ = strings.Cut(p.Log(), readyLine)
		line, _, whole = strings.Cut(line, "\n")
		return whole
	})
	var ready map[string]string
	if err := json.Unmarshal([]byte(readyLine+line), &ready); err != nil {
		t.Fatalf("%s does not say where its parts are: %v", p.Name, err)
	}
	return ready
}

// Client is a client of the store that keeps no connections.
func (s *Store) Client(t testing.TB) *minio.Client {
	t.Helper()
	client, err := minio.New(strings.TrimPrefix(s.Endpoint, "http://"), &minio.Options{
		Creds: credentials.NewStaticV4(s.AccessKey, s.SecretKey, ""), Region: "us-east-1", Transport: &http.Transport{DisableKeepAlives: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// MakeBucket makes a bucket.
func (s *Store) MakeBucket(t testing.TB, name string) {
	t.Helper()
	if err := s.Client(t).MakeBucket(t.Context(), name, minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
}
