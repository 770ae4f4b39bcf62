package bench

import (
	"context"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// startMinIO runs a MinIO of the benchmark's own and returns its endpoint. env are more settings.
func startMinIO(b *testing.B, env ...string) string {
	b.Helper()
	path := program(b, "COPYFLEET_MINIO", "make .tools/minio")
	address := freeAddress(b)
	cmd := exec.Command(path, "server", b.TempDir(), "--quiet", "--address", address, "--console-address", freeAddress(b))
	cmd.Env = append(environ("MINIO_ROOT_USER="+accessKey, "MINIO_ROOT_PASSWORD="+secretKey, "MINIO_UPDATE=off", "MINIO_BROWSER=off"), env...)
	p := start(b, cmd)
	p.answers(b, http.MethodGet, "http://"+address+"/minio/health/ready")
	return "http://" + address
}

// newS3 is a client that makes a bucket for the contenders, presigns for the direct loop, and checks.
func newS3(b *testing.B, endpoint string) *minio.Client {
	b.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 8}
	b.Cleanup(transport.CloseIdleConnections)
	s3, err := minio.New(strings.TrimPrefix(endpoint, "http://"), &minio.Options{
		Creds: credentials.NewStaticV4(accessKey, secretKey, ""), Region: "us-east-1", Transport: transport, BucketLookup: minio.BucketLookupPath,
	})
	if err != nil {
		b.Fatal(err)
	}
	if err := s3.MakeBucket(context.Background(), bucketName, minio.MakeBucketOptions{}); err != nil {
		b.Fatal(err)
	}
	return s3
}

const bucketName = "bench"
