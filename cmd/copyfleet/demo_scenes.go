package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// demoCopy is one copy of a scene, and what must come of it.
type demoCopy struct {
	ID   string         `json:"id"`
	Src  map[string]any `json:"src"`
	Dest map[string]any `json:"dest"`

	wantError string                                // "": success
	sum       string                                // digest that the destination must have
	read      func(context.Context) ([]byte, error) // reads the destination
}

// scene is one request of the demonstration.
type scene struct {
	title  string
	copies func(context.Context) ([]demoCopy, error)
	play   func(context.Context, scene) error
}

func (d *demo) scenes() []scene {
	return []scene{
		{"Bulk download: three files into a sandbox, results as they come", d.bulkDownload, d.playAsync},
		{"Mixed directions: one file in, two files out by presigned PUT", d.mixed, d.playSync},
		{"Partial failure: a missing file among others", d.partialFailure, d.playSync},
		{"Form upload: a sandbox file into a bucket by a presigned POST policy", d.formUpload, d.playSync},
		{"Object to sandbox: the worker presigns by itself", d.objectToSandbox, d.playSync},
	}
}

func (d *demo) bulkDownload(context.Context) ([]demoCopy, error) {
	return []demoCopy{
		d.download("file-1", "/file1.txt", "/home/agent/file1.txt"),
		d.download("file-2", "/file2.json", "/home/agent/file2.json"),
		d.download("file-3", "/file3.csv", "/home/agent/data/file3.csv"),
		d.download("empty", "/empty.txt", "/home/agent/data/empty.txt"),
	}, nil
}

func (d *demo) mixed(ctx context.Context) ([]demoCopy, error) {
	result, err := d.uploadByPut(ctx, "upload-result", "/home/agent/file2.json", "/file2.json", "results/output.json")
	if err != nil {
		return nil, err
	}
	logs, err := d.uploadByPut(ctx, "upload-logs", "/home/agent/data/file3.csv", "/file3.csv", "results/process.log")
	if err != nil {
		return nil, err
	}
	return []demoCopy{d.download("download-input", "/input-data.csv", "/home/agent/input.csv"), result, logs}, nil
}

func (d *demo) partialFailure(context.Context) ([]demoCopy, error) {
	missing := d.download("file-2", "/no-such-file", "/home/agent/again/file2.json")
	missing.wantError, missing.sum = "Failed to download file: 404 Not Found", ""
	absent := demoCopy{
		ID: "file-4", Src: d.sandboxFile("/home/agent/nothing-here"), Dest: d.sandboxFile("/home/agent/again/nothing"),
		wantError: "File not found in sandbox: /home/agent/nothing-here",
	}
	return []demoCopy{
		d.download("file-1", "/file1.txt", "/home/agent/again/file1.txt"), missing,
		d.download("file-3", "/file3.csv", "/home/agent/again/file3.csv"), absent,
	}, nil
}

func (d *demo) formUpload(ctx context.Context) ([]demoCopy, error) {
	const key = "uploads/report.pdf"
	form, err := d.presign(ctx, map[string]any{"method": "POST", "bucket": demoBucket, "key": key, "max_size": 10 << 20})
	if err != nil {
		return nil, err
	}
	return []demoCopy{{
		ID: "form-upload", Src: d.sandboxFile("/home/agent/file2.json"), sum: d.files.sum("/file2.json"), read: d.object(key),
		Dest: map[string]any{"type": protocol.HTTPPostForm, "url": form.URL, "form": form.Form, "fileField": "file"},
	}}, nil
}

func (d *demo) objectToSandbox(context.Context) ([]demoCopy, error) {
	return []demoCopy{{
		ID: "from-bucket", Src: map[string]any{"type": protocol.Object, "bucket": demoBucket, "key": "results/process.log"},
		Dest: d.sandboxFile("/home/agent/logs/process.log"), sum: d.files.sum("/file3.csv"), read: d.sandboxContent("/home/agent/logs/process.log"),
	}, {
		ID: "to-bucket", Src: d.sandboxFile("/home/agent/input.csv"), sum: d.files.sum("/input-data.csv"), read: d.object("inputs/input.csv"),
		Dest: map[string]any{"type": protocol.Object, "bucket": demoBucket, "key": "inputs/input.csv"},
	}}, nil
}

const demoBucket = "demo"

func (d *demo) sandboxFile(path string) map[string]any {
	return map[string]any{"type": protocol.SandboxFile, "path": path}
}

func (d *demo) download(id, file, path string) demoCopy {
	return demoCopy{
		ID: id, Src: map[string]any{"type": protocol.HTTPGet, "url": d.files.url(file)}, Dest: d.sandboxFile(path),
		sum: d.files.sum(file), read: d.sandboxContent(path),
	}
}

func (d *demo) uploadByPut(ctx context.Context, id, path, file, key string) (demoCopy, error) {
	put, err := d.presign(ctx, map[string]any{"method": "PUT", "bucket": demoBucket, "key": key})
	if err != nil {
		return demoCopy{}, err
	}
	return demoCopy{
		ID: id, Src: d.sandboxFile(path), Dest: map[string]any{"type": protocol.HTTPPut, "url": put.URL, "headers": put.Headers},
		sum: d.files.sum(file), read: d.object(key),
	}, nil
}

