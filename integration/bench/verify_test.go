package bench

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
)

// checkDir reports whether a directory holds exactly these files, each with its bytes.
func checkDir(dir string, files [][]byte) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if len(entries) != len(files) {
		return fmt.Errorf("%s has %d files, want %d", dir, len(entries), len(files))
	}
	for i, want := range files {
		got, err := os.ReadFile(filepath.Join(dir, fileName(i)))
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("%s has %d bytes that are not those of the source", fileName(i), len(got))
		}
	}
	return nil
}

// bodiesRead is how many objects are read back; of all others the size and the ETag, which is the MD5 of an
// object written in one piece, are compared.
const bodiesRead = 32

// checkBucket reports whether a prefix of a bucket holds exactly these files.
func checkBucket(ctx context.Context, s3 *minio.Client, bucket, prefix string, files [][]byte) error {
	found := 0
	for o := range s3.ListObjects(ctx, bucket, minio.ListObjectsOptions{Prefix: prefix + "/", Recursive: true}) {
		if o.Err != nil {
			return o.Err
		}
		if found >= len(files) || o.Key != prefix+"/"+fileName(found) {
			return fmt.Errorf("%s is not what follows %d files", o.Key, found)
		}
		sum := md5.Sum(files[found])
		if o.Size != int64(len(files[found])) || strings.Trim(o.ETag, `"`) != hex.EncodeToString(sum[:]) {
			return fmt.Errorf("%s has %d bytes and ETag %s, which are not those of the source", o.Key, o.Size, o.ETag)
		}
		found++
	}
	if found != len(files) {
		return fmt.Errorf("%s/%s has %d files, want %d", bucket, prefix, found, len(files))
	}
	for i := 0; i < len(files); i += 1 + len(files)/bodiesRead {
		if err := checkObject(ctx, s3, bucket, prefix+"/"+fileName(i), files[i]); err != nil {
			return err
		}
	}
	return nil
}

func checkObject(ctx context.Context, s3 *minio.Client, bucket, key string, want []byte) error {
	object, err := s3.GetObject(ctx, bucket, key, minio.GetObjectOptions{})
	if err != nil {
		return err
	}
	defer object.Close()
	got, err := io.ReadAll(object)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%s has %d bytes that are not those of the source", key, len(got))
	}
	return nil
}

func TestCheckDirSeesWhatIsWrong(t *testing.T) {
	t.Parallel()
	files := contents(3)
	for name, spoil := range map[string]func(dir string) error{
		"":          func(string) error { return nil },
		"missing":   func(dir string) error { return os.Remove(filepath.Join(dir, fileName(1))) },
		"left over": func(dir string) error { return os.WriteFile(filepath.Join(dir, "f.part"), nil, 0o600) },
		"short":     func(dir string) error { return os.Truncate(filepath.Join(dir, fileName(2)), fileSize-1) },
		"swapped":   func(dir string) error { return os.WriteFile(filepath.Join(dir, fileName(0)), files[1], 0o600) },
	} {
		dir := t.TempDir()
		for i, data := range files {
			if err := os.WriteFile(filepath.Join(dir, fileName(i)), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := spoil(dir); err != nil {
			t.Fatal(err)
		}
		if err := checkDir(dir, files); (err == nil) != (name == "") {
			t.Errorf("%q: %v", name, err)
		}
	}
}
