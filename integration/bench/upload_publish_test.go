package bench

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/minio/minio-go/v7"
)

// BenchmarkUploadPublish is the publication of 1 GiB that is staged in MinIO into a sandbox that is a directory: a file, and an archive of files
// of 16 MiB that becomes a directory. Beside it a loop that gets an object of the same bytes from the same MinIO, writes the file or the files,
// and syncs them. How often the staged bytes are read is counted between another fleet and its MinIO.
func BenchmarkUploadPublish(b *testing.B) {
	b.Run("file", func(b *testing.B) {
		big := newBigFile(b, large(gibibyte), 0)
		publish(b, asFile, big, func(path string) error { return big.checkFile(path) }, toSyncedFile)
	})
	b.Run("tree", func(b *testing.B) {
		big := &bigFile{path: filepath.Join(b.TempDir(), "tar"), size: large(gibibyte)}
		size, err := writeTar(big.path, big.size)
		if err != nil {
			b.Fatal(err)
		}
		big.size = size
		publish(b, asTree, big, func(path string) error { return checkTree(big.path, path) }, toSyncedTree)
	})
}

// publish compares publishing a file of a kind with the loop, and counts what is read for it.
func publish(b *testing.B, kind string, big *bigFile, check func(path string) error, direct func(path string, content io.Reader) error) {
	b.Helper()
	f, work := startFleet(b, nil, "--s3-endpoint", startMinIO(b)), b.TempDir()
	s3 := newS3(b, f.ready.S3)
	if _, err := s3.FPutObject(b.Context(), bucketName, "staged", big.path, minio.PutObjectOptions{PartSize: uploadPart}); err != nil {
		b.Fatal(err)
	}
	took := race(b, 1,
		f.publishing(newUploader(b, f.ready.API, f.ready.APIKey, big.path, big.size, kind, 4), check),
		contender{
			name: "direct", room: big.size,
			copy: func(ctx context.Context, round string, _ int) error {
				object, err := s3.GetObject(ctx, bucketName, "staged", minio.GetObjectOptions{})
				if err != nil {
					return err
				}
				defer object.Close()
				return direct(filepath.Join(work, round), object)
			},
			check: func(_ context.Context, round string) error { return check(filepath.Join(work, round)) },
		})
	speed(b, big.size, took, "copyfleet")
	b.ReportMetric(float64(readOnce(b, kind, big, check))/float64(big.size), "staged-reads-x")
}

// publishing has a file published that was uploaded before.
func (f *fleet) publishing(u *uploader, check func(path string) error) contender {
	ids := map[string]string{}
	return contender{
		name: "copyfleet", room: u.size,
		before: func(ctx context.Context, round string) error {
			s, err := u.upload(ctx, round)
			if err == nil {
				ids[round] = s.ID
			}
			return err
		},
		copy:  func(ctx context.Context, round string, _ int) error { return u.complete(ctx, ids[round]) },
		check: func(_ context.Context, round string) error { return check(f.sandboxDir(round)) },
	}
}

// readOnce is how many bytes a fleet reads from its staging bucket to publish a file.
func readOnce(b *testing.B, kind string, big *bigFile, check func(path string) error) int64 {
	b.Helper()
	endpoint, read := countReads(b, startMinIO(b))
	f := startFleet(b, nil, "--s3-endpoint", endpoint)
	c := f.publishing(newUploader(b, f.ready.API, f.ready.APIKey, big.path, big.size, kind, 4), check)
	ctx, cancel := context.WithTimeout(b.Context(), roundLimit)
	defer cancel()
	if err := c.prepare(ctx, "counted"); err != nil {
		b.Fatal(err)
	}
	before := read.Load()
	if err := errors.Join(c.copy(ctx, "counted", 1), c.check(ctx, "counted")); err != nil {
		b.Fatal(err)
	}
	f.end(b)
	return read.Load() - before
}

// stagingPath begins the paths of what is staged, at the store.
const stagingPath = "/copyfleet-staging/"

// countReads stands before a store and counts the bytes of what is staged that are read through it.
func countReads(b *testing.B, endpoint string) (through string, read *atomic.Int64) {
	b.Helper()
	store, err := url.Parse(endpoint)
	if err != nil {
		b.Fatal(err)
	}
	read = &atomic.Int64{}
	transport := &http.Transport{MaxIdleConnsPerHost: concurrency}
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(store)
			r.Out.Host = r.In.Host // it is signed
		},
		ModifyResponse: func(resp *http.Response) error {
			if resp.Request.Method == http.MethodGet && strings.HasPrefix(resp.Request.URL.Path, stagingPath) {
				resp.Body = countedBody{resp.Body, read}
			}
			return nil
		},
	})
	b.Cleanup(func() {
		proxy.Close()
		transport.CloseIdleConnections()
	})
	return proxy.URL, read
}

// countedBody counts what is read of an answer.
type countedBody struct {
	io.ReadCloser

	read *atomic.Int64
}

func (c countedBody) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.read.Add(int64(n))
	return n, err
}

// treeFile is the size of each file of the archive, in bytes.
const treeFile = 16 << 20

// writeTar writes an archive whose files have so many bytes together, and returns its size.
func writeTar(path string, content int64) (size int64, err error) {
	file, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	archive, random := tar.NewWriter(file), rand.NewChaCha8([32]byte{2})
	for i := range int(content / treeFile) {
		if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fileName(i), Mode: 0o644, Size: treeFile}); err != nil {
			return 0, err
		}
		if _, err := io.CopyN(archive, random, treeFile); err != nil {
			return 0, err
		}
	}
	if err := archive.Close(); err != nil {
		return 0, err
	}
	info, err := file.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// eachFile calls with every file of an archive.
func eachFile(archive io.Reader, do func(name string, content io.Reader) error) error {
	for files := tar.NewReader(archive); ; {
		header, err := files.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := do(header.Name, files); err != nil {
			return fmt.Errorf("%s: %w", header.Name, err)
		}
	}
}

// checkTree reports whether a directory has exactly the files of an archive, and removes it.
func checkTree(archive, dir string) error {
	file, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer file.Close()
	files := 0
	if err := eachFile(file, func(name string, content io.Reader) error {
		files++
		got, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		defer got.Close()
		return sameBytes(content, got)
	}); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != files {
		return errors.Join(err, fmt.Errorf("%s has %d files, want %d", dir, len(entries), files))
	}
	return os.RemoveAll(dir)
}

// toSyncedFile is the bare loop for a file.
func toSyncedFile(path string, content io.Reader) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, content)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// toSyncedTree is the bare loop for a directory.
func toSyncedTree(dir string, content io.Reader) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if err := eachFile(content, func(name string, content io.Reader) error {
		return toSyncedFile(filepath.Join(dir, name), content)
	}); err != nil {
		return err
	}
	return syncDir(dir)
}
