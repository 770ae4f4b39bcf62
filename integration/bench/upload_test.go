package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/sourcegraph/conc/pool"
)

// uploadPart is the size of the parts that sessions of these sizes have, in bytes.
const uploadPart = 8 << 20

// front is an API front of its own beside "up", whose memory is its own and that can be killed.
type front struct {
	url     string
	process *process
	begin   func(b *testing.B) *process
}

// front starts one, on the same NATS and the same store.
func (f *fleet) front(b *testing.B) *front {
	b.Helper()
	address := freeAddress(b)
	made := &front{url: "http://" + address}
	made.begin = func(b *testing.B) *process {
		b.Helper()
		cmd := exec.Command(program(b, "COPYFLEET_BIN", "make build"), "api", "--log-level", "WARN", "--listen", address, "--nats-url", f.ready.NATS,
			"--s3-endpoint", f.ready.S3, "--s3-access-key", accessKey, "--s3-secret-key", secretKey, "--auto-sandboxes")
		cmd.Env = environ()
		p := start(b, cmd)
		p.answers(b, http.MethodGet, made.url+"/readyz")
		return p
	}
	made.process = made.begin(b)
	return made
}

// restart kills the front, and starts it anew at the same address.
func (f *front) restart(b *testing.B) {
	b.Helper()
	f.process.kill()
	f.process = f.begin(b)
}

// BenchmarkUpload is a file of 1 GiB that a client uploads through the API: the session and its parts, up to where it can be completed. Beside
// it a multipart upload by minio-go straight to the same MinIO, with the same parts and as many connections, up to the same point. Both clients
// compute the SHA-256 of what they send, and both servers compare it.
func BenchmarkUpload(b *testing.B) {
	for _, connections := range []int{1, 4} {
		b.Run(fmt.Sprint("connections=", connections), func(b *testing.B) {
			big := newBigFile(b, large(gibibyte), 0)
			f := startFleet(b, nil, "--s3-endpoint", startMinIO(b), "--nats-listen", "127.0.0.1:0")
			s3, api := newS3(b, f.ready.S3), f.front(b)
			before := api.process.memory(b)
			took := race(b, int(big.size/uploadPart),
				f.uploading(newUploader(b, api.url, f.ready.APIKey, big.path, big.size, asFile, connections), big),
				rawUpload(minio.Core{Client: s3}, big, connections))
			speed(b, big.size, took, "copyfleet")
			b.ReportMetric(float64(before)/(1<<20), "start-MiB")
			b.ReportMetric(float64(api.process.memory(b))/(1<<20), "peak-MiB")
		})
	}
}

// uploading stages a file in each round, and has it published to be checked.
func (f *fleet) uploading(u *uploader, big *bigFile) contender {
	ids := map[string]string{}
	return contender{
		name: "copyfleet", room: big.size,
		copy: func(ctx context.Context, round string, _ int) error {
			s, err := u.upload(ctx, round)
			if err != nil {
				return err
			}
			if s.PartSize != uploadPart {
				return fmt.Errorf("the session has parts of %d bytes, the peer of %d", s.PartSize, uploadPart)
			}
			ids[round] = s.ID
			return nil
		},
		check: func(ctx context.Context, round string) error {
			if err := u.complete(ctx, ids[round]); err != nil {
				return err
			}
			return big.checkFile(f.sandboxDir(round))
		},
	}
}

// rawUpload is what one does without a service in between.
func rawUpload(s3 minio.Core, big *bigFile, connections int) contender {
	type begun struct {
		id    string
		parts []minio.CompletePart
	}
	uploads := map[string]begun{}
	return contender{
		name: "minio-go", room: big.size,
		copy: func(ctx context.Context, round string, _ int) error {
			file, err := os.Open(big.path)
			if err != nil {
				return err
			}
			defer file.Close()
			id, err := s3.NewMultipartUpload(ctx, bucketName, round, minio.PutObjectOptions{})
			if err != nil {
				return err
			}
			parts := make([]minio.CompletePart, (big.size+uploadPart-1)/uploadPart)
			sending := pool.New().WithErrors().WithFirstError().WithMaxGoroutines(connections)
			for i := range parts {
				sending.Go(func() error {
					first := int64(i) * uploadPart
					length := min(uploadPart, big.size-first)
					body := io.NewSectionReader(file, first, length)
					stored, err := s3.PutObjectPart(ctx, bucketName, round, id, i+1, body, length, minio.PutObjectPartOptions{})
					parts[i] = minio.CompletePart{PartNumber: i + 1, ETag: stored.ETag}
					return err
				})
			}
			uploads[round] = begun{id, parts}
			return sending.Wait()
		},
		check: func(ctx context.Context, round string) error {
			made := uploads[round]
			if _, err := s3.CompleteMultipartUpload(ctx, bucketName, round, made.id, made.parts, minio.PutObjectOptions{}); err != nil {
				return err
			}
			return big.checkObject(ctx, s3.Client, round)
		},
	}
}

