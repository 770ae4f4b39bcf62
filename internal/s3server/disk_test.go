package s3server

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/minio/minio-go/v7"
)

// TestContentIsOnDiskBeforeItsName looks at every file that is synced: it has all of its bytes, and under the name of
// the object there is still what was there before.
func TestContentIsOnDiskBeforeItsName(t *testing.T) {
	s := startServer(t, nil)
	c := client(t, s)
	object := filepath.Join(s.disk.root.Name(), "bucket", "key")
	var synced []int64
	var visible []string
	s.disk.syncFile = func(f *os.File) error {
		info, err := f.Stat()
		if err != nil {
			return err
		}
		old, _ := os.ReadFile(object)
		synced, visible = append(synced, info.Size()), append(visible, string(old))
		return f.Sync()
	}
	put(t, c, "key", "first")
	put(t, c, "key", "second content")
	if len(synced) != 2 || synced[0] != 5 || synced[1] != 14 {
		t.Errorf("synced files of %d bytes, want 5 and 14", synced)
	}
	if len(visible) != 2 || visible[0] != "" || visible[1] != "first" {
		t.Errorf("while they were synced the object was %q, want nothing and the first", visible)
	}
	synced = nil
	part := bytes.Repeat([]byte("x"), 5<<20)
	id, err := c.NewMultipartUpload(t.Context(), "bucket", "parts", minio.PutObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.PutObjectPart(t.Context(), "bucket", "parts", id, 1, bytes.NewReader(part), int64(len(part)), minio.PutObjectPartOptions{})
	if err != nil {
		t.Fatal(err)
	}
	done := []minio.CompletePart{{PartNumber: 1, ETag: p.ETag}}
	if _, err := c.CompleteMultipartUpload(t.Context(), "bucket", "parts", id, done, minio.PutObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	if len(synced) != 2 || synced[0] != int64(len(part)) || synced[1] != int64(len(part)) {
		t.Errorf("of an upload in one part, files of %d bytes were synced, want the part and the object", synced)
	}
}

func TestAnswerWaitsForTheDisk(t *testing.T) {
	s := startServer(t, nil)
	c := client(t, s)
	var rounds atomic.Int32
	s.disk.syncAll = func(f *os.File) error { rounds.Add(1); return syncFilesystem(f) }
	calls := map[string]func() error{
		"PUT": func() error { put(t, c, "key", "x"); return nil },
		"COPY": func() error {
			_, err := c.Client.CopyObject(t.Context(), minio.CopyDestOptions{Bucket: "bucket", Object: "copy"}, minio.CopySrcOptions{Bucket: "bucket", Object: "seed"})
			return err
		},
		"DELETE":      func() error { return c.RemoveObject(t.Context(), "bucket", "seed2", minio.RemoveObjectOptions{}) },
		"make bucket": func() error { return c.MakeBucket(t.Context(), "another", minio.MakeBucketOptions{}) },
		"begin upload": func() error {
			_, err := c.NewMultipartUpload(t.Context(), "bucket", "parts", minio.PutObjectOptions{})
			return err
		},
	}
	put(t, c, "seed", "x")
	put(t, c, "seed2", "x")
	for name, call := range calls {
		before := rounds.Load()
		if err := call(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if rounds.Load() == before {
			t.Errorf("%s was answered without waiting for the disk", name)
		}
	}
	before := rounds.Load()
	if got, _ := get(t, c, "seed"); got != "x" || rounds.Load() != before {
		t.Errorf("reading %q took %d rounds of the disk", got, rounds.Load()-before)
	}
}

func TestNoSync(t *testing.T) {
	s := startServer(t, func(cfg *Config) { cfg.NoSync = true })
	c := client(t, s)
	never := func(*os.File) error { return errors.New("synced all the same") }
	s.disk.syncFile, s.disk.syncAll = never, never
	put(t, c, "key", "x")
	if got, _ := get(t, c, "key"); got != "x" {
		t.Errorf("read %q", got)
	}
}

// TestDiskFailure is about a disk that cannot be written: no success may be told.
func TestDiskFailure(t *testing.T) {
	s := startServer(t, nil)
	c := client(t, s)
	works := s.disk.syncFile
	fails := func(*os.File) error { return errors.New("input/output error") }
	s.disk.syncFile = fails
	if _, err := c.Client.PutObject(t.Context(), "bucket", "unsynced", strings.NewReader("x"), 1, minio.PutObjectOptions{}); err == nil {
		t.Error("PUT succeeded although the content is not on disk")
	}
	if _, err := c.StatObject(t.Context(), "bucket", "unsynced", minio.StatObjectOptions{}); err == nil {
		t.Error("the content got its name although it is not on disk")
	}
	s.disk.syncFile, s.disk.syncAll = works, fails
	if _, err := c.Client.PutObject(t.Context(), "bucket", "unsettled", strings.NewReader("x"), 1, minio.PutObjectOptions{}); err == nil {
		t.Error("PUT succeeded although its name is not on disk")
	}
}

// TestRoundsAreShared is about the callers that come while a round runs: one more round does for all of them, and it
// begins after they came.
func TestRoundsAreShared(t *testing.T) {
	d, err := openDisk(t.TempDir(), true)
	if err != nil {
		t.Fatal(err)
	}
	var rounds, arrived atomic.Int32
	entered, release := make(chan struct{}), make(chan struct{})
	d.syncAll = func(*os.File) error {
		if rounds.Add(1) == 1 {
			close(entered)
			<-release
		}
		return nil
	}
	var done sync.WaitGroup
	done.Go(func() { _ = d.settle() })
	<-entered
	const callers = 50
	joined := make([]*round, callers)
	for i := range callers {
		joined[i] = d.join()
		arrived.Add(1)
	}
	close(release)
	for _, r := range joined {
		<-r.done
	}
	done.Wait()
	if rounds.Load() != 2 {
		t.Errorf("%d callers took %d rounds, want one for the first and one for all others", callers+1, rounds.Load())
	}
	if err := d.close(); err != nil {
		t.Error(err)
	}
}

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, func(cfg *Config) { cfg.Dir = dir })
	c := client(t, s)
	id, err := c.NewMultipartUpload(t.Context(), "bucket", "parts", minio.PutObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(dir, bucketsDir, "bucket", ".sgwtmp", "cut-short")
	if err := os.WriteFile(left, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = startServer(t, func(cfg *Config) { cfg.Dir = dir })
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an upload that a crash cut short is still there: %v", err)
	}
	if _, err := existing(t, s).ListObjectParts(t.Context(), "bucket", "parts", id, 0, 10); err != nil {
		t.Errorf("an upload in parts did not survive: %v", err)
	}
}
