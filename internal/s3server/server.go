package s3server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/debuglogger"
	"github.com/versity/versitygw/embedgw"
	"github.com/versity/versitygw/s3api"
)

// Config describes the server. Dir, Listen, AccessKey and SecretKey are required.
type Config struct {
	Dir       string // made if missing, mode 0700; it must not be used by two processes at once
	Listen    string // host:port; port 0 picks a free one. The protocol is plain HTTP: keep it on loopback
	AccessKey string
	SecretKey string
	// NoSync answers before what was written is on disk: faster, and a power cut loses what the package comment says.
	NoSync bool
	Logger *slog.Logger // nil: nothing is logged
}

// Region is the only region of the server.
const Region = "us-east-1"

// ErrRunning says that this process already runs an embedded S3.
var ErrRunning = errors.New("an embedded S3 already runs in this process, which can run only one")

// Server is a running embedded S3.
type Server struct {
	addr      string
	stop      context.CancelFunc
	ended     chan struct{}
	err       error // why it ended; read after ended is closed
	disk      *disk
	events    *teller
	formerDir string // the current directory before Start; "" if it had been removed
	log       *slog.Logger

	closing atomic.Bool
	closed  sync.Once
	closeAs error // what Close returns
}

const (
	startLimit  = 2 * time.Minute
	answerLimit = time.Minute // the first one
	startTries  = 5           // with port 0, as somebody else may take the port in between
	// The library refuses what exceeds these with 503; the workers' own limits stand well below.
	maxConnections = 16 << 10
	maxParts       = 10_000 // S3's own limit
)

// running is whether this process has a server. The library has such a flag too; ours is set before the current
// directory is changed, and lasts until it is changed back.
var running atomic.Bool

// Start runs the server and returns when it answers. ctx may keep it from starting; what has started outlives ctx, and
// Close ends it.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Dir == "" || cfg.AccessKey == "" || cfg.SecretKey == "" {
		return nil, errors.New("start the embedded S3: it needs a directory, an access key and a secret key")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if !running.CompareAndSwap(false, true) {
		return nil, fmt.Errorf("start the embedded S3: %w", ErrRunning)
	}
	s, err := start(ctx, cfg)
	if err != nil {
		running.Store(false)
		return nil, fmt.Errorf("start the embedded S3: %w", err)
	}
	return s, nil
}

func start(ctx context.Context, cfg Config) (*Server, error) {
	var err error
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return nil, err
	}
	former, err := os.Getwd()
	if err != nil {
		former = "" // a process may well live in a directory that is gone
	}
	for try := 1; ; try++ {
		s, err := startOnce(ctx, cfg, former)
		if err == nil {
			return s, nil
		}
		if try == startTries || !errors.Is(err, errPortTaken) || !picksPort(cfg.Listen) {
			return nil, err
		}
	}
}

func startOnce(ctx context.Context, cfg Config, former string) (*Server, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	addr, err := pickAddress(ctx, cfg.Listen)
	if err != nil {
		return nil, err
	}
	store, err := openBackend(cfg)
	if err != nil {
		return nil, errors.Join(err, comeBack(former))
	}
	// From here on ctx ends nothing. The library does not notice that it is stopped between its listening and its first
	// answer, and would go on; that takes milliseconds, so they are waited for.
	ctx = context.WithoutCancel(ctx)
	life, stop := context.WithCancel(ctx)
	s := &Server{addr: addr, stop: stop, ended: make(chan struct{}), disk: store.disk, events: store.events, formerDir: former, log: cfg.Logger}
	listening := make(chan struct{})
	health := healthPath()
	go func() {
		defer close(s.ended)
		s.err = embedgw.RunVersityGW(life, store, gateway(cfg, addr, health, func() { close(listening) }))
		if !s.closing.Load() {
			s.log.Error("the embedded S3 ended by itself", "address", addr, "error", s.err)
		}
	}()
	if err := s.waitReady(ctx, listening, health); err != nil {
		return nil, errors.Join(err, s.shut())
	}
	return s, nil
}

// gateway returns the configuration of the library. Everything in it that would print is off or replaced.
func gateway(cfg Config, addr, health string, onListen func()) *embedgw.Config {
	return &embedgw.Config{
		RootUserAccess: cfg.AccessKey, RootUserSecret: cfg.SecretKey, Region: Region, Ports: []string{addr},
		MaxConnections: maxConnections, MaxRequests: maxConnections, MultipartMaxParts: maxParts,
		LogLevel: debuglogger.LevelSilent, Quiet: true, KeepAlive: true, DisableACLs: true, HealthPath: health,
		// Left out, it would print that there is none.
		IAMService: auth.NewIAMServiceSingle(auth.Account{Access: cfg.AccessKey, Secret: cfg.SecretKey, Role: auth.RoleAdmin}),
		S3Options:  []s3api.Option{s3api.WithOnListen(onListen)},
	}
}

// waitReady returns nil when the server answers.
func (s *Server) waitReady(ctx context.Context, listening <-chan struct{}, health string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("no answer at %s within %s", s.addr, startLimit))
	defer cancel()
	select {
	case <-listening:
	case <-s.ended:
		return s.endedAtOnce()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return s.ask(ctx, s.URL()+health)
}

func (s *Server) endedAtOnce() error {
	if isAddressInUse(s.err) {
		return portTaken(s.addr, s.err)
	}
	return fmt.Errorf("it ended at once: %w", s.err)
}

// ask sends the first request. The path was drawn for this server, so that no other that listens here can answer it.
func (s *Server) ask(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, answerLimit, fmt.Errorf("no answer at %s within %s", s.addr, answerLimit))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("the first request to %s: %w", s.addr, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("another server answers at %s, with status %d; hint: choose another --s3-listen", s.addr, resp.StatusCode)
	}
	return nil
}

// URL is where the server answers, as http://host:port. Where it listens on all addresses, it is a loopback one.
func (s *Server) URL() string { return "http://" + dialable(s.addr) }

// Tell has a listener told of the objects that are made and removed from now on, in the order in which that was answered. Nobody waits for it:
// what it does not take in time is dropped, logged and counted, and what was not told when the process dies is not told.
// The sequencers of the events grow, also over restarts. There is one listener at most. What has
// begun outlives ctx, and Close ends it.
func (s *Server) Tell(ctx context.Context, l Listener) { s.events.listen(ctx, l) }

// Dropped is the number of events that were not told.
func (s *Server) Dropped() uint64 {
	s.events.mu.Lock()
	defer s.events.mu.Unlock()
	return s.events.lost
}

// Close stops the server: requests under way have ten seconds to end. It returns why the server had ended by
// itself, if it had. More than one call does no harm.
func (s *Server) Close() error {
	s.closed.Do(func() {
		s.closeAs = s.shut()
		running.Store(false)
	})
	return s.closeAs
}

// shut ends the library, waits for it, and goes back to the former directory.
func (s *Server) shut() error {
	s.closing.Store(true)
	s.stop()
	<-s.ended
	s.events.close()
	errs := []error{s.disk.close(), comeBack(s.formerDir)}
	if s.err != nil && !errors.Is(s.err, context.Canceled) {
		errs = append(errs, fmt.Errorf("the embedded S3: %w", s.err))
	}
	return errors.Join(errs...)
}

func comeBack(dir string) error {
	if dir == "" {
		return nil
	}
	if err := os.Chdir(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("return to the former directory: %w", err)
	}
	return nil
}
