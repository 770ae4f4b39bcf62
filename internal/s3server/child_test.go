package s3server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

const (
	childDir    = "S3SERVER_TEST_CHILD" // the variable that makes the test binary a server that is used and closed
	childBroken = "broken"              // also sends requests that break off
)

func runChild(t *testing.T, mode string) (stdout, stderr string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], mode)
	cmd.Env = append(os.Environ(), childDir+"="+t.TempDir())
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// child prints only what went wrong.
func child(dir string) int {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	if err := use(ctx, dir); err != nil {
		fmt.Println("the child failed:", err)
		return 1
	}
	return 0
}

func use(ctx context.Context, dir string) (err error) {
	s, err := Start(ctx, Config{Dir: dir, Listen: "127.0.0.1:0", AccessKey: accessKey, SecretKey: secretKey})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	u, err := url.Parse(s.URL())
	if err != nil {
		return err
	}
	c, err := minio.New(u.Host, &minio.Options{Creds: credentials.NewStaticV4(accessKey, secretKey, ""), Region: Region, MaxRetries: 1})
	if err != nil {
		return err
	}
	if err := c.MakeBucket(ctx, "bucket", minio.MakeBucketOptions{}); err != nil {
		return err
	}
	if _, err := c.PutObject(ctx, "bucket", "key", strings.NewReader("x"), 1, minio.PutObjectOptions{}); err != nil {
		return err
	}
	for _, key := range []string{"missing", strings.Repeat("x", 300), "key/below"} {
		if _, err := c.StatObject(ctx, "bucket", key, minio.StatObjectOptions{}); err == nil {
			return fmt.Errorf("%q is there", key)
		}
	}
	if os.Args[1] != childBroken {
		return nil
	}
	signed, err := c.PresignedPutObject(ctx, "bucket", "broken", time.Minute)
	if err != nil {
		return err
	}
	if err := errors.Join(breakUpload(signed), sendGarbage(u.Host)); err != nil {
		return err
	}
	if _, err := c.StatObject(ctx, "bucket", "broken", minio.StatObjectOptions{}); minio.ToErrorResponse(err).StatusCode != http.StatusNotFound {
		return fmt.Errorf("a broken upload shows as %w", err)
	}
	return nil
}

// sendGarbage sends what is no HTTP.
func sendGarbage(host string) error {
	conn, err := net.Dial("tcp", host)
	if err != nil {
		return err
	}
	_, err = conn.Write([]byte("\x16\x03\x01 this is no HTTP\r\n\r\n"))
	return errors.Join(err, drain(conn), conn.Close())
}