// presigned is the answer of /v1/presign.
type presigned struct {
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"`
	Form    map[string]string `json:"form"`
}

func (d *demo) presign(ctx context.Context, request map[string]any) (presigned, error) {
	var p presigned
	_, err := d.api.call(ctx, http.MethodPost, "/v1/presign", nil, request, &p)
	return p, err
}

// sandboxContent reads a sandbox file where it lies.
func (d *demo) sandboxContent(path string) func(context.Context) ([]byte, error) {
	return func(context.Context) ([]byte, error) {
		file := filepath.Join(d.fleet.Data, "sandboxes", d.fleet.Org, demoSandbox, path)
		return os.ReadFile(file) //nolint:wrapcheck // wrapped by the caller
	}
}

// object reads an object through a presigned URL.
func (d *demo) object(key string) func(context.Context) ([]byte, error) {
	return func(ctx context.Context) ([]byte, error) {
		get, err := d.presign(ctx, map[string]any{"method": "GET", "bucket": demoBucket, "key": key})
		if err != nil {
			return nil, err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, get.URL, nil)
		if err != nil {
			return nil, fmt.Errorf("read object %s: %w", key, err)
		}
		resp, err := d.api.http.Do(req)
		if err != nil {
			return nil, fmt.Errorf("read object %s: %w", key, err)
		}
		defer func() { _ = resp.Body.Close() }() // read to its end
		if resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("read object %s: %s", key, resp.Status)
		}
		return io.ReadAll(resp.Body) //nolint:wrapcheck // wrapped by the caller
	}
}

func (d *demo) copyPath() string {
	return "/api/orgs/" + d.fleet.Org + "/sandboxes/" + demoSandbox + "/file/copy"
}

// demoResult is one line of the copy call's answer.
type demoResult struct {
	ID      string `json:"id"`
	Success bool   `json:"success"`
	Error   string `json:"error"`
}

// playSync sends the copy call as the published API has it, and waits.
func (d *demo) playSync(ctx context.Context, s scene) error {
	copies, err := s.copies(ctx)
	if err != nil {
		return err
	}
	var answer struct {
		Results []demoResult `json:"results"`
	}
	if _, err := d.api.call(ctx, http.MethodPost, d.copyPath(), nil, map[string]any{"files": copies}, &answer); err != nil {
		return err
	}
	if len(answer.Results) != len(copies) {
		return fmt.Errorf("%d results for %d items", len(answer.Results), len(copies))
	}
	for i, c := range copies {
		d.check(ctx, c, answer.Results[i])
	}
	return nil
}

const demoPoll = 20 * time.Millisecond

// playAsync sends the call with "Prefer: respond-async" and shows each item when it ends.
func (d *demo) playAsync(ctx context.Context, s scene) error {
	copies, err := s.copies(ctx)
	if err != nil {
		return err
	}
	header, err := d.api.call(ctx, http.MethodPost, d.copyPath(), http.Header{"Prefer": {"respond-async"}}, map[string]any{"files": copies}, nil)
	if err != nil {
		return err
	}
	tick := time.NewTicker(demoPoll)
	defer tick.Stop()
	for shown := map[int]bool{}; len(shown) < len(copies); {
		var page struct {
			Items []protocol.Receipt `json:"items"`
		}
		if _, err := d.api.call(ctx, http.MethodGet, header.Get("Location")+"/items", nil, nil, &page); err != nil {
			return err
		}
		for _, r := range page.Items {
			if r.State.Final() && !shown[r.Index] {
				shown[r.Index] = true
				d.check(ctx, copies[r.Index], demoResult{ID: r.ID, Success: r.State == protocol.ItemSucceeded, Error: message(r.Failure)})
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}

func message(f *protocol.Failure) string {
	if f == nil {
		return ""
	}
	return f.Message
}

// check compares what was told with what is there, and shows both.
func (d *demo) check(ctx context.Context, c demoCopy, r demoResult) {
	d.items++
	wrong := ""
	switch {
	case r.ID != c.ID:
		wrong = fmt.Sprintf("the result is that of %q", r.ID)
	case r.Error != c.wantError || r.Success != (c.wantError == ""):
		wrong = fmt.Sprintf("expected %q", c.wantError)
	case r.Success:
		content, err := c.read(ctx)
		if err != nil {
			wrong = "cannot read the destination: " + err.Error()
		} else if sum := digest(content); sum != c.sum {
			wrong = "the destination has the digest " + sum + ", not " + c.sum
		}
	}
	if wrong != "" {
		d.failed++
	}
	if d.env.json {
		_ = printJSON(d.env, map[string]any{"id": c.ID, "success": r.Success, "error": r.Error, "sha256": c.sum, "unexpected": wrong}) // see say
		return
	}
	mark, note := "ok    ", "sha256 "+c.sum[:min(12, len(c.sum))]+"…"
	if !r.Success {
		mark, note = "failed", r.Error
		if wrong == "" {
			note += "  (as it should)"
		}
	}
	if wrong != "" {
		note += "  UNEXPECTED: " + wrong
	}
	d.say("  %s  %-15s %s", mark, c.ID, note)
}
