package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"

	"github.com/copyfleet/copyfleet/protocol"
)

// reportCmd writes what became of every item.
type reportCmd struct {
	clientFlags
	Batch   string `arg:"" help:"The batch."`
	State   string `help:"Only items in this state. The report of the failed ones is a manifest that submit takes." enum:"queued,running,retrying,succeeded,failed,canceled,skipped," default:"" placeholder:"STATE"`
	Format  string `help:"ndjson or csv. Default: by the name of the output, else ndjson." enum:"ndjson,csv," default:"" placeholder:"FORMAT"`
	Secrets bool   `help:"With the queries and headers of URLs, which are credentials; takes the role admin."`
	Output  string `help:"File to write; it appears when the report is whole. Default: the standard output." short:"o" placeholder:"FILE" completion:"file"`
}

// Run fetches the report.
func (c *reportCmd) Run(ctx context.Context, env *environment) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	if c.Format == "" {
		c.Format = string(formatNDJSON)
		if filepath.Ext(c.Output) == ".csv" {
			c.Format = string(formatCSV)
		}
	}
	query := url.Values{}
	if c.State != "" {
		query.Set("state", c.State)
	}
	if c.Secrets {
		query.Set("secrets", "true")
	}
	path := batchPath(c.Batch, "report."+c.Format)
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	resp, err := api.send(ctx, http.MethodGet, path, nil, nil, 0)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // only read
	if state := protocol.BatchState(resp.Header.Get("Copyfleet-Batch-State")); state != "" && !state.Final() {
		env.note(fmt.Sprintf("batch %s is %s: the report is as of now", c.Batch, state))
	}
	if c.Output == "" || c.Output == "-" {
		_, err := io.Copy(env.stdout, broken{ctx, resp.Body})
		return wrapPrint(err)
	}
	counted := &lineCounter{}
	if err := writeWhole(c.Output, io.TeeReader(broken{ctx, resp.Body}, counted)); err != nil {
		return err
	}
	return c.tell(env, counted)
}

// tell says what was written; without a file, the report itself is all of the output.
func (c *reportCmd) tell(env *environment, counted *lineCounter) error {
	if env.json {
		return printJSON(env, map[string]any{"file": c.Output, "format": c.Format, "lines": counted.lines, "bytes": counted.bytes})
	}
	_, err := fmt.Fprintf(env.stdout, "%s: %s, %s\n", clean(c.Output), several(counted.lines, "line", "lines"), size(counted.bytes))
	return wrapPrint(err)
}

// broken gives a reason to a body that breaks off: a report that is not whole must not be taken for one.
type broken struct {
	ctx  context.Context
	body io.Reader
}

// Read implements io.Reader.
func (b broken) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	switch {
	case err == nil || errors.Is(err, io.EOF):
		return n, err //nolint:wrapcheck // an io.Reader
	case b.ctx.Err() != nil:
		return n, interrupted(b.ctx)
	}
	return n, hinted(exitWith(exitTemporary, "the report broke off; what there is of it is not whole: %w", err), "Fetch it again.")
}

// writeWhole writes a file that appears only when it is whole.
func writeWhole(name string, from io.Reader) (err error) {
	file, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return exitWith(exitUsage, "--output: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}()
	_, err = io.Copy(file, from)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("--output %s: %w", name, err)
	}
	if err := os.Rename(file.Name(), name); err != nil {
		return fmt.Errorf("--output %s: %w", name, err)
	}
	return nil
}

// lineCounter counts what is written to it.
type lineCounter struct {
	lines int
	bytes int64
}

// Write implements io.Writer.
func (c *lineCounter) Write(p []byte) (int, error) {
	c.lines += bytes.Count(p, []byte{'\n'})
	c.bytes += int64(len(p))
	return len(p), nil
}
