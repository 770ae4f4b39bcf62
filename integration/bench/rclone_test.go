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
	path string
	list string // CSV of all files: url,name
	env  []string
}

func newRclone(b *testing.B, src *source) *rclone {
	b.Helper()
	r := &rclone{path: program(b, "COPYFLEET_RCLONE", "make .tools/rclone"), env: environ("RCLONE_CONFIG=" + os.DevNull)}
	var list bytes.Buffer
	for i := range src.files {
		fmt.Fprintf(&list, "%s,%s\n", src.at(i), fileName(i))
	}
	r.list = filepath.Join(b.TempDir(), "files.csv")
	if err := os.WriteFile(r.list, list.Bytes(), 0o600); err != nil {
		b.Fatal(err)
	}
	return r
}

// withS3 adds a remote "s3:" for an endpoint.
func (r *rclone) withS3(endpoint string) {
	r.env = append(r.env, "RCLONE_CONFIG_S3_TYPE=s3", "RCLONE_CONFIG_S3_PROVIDER=Minio", "RCLONE_CONFIG_S3_ENDPOINT="+endpoint,
		"RCLONE_CONFIG_S3_ACCESS_KEY_ID="+accessKey, "RCLONE_CONFIG_S3_SECRET_ACCESS_KEY="+secretKey, "RCLONE_CONFIG_S3_REGION=us-east-1")
}

// copy copies the whole list. rclone does not sync files to disk.
func (r *rclone) copy(ctx context.Context, dest string) error {
	cmd := exec.CommandContext(ctx, r.path, "copyurl", "--urls", r.list, dest, "--transfers", fmt.Sprint(concurrency), "--log-level", "NOTICE")
	cmd.Env = r.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("rclone copyurl: %w\n%s", err, out)
	}
	return nil
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
