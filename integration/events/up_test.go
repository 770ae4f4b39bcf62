package events

import (
	"fmt"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
)

// TestEmbeddedStoreTells has rules on the S3 that "up" brings along, which publishes by itself. What was lost with the process a sweep finds.
func TestEmbeddedStoreTells(t *testing.T) {
	t.Parallel()
	const access, secret, bucket, rule, n = "embeddedaccess", "embeddedsecret01", "incoming", "embedded", 20
	f := &fleet{Fleet: mixtest.NewUp(t, "S3_ACCESS_KEY="+access, "S3_SECRET_KEY="+secret, "SWEEP_INTERVAL=0"), roles: map[string]*mixtest.Process{}}
	f.roles["up"] = f.Start(t, "up")
	f.minio = &miniotest.Server{Endpoint: f.roles["up"].Ready(t)["s3"], AccessKey: access, SecretKey: secret}
	f.store = f.client(t)
	if err := f.store.MakeBucket(t.Context(), bucket, minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	f.apply(t, f.toSandbox(rule, bucket), toBucket("embedded-loop", bucket, "", bucket, "out/"))
	f.some(t, bucket, 0, n)
	f.puts(t, bucket, "odd + %41 ü?", "odd")
	f.looped(t, "embedded-loop", "loop", n+1)
	f.copied(t, "embedded-loop", n+1)
	f.copied(t, rule, 2*(n+1)) // the copies are objects of the bucket, too
	f.holds(t, rule, "odd + %41 ü?", "odd")
	f.holds(t, rule, "out/odd + %41 ü?", "odd")
	for i := n; i < 2*n; i++ {
		f.puts(t, bucket, objectName(i), objectContent(i))
	}
	f.again(t, "up")
	swept := f.sweep(t, rule, "?all=true")
	f.sweep(t, "embedded-loop", "?all=true")
	f.copied(t, "embedded-loop", 2*n+1)
	f.sweep(t, rule, "?all=true")
	// A copy that up was killed at is made again: the object that it writes is told of as written twice.
	f.copiedBut(t, rule, 2*(2*n+1), func(id string) bool { return strings.HasPrefix(id, "out/") })
	for i := range 2 * n {
		f.holds(t, rule, objectName(i), objectContent(i))
		f.holds(t, rule, "out/"+fmt.Sprintf("object %d", i), objectContent(i))
	}
	t.Logf("%d objects, 1 fault (up killed while it had still to tell of some), a sweep recovered %d", 2*n+1, swept.Recovered)
}