// BenchmarkUploadMemory is the most memory of a front while 256 MiB and while 1 GiB are uploaded through it, from four connections. Each has a
// front of its own, through which nothing went before.
func BenchmarkUploadMemory(b *testing.B) {
	f := startFleet(b, nil, "--s3-endpoint", startMinIO(b), "--nats-listen", "127.0.0.1:0")
	sizes := []int64{large(gibibyte) / 4, large(gibibyte)}
	peaks := make([][]int64, len(sizes))
	for b.Loop() {
		for i, size := range sizes {
			big, api := newBigFile(b, size, 0), f.front(b)
			u := newUploader(b, api.url, f.ready.APIKey, big.path, size, asFile, 4)
			path := fmt.Sprintf("m%d-%d", rounds.Add(1), size)
			ctx, cancel := context.WithTimeout(b.Context(), roundLimit)
			s, err := u.upload(ctx, path)
			if err != nil {
				b.Fatal(err)
			}
			peaks[i] = append(peaks[i], api.process.memory(b))
			if err := errors.Join(u.complete(ctx, s.ID), big.checkFile(f.sandboxDir(path)), api.process.stop()); err != nil {
				b.Fatal(err)
			}
			cancel()
		}
	}
	onlyOurs(b)
	middle := func(peaks []int64) float64 { return float64(slices.Sorted(slices.Values(peaks))[(len(peaks)-1)/2]) }
	b.ReportMetric(middle(peaks[0])/(1<<20), "quarter-peak-MiB")
	b.ReportMetric(middle(peaks[1])/(1<<20), "whole-peak-MiB")
	b.ReportMetric(middle(peaks[1])/middle(peaks[0]), "whole/quarter-x")
}

// BenchmarkUploadKilled kills the front while four parts of a file of 1 GiB are on their way, and starts another. What it reports is how much the
// client sends a second time: what the session says is missing, and that must be no more than what was on its way.
func BenchmarkUploadKilled(b *testing.B) {
	const connections = 4
	big := newBigFile(b, large(gibibyte), 0)
	f := startFleet(b, nil, "--s3-endpoint", startMinIO(b), "--nats-listen", "127.0.0.1:0")
	api := f.front(b)
	var again []int64
	for b.Loop() {
		u := newUploader(b, api.url, f.ready.APIKey, big.path, big.size, asFile, connections)
		path := fmt.Sprint("k", rounds.Add(1))
		ctx, cancel := context.WithTimeout(b.Context(), roundLimit)
		s, err := u.create(ctx, path)
		if err != nil {
			b.Fatal(err)
		}
		broken := make(chan error, 1)
		go func() { broken <- u.send(ctx, s) }()
		u.comeTo(ctx, b, big.size/4+rand.Int64N(big.size/2))
		api.restart(b)
		if err := <-broken; err == nil {
			b.Fatal("nothing was on its way when the front was killed")
		}
		if err := u.resume(ctx, s.ID); err != nil {
			b.Fatal(err)
		}
		if err := errors.Join(u.complete(ctx, s.ID), big.checkFile(f.sandboxDir(path))); err != nil {
			b.Fatal(err)
		}
		cancel()
		again = append(again, u.sent.Load()-big.size)
		if most := slices.Max(again); most > connections*s.PartSize {
			b.Fatalf("%d bytes were sent again, more than the %d parts that were on their way", most, connections)
		}
	}
	onlyOurs(b)
	b.ReportMetric(float64(slices.Max(again))/(1<<20), "sent-again-most-MiB")
	b.ReportMetric(float64(connections*uploadPart)/(1<<20), "in-flight-MiB")
}

// comeTo waits until so many bytes were sent.
func (u *uploader) comeTo(ctx context.Context, b *testing.B, bytes int64) {
	b.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for u.sent.Load() < bytes {
		select {
		case <-tick.C:
		case <-ctx.Done():
			b.Fatalf("%d of %d bytes were sent: %v", u.sent.Load(), bytes, context.Cause(ctx))
		}
	}
}

// resume sends what the session says is missing.
func (u *uploader) resume(ctx context.Context, id string) error {
	s, err := u.show(ctx, id)
	if err != nil {
		return err
	}
	return u.send(ctx, s)
}
