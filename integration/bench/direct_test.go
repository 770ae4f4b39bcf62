package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/sourcegraph/conc/pool"
)

// direct is what one would write without a queue: a loop that gets and stores.
type direct struct {
	client *http.Client
	source *source
	atOnce int // files
}

func newDirect(b *testing.B, src *source) *direct {
	b.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: concurrency}
	b.Cleanup(transport.CloseIdleConnections)
	return &direct{client: &http.Client{Transport: transport}, source: src, atOnce: concurrency}
}

// each runs one for all items, atOnce of them at the same time.
func (d *direct) each(ctx context.Context, items int, one func(ctx context.Context, i int) error) error {
	workers := pool.New().WithErrors().WithFirstError()
	var next atomic.Int64
	for range min(d.atOnce, items) {
		workers.Go(func() error {
			for i := int(next.Add(1)) - 1; i < items; i = int(next.Add(1)) - 1 {
				if err := one(ctx, i); err != nil {
					return fmt.Errorf("item %d: %w", i, err)
				}
			}
			return nil
		})
	}
	return workers.Wait()
}

func (d *direct) get(ctx context.Context, i int) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.source.at(i), nil)
	if err != nil {
		return nil, err
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, errors.New(resp.Status)
	}
	return resp, nil
}

// toFile gets file i and writes it under another name first. With sync the file and its name are on disk when it returns.
func (d *direct) toFile(ctx context.Context, dir string, i int, sync bool) (err error) {
	resp, err := d.get(ctx, i)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	final := filepath.Join(dir, fileName(i))
	file, err := os.Create(final + ".part")
	if err != nil {
		return err
	}
	_, err = io.Copy(file, resp.Body)
	if err == nil && sync {
		err = file.Sync()
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := os.Rename(final+".part", final); err != nil || !sync {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	handle, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(handle.Sync(), handle.Close())
}

const presignFor = 15 * time.Minute

// toObject gets file i and puts it to a URL that is presigned at the moment of use, as our worker does.
func (d *direct) toObject(ctx context.Context, s3 *minio.Client, bucket, prefix string, i int) error {
	resp, err := d.get(ctx, i)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	target, err := s3.Presign(ctx, http.MethodPut, bucket, prefix+"/"+fileName(i), presignFor, url.Values{})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, target.String(), resp.Body)
	if err != nil {
		return err
	}
	req.ContentLength = resp.ContentLength
	put, err := d.client.Do(req)
	if err != nil {
		return err
	}
	defer put.Body.Close()
	text, err := io.ReadAll(put.Body)
	if err == nil && put.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", put.Status, text)
	}
	return err
}
