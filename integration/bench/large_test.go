package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/minio/minio-go/v7"
)

// BenchmarkLargeToSandbox is a file of 1 GiB from HTTP into a sandbox, beside "curl -o", or a bare loop where there is no curl. Neither of
// them syncs or digests.
func BenchmarkLargeToSandbox(b *testing.B) {
	for _, sync := range []string{"off", "on"} {
		b.Run("sync="+sync, func(b *testing.B) {
			big := newBigFile(b, large(gibibyte), 0)
			f, work := startFleet(b, nil, "--file-sync", sync), b.TempDir()
			peer := contender{
				name: "direct",
				copy: func(ctx context.Context, round string, _ int) error {
					return big.toFile(ctx, filepath.Join(work, round))
				},
				check: func(_ context.Context, round string) error { return big.checkFile(filepath.Join(work, round)) },
			}
			if curl, err := exec.LookPath("curl"); err == nil {
				peer.name, peer.cold = "curl", true
				peer.copy = func(ctx context.Context, round string, _ int) error {
					return run(ctx, environ(), curl, "-sS", "--fail", "-o", filepath.Join(work, round), big.url)
				}
			}
			before := memoryOf(b, f)
			took := race(b, 1, contender{
				name: "copyfleet",
				copy: func(ctx context.Context, round string, _ int) error {
					return f.one(ctx, fromURL(big.url), atSandbox(round))
				},
				check: func(_ context.Context, round string) error { return big.checkFile(f.sandboxDir(round)) },
			}, peer)
			speed(b, big.size, took, "copyfleet")
			reportMemory(b, f, before)
		})
	}
}

// BenchmarkLargeToObject is a file of 1 GiB from HTTP into MinIO, beside a loop with one GET and one presigned PUT, and "rclone copyurl".
func BenchmarkLargeToObject(b *testing.B) {
	big := newBigFile(b, large(gibibyte), 0)
	f := startFleet(b, nil, "--s3-endpoint", startMinIO(b))
	s3, peer := newS3(b, f.ready.S3), newRclone(b, &source{})
	peer.withS3(f.ready.S3)
	check := func(ctx context.Context, round string) error { return big.checkObject(ctx, s3, round) }
	before := memoryOf(b, f)
	took := race(b, 1,
		contender{
			name: "copyfleet", check: check, room: big.size,
			copy: func(ctx context.Context, round string, _ int) error {
				return f.one(ctx, fromURL(big.url), atBucket(round))
			},
		},
		contender{
			name: "direct", check: check, room: big.size,
			copy: func(ctx context.Context, round string, _ int) error { return big.toObject(ctx, s3, round) },
		},
		contender{
			name: "rclone", check: check, cold: true, room: big.size,
			copy: func(ctx context.Context, round string, _ int) error {
				return peer.run(ctx, "copyurl", big.url, "s3:"+bucketName+"/"+round)
			},
		},
	)
	speed(b, big.size, took, "copyfleet")
	reportMemory(b, f, before)
}

// toFile is the bare loop for one file.
func (s *bigFile) toFile(ctx context.Context, path string) (err error) {
	return s.get(ctx, func(body io.Reader) error {
		file, err := os.Create(path)
		if err != nil {
			return err
		}
		_, err = io.Copy(file, body)
		return errors.Join(err, file.Close())
	})
}

// toObject is the bare loop for one object.
func (s *bigFile) toObject(ctx context.Context, s3 *minio.Client, key string) error {
	return s.get(ctx, func(body io.Reader) error {
		target, err := s3.Presign(ctx, http.MethodPut, bucketName, key, presignFor, url.Values{})
		if err != nil {
			return err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPut, target.String(), body)
		if err != nil {
			return err
		}
		req.ContentLength = s.size
		return do(req, nil)
	})
}

func (s *bigFile) get(ctx context.Context, take func(body io.Reader) error) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return err
	}
	return do(req, take)
}

// do makes a request on a connection of its own and hands the body of the answer on.
func do(req *http.Request, take func(body io.Reader) error) error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, err := io.ReadAll(resp.Body)
		return errors.Join(fmt.Errorf("%s: %s", resp.Status, text), err)
	}
	if take == nil {
		return nil
	}
	return take(resp.Body)
}

// run runs a program to its end.
func run(ctx context.Context, env []string, path string, args ...string) error {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%.2000s", filepath.Base(path), err, out)
	}
	return nil
}

func jsonOf(value any) []byte {
	data, err := json.Marshal(value)
	if err != nil {
		panic(err) // maps of strings only
	}
	return data
}
