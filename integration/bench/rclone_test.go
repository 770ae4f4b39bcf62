package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// rclone is the peer, without a configuration of its own.
type rclone struct {
	path  string
	lists []string // CSV of files: url,name
	env   []string
}

// rcloneAtOnce is how many files one "rclone copyurl --urls" gets. It opens more of them than it copies at once: with 20,000 it
// runs out of a limit of 20,000 open files, and fails. Several lists are copied one after the other.
const rcloneAtOnce = 5000

func newRclone(b *testing.B, src *source) *rclone {
	b.Helper()
	r := &rclone{path: program(b, "COPYFLEET_RCLONE", "make .tools/rclone"), env: environ("RCLONE_CONFIG=" + os.DevNull)}
	dir := b.TempDir()
	for first := 0; first < len(src.files); first += rcloneAtOnce {
		var list bytes.Buffer
		for i := first; i < min(first+rcloneAtOnce, len(src.files)); i++ {
			fmt.Fprintf(&list, "%s,%s\n", src.at(i), fileName(i))
		}
		path := filepath.Join(dir, fmt.Sprintf("files%d.csv", first))
		if err := os.WriteFile(path, list.Bytes(), 0o600); err != nil {
			b.Fatal(err)
		}
		r.lists = append(r.lists, path)
	}
	return r
}

// withS3 adds a remote "s3:" for an endpoint.
func (r *rclone) withS3(endpoint string) {
	r.env = append(r.env, "RCLONE_CONFIG_S3_TYPE=s3", "RCLONE_CONFIG_S3_PROVIDER=Minio", "RCLONE_CONFIG_S3_ENDPOINT="+endpoint,
		"RCLONE_CONFIG_S3_ACCESS_KEY_ID="+accessKey, "RCLONE_CONFIG_S3_SECRET_ACCESS_KEY="+secretKey, "RCLONE_CONFIG_S3_REGION=us-east-1")
}

// copy copies all files. rclone does not sync them to disk.
func (r *rclone) copy(ctx context.Context, dest string) error {
	for _, list := range r.lists {
		if err := r.run(ctx, "copyurl", "--urls", list, dest); err != nil {
			return err
		}
	}
	return nil
}

// run runs a command of rclone.
func (r *rclone) run(ctx context.Context, args ...string) error {
	return run(ctx, r.env, r.path, append(args, "--transfers", fmt.Sprint(concurrency), "--log-level", "NOTICE")...)
}

// rcd is "rclone rcd": rclone as a service, for one file a call.
type rcd struct {
	url    string
	client *http.Client
}

func (r *rclone) serve(b *testing.B) *rcd {
	b.Helper()
	address := freeAddress(b)
	cmd := exec.Command(r.path, "rcd", "--rc-addr", address, "--rc-no-auth")
	cmd.Env = r.env
	p := start(b, cmd)
	transport := &http.Transport{MaxIdleConnsPerHost: 4}
	b.Cleanup(transport.CloseIdleConnections)
	d := &rcd{url: "http://" + address, client: &http.Client{Transport: transport}}
	p.answers(b, http.MethodPost, d.url+"/rc/noop")
	return d
}

// copyURL copies one URL into a directory.
func (d *rcd) copyURL(ctx context.Context, url, dir, name string) error {
	body, err := json.Marshal(map[string]string{"fs": dir, "remote": name, "url": url})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url+"/operations/copyurl", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := d.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("rclone rcd answered %s: %s", resp.Status, text)
	}
	return err
}
