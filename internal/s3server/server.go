// Package s3server is the embedded S3 of "copyfleet up": versity/versitygw with its posix backend. Buckets are
// directories, objects are files in them, so that what was copied can be looked at with ls.
//
// It guarantees that an object is visible whole or not at all, and keeps objects and their metadata over a
// restart. The backend itself does not sync files; [Server.Sync] does, for as many objects at once as wait for
// it, and whoever needs an object on disk before telling of it calls that.
//
// The backend works in the current directory: Start changes that of the whole process, once. The library allows
// one server a process; a second Start fails.
package s3server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/debuglogger"
	"github.com/versity/versitygw/embedgw"
)

// Config describes the server.
type Config struct {
	Dir       string // absolute or relative to the directory of the process; made if missing
	Listen    string // host:port; port 0 picks a free one
	AccessKey string
	SecretKey string
	Logger    *slog.Logger
}

// Server is a running embedded S3.
type Server struct {
	addr   string
	stop   context.CancelFunc
	ended  chan struct{}
	err    error // why it ended; read after ended is closed
	syncer syncer
}

const (
	startLimit     = 20 * time.Second
	startPoll      = 10 * time.Millisecond
	maxConnections = 4096
	maxParts       = 10_000  // S3's own limit
	copyThreshold  = 5 << 30 // bytes that CopyObject takes; S3's own limit
	healthPath     = "/copyfleet-s3-health"
)

// Start runs the server and returns when it answers.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	buckets := filepath.Join(cfg.Dir, "buckets")
	if err := os.MkdirAll(buckets, 0o700); err != nil {
		return nil, fmt.Errorf("start the embedded S3: %w", err)
	}
	root, err := os.Open(buckets)
	if err != nil {
		return nil, fmt.Errorf("start the embedded S3: %w", err)
	}
	addr, err := freeAddress(ctx, cfg.Listen)
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	backend, err := open(cfg.Dir, buckets)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the embedded S3 in %s: %w", cfg.Dir, err), root.Close())
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	s := &Server{addr: addr, stop: stop, ended: make(chan struct{}), syncer: newSyncer(root)}
	go func() {
		defer close(s.ended)
		s.err = embedgw.RunVersityGW(running, backend, &embedgw.Config{
			RootUserAccess: cfg.AccessKey, RootUserSecret: cfg.SecretKey, Region: "us-east-1", Ports: []string{addr},
			MaxConnections: maxConnections, MaxRequests: maxConnections, MultipartMaxParts: maxParts,
			LogLevel: debuglogger.LevelSilent, Quiet: true, KeepAlive: true, HealthPath: healthPath, DisableACLs: true,
			// Given, because the library prints to standard output when it chooses this by itself.
			IAMService: auth.NewIAMServiceSingle(auth.Account{Access: cfg.AccessKey, Secret: cfg.SecretKey, Role: auth.RoleAdmin}),
		})
	}()
	if err := s.waitReady(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// open opens the backend. Metadata are extended attributes where the file system has them, else files beside.
func open(dir, buckets string) (*posix.Posix, error) {
	opts := posix.PosixOpts{CopyObjectThreshold: copyThreshold}
	xattrs := meta.XattrMeta{}
	if xattrs.Test(buckets) == nil {
		return posix.New(buckets, xattrs, opts) //nolint:wrapcheck // wrapped by the caller
	}
	opts.SideCarDir = filepath.Join(dir, "metadata")
	if err := os.MkdirAll(opts.SideCarDir, 0o700); err != nil {
		return nil, err //nolint:wrapcheck // wrapped by the caller
	}
	side, err := meta.NewSideCar(opts.SideCarDir)
	if err != nil {
		return nil, err //nolint:wrapcheck // wrapped by the caller
	}
	return posix.New(buckets, side, opts) //nolint:wrapcheck // wrapped by the caller
}

// freeAddress resolves port 0, and finds out whether the address can be listened on: the library panics or goes on
// without it otherwise.
func freeAddress(ctx context.Context, listen string) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return "", fmt.Errorf("--s3-listen %s: %w", listen, err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		return "", fmt.Errorf("--s3-listen %s: %w", listen, err)
	}
	return addr, nil
}

func (s *Server) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("the embedded S3 did not answer at %s within %s", s.addr, startLimit))
	defer cancel()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	tick := time.NewTicker(startPoll)
	defer tick.Stop()
	for {
		if answers(ctx, transport, s.URL()+healthPath) {
			return nil
		}
		select {
		case <-s.ended:
			return fmt.Errorf("the embedded S3 ended at once: %w", s.err)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

func answers(ctx context.Context, transport *http.Transport, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close() // only the status counts
	return resp.StatusCode == http.StatusOK
}

// URL is where the server answers.
func (s *Server) URL() string { return "http://" + s.addr }

// Sync returns when everything that was written before the call is on disk. Calls that come while one is at work share
// the next.
func (s *Server) Sync(ctx context.Context) error { return s.syncer.sync(ctx) }

// Close stops the server and waits for it.
func (s *Server) Close() error {
	s.stop()
	<-s.ended
	err := s.syncer.close()
	if s.err != nil && !errors.Is(s.err, context.Canceled) {
		return errors.Join(fmt.Errorf("the embedded S3: %w", s.err), err)
	}
	return err
}
