package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path"
	"strings"
	"syscall"

	"github.com/copyfleet/copyfleet/protocol"
)

// uploadCmd puts a file, a directory or a stream of this machine into a sandbox, in parts that need not be sent twice.
type uploadCmd struct {
	clientFlags
	Source         string   `arg:"" help:"A file, a directory, or - for the standard input." name:"src" completion:"file"`
	Destination    string   `arg:"" help:"SANDBOX:PATH. A relative path begins at /workspace. PATH/ takes the file's name; of a directory, PATH is what its content ends up in." name:"sandbox:path"`
	Concurrency    int      `help:"Parts that are sent at once. The API allows so many for each upload; more than that are not sent." default:"4"`
	Resume         string   `help:"Go on with the upload of this id. The source must be what it was." placeholder:"UPLOAD_ID"`
	Checksum       bool     `help:"Read a file once more before, for the SHA-256 of the whole, which is checked before anything becomes visible. For directories and the standard input that is done in any case."`
	Exclude        []string `help:"Leave out what of a directory matches: the name alone, or the path below the directory. * and ? do not match a slash. May be repeated." placeholder:"GLOB" sep:"none"`
	Conflict       string   `help:"What to do about what is there already: error (the default for files), replace, or merge (the default for directories), which leaves files that the upload does not have." enum:"merge,replace,error," default:"" placeholder:"POLICY"`
	User           string   `help:"The user of the sandbox on whose behalf this is, for those who ask." placeholder:"NAME"`
	SpoolDir       string   `help:"Where a directory's archive and what comes from the standard input are kept until they have arrived. Default: the system's temporary directory." name:"spool-dir" env:"COPYFLEET_SPOOL_DIR" placeholder:"DIR"`
	IdempotencyKey string   `help:"The same key makes one upload, however often it is begun. Default: a new one." name:"idempotency-key" placeholder:"KEY"`
}

// Help is shown by --help.
func (*uploadCmd) Help() string {
	return `Only what is missing is sent, in parts, several at once; each part carries its SHA-256. When all have arrived, the fleet puts them
together and makes the result visible at once, or nothing. If it breaks off, or at Ctrl-C, the command that goes on is printed.

  copyfleet upload model.bin SBX-1:/models/
  copyfleet upload ./project SBX-1:/workspace/project --exclude .git --exclude '*.o'
  pg_dump db | copyfleet upload - SBX-1:backup.sql

A directory is sent as one archive of its files, directories and symbolic links. Links must stay inside of it. What is no file, directory or link is refused
unless it is excluded. The archive, and the standard input, are kept in a temporary file, which is removed when the upload is complete.`
}

// Validate implements kong's check.
func (c *uploadCmd) Validate() error {
	if c.Concurrency < 1 {
		return fmt.Errorf("--concurrency %d: must be at least 1", c.Concurrency)
	}
	for _, glob := range c.Exclude {
		if _, err := path.Match(glob, ""); err != nil || glob == "" {
			return fmt.Errorf("--exclude %q: is no pattern", glob)
		}
	}
	if c.Resume != "" && !protocol.UploadID(c.Resume).Valid() {
		return fmt.Errorf("--resume %q: an upload's id is upl_ and 26 letters", c.Resume)
	}
	sandbox, _, ok := strings.Cut(c.Destination, ":")
	if !ok || !protocol.ValidID(sandbox) {
		return fmt.Errorf("%q: the destination must be SANDBOX:PATH", c.Destination)
	}
	return nil
}

// uploadRun is one run of the command. What it does, in order: read the source, begin or find the session, send the parts that are missing,
// have the whole published.
type uploadRun struct {
	*uploadCmd

	api     *client
	env     *environment
	shown   *uploadProgress
	sandbox string
	path    string // as it was asked for
	key     string // of the session's creation

	source  *uploadSource
	session *uploadSession // as it was told last; nil: there is none yet
	sent    int64          // bytes of the parts that this run sent
}

// Run uploads.
func (c *uploadCmd) Run(ctx context.Context, env *environment) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	// From the first Ctrl-C on, the next one ends this process at once.
	defer context.AfterFunc(ctx, func() { signal.Reset(syscall.SIGINT, syscall.SIGTERM) })()
	sandbox, target, _ := strings.Cut(c.Destination, ":")
	r := &uploadRun{uploadCmd: c, api: api, env: env, sandbox: sandbox, path: target, key: c.IdempotencyKey, shown: newUploadProgress(env)}
	if r.key == "" {
		r.key = "cli-" + strings.ToLower(rand.Text())
	}
	err = r.run(ctx)
	if stopped := r.shown.close(); err == nil {
		err = stopped
	}
	if err != nil {
		return r.unfinished(ctx, err)
	}
	return r.finished()
}

func (r *uploadRun) run(ctx context.Context) error {
	if err := r.look(ctx); err != nil {
		return err
	}
	if r.session != nil && r.session.Status == statusCompleted {
		r.forget(ctx)
		return nil
	}
	if err := r.open(ctx); err != nil {
		return err
	}
	if err := r.begin(ctx); err != nil {
		return err
	}
	return r.transfer(ctx)
}

// forget looks for the spool of a session that was completed after its command had ended.
func (r *uploadRun) forget(ctx context.Context) {
	if isSpool(r.Source) && (r.open(ctx) != nil || r.fits(ctx) != nil) {
		r.source = nil // it is none, or that of another
	}
}

// look finds the session to go on with. Where there is none, it looks whether the API would take one before much is read.
func (r *uploadRun) look(ctx context.Context) error {
	if r.Resume == "" {
		if err := r.named(); err != nil {
			return err
		}
		if info, _ := os.Stat(r.Source); r.Source != "-" && (info == nil || !info.IsDir()) {
			return nil // a file is not read before
		}
		err := insist(ctx, r.env, func() (bool, error) { return true, r.api.get(ctx, r.uploads(), url.Values{"limit": {"1"}}, nil) })
		if p := refused(err); p != nil && p.Status == http.StatusNotFound {
			return nil // sandboxes may be made by their first use
		}
		return err
	}
	s := &uploadSession{}
	if err := insist(ctx, r.env, func() (bool, error) { return true, r.api.get(ctx, r.uploads(r.Resume), nil, s) }); err != nil {
		return err
	}
	r.session = s
	return s.ended()
}

// uploads is the path of the sandbox's sessions, and what belongs to them.
func (r *uploadRun) uploads(more ...string) string {
	parts := append([]string{"/v1/sandboxes", url.PathEscape(r.sandbox), "uploads"}, more...)
	return strings.Join(parts, "/")
}

// begin creates the session, or holds the one to go on with to the source.
func (r *uploadRun) begin(ctx context.Context) error {
	if r.session != nil {
		if err := r.fits(ctx); err != nil {
			return err
		}
		r.shown.begun(r)
		return nil
	}
	request := r.request()
	var answer struct {
		Session *uploadSession `json:"session"`
	}
	err := insist(ctx, r.env, func() (bool, error) {
		_, err := r.api.call(ctx, http.MethodPost, r.uploads(), http.Header{"Idempotency-Key": {r.key}}, request, &answer)
		return true, err
	})
	if err != nil {
		return err
	}
	if answer.Session == nil {
		return notPromised(errors.New("there is no session in it"))
	}
	r.session = answer.Session
	r.shown.begun(r)
	return r.session.ended()
}

// named fails if the destination does not say where to. It is asked before the source is read: a stream cannot be read again.
func (r *uploadRun) named() error {
	info, _ := os.Stat(r.Source) // of what is not there it is told when it is opened
	switch {
	case r.Source == "-" && (r.path == "" || strings.HasSuffix(r.path, "/")):
		return exitWith(exitUsage, "%q: the standard input has no name; give the whole path", r.Destination)
	case info == nil || !info.IsDir():
		return nil
	case r.path == "":
		return exitWith(exitUsage, "%q: name the directory that the content is to end up in", r.Destination)
	case path.Clean(r.path) == "/":
		return exitWith(exitUsage, "%q: a directory is unpacked below the root of a sandbox, not over it", r.Destination)
	}
	return nil
}

// request is what the session is asked for with.
func (r *uploadRun) request() map[string]any {
	target := r.path
	if r.source.kind == protocol.UploadFile && (target == "" || strings.HasSuffix(target, "/")) {
		target += r.source.name
	}
	request := map[string]any{
		"kind": r.source.kind, "source_kind": r.source.from, "target_path": target, "content_length": r.source.size,
		"checksum_algorithm": "sha256",
	}
	if r.source.from == protocol.UploadRestartable {
		request["metadata"] = r.source.mark()
	}
	for name, value := range map[string]string{"conflict": r.Conflict, "user": r.User, "whole_checksum_sha256": r.source.sum} {
		if value != "" {
			request[name] = value
		}
	}
	if r.source.kind == protocol.UploadTree {
		request["archive_format"] = "tar"
	}
	return request
}
