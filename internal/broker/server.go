package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// ServerConfig describes the embedded server.
type ServerConfig struct {
	Dir    string // where streams are stored; one process owns it (see package lifecycle)
	Listen string // host:port for other processes; "" serves this process only; port 0 picks one
	Token  string // what other processes must present; "" asks for nothing
	Logger *slog.Logger
}

// Server is an embedded nats-server with JetStream, which fsyncs before every acknowledgement. A stream that met a
// full disk takes nothing more until the server is started again, which [Server.Watch] does.
type Server struct {
	cfg    ServerConfig
	opts   *server.Options
	ns     atomic.Pointer[server.Server]
	broken atomic.Bool // a stream has met a write error since the start
}

const (
	serverStart    = 30 * time.Second
	authSeconds    = 15       // until a client that has connected must have named itself; the default 2 are too few for a busy machine
	serverMemory   = 64 << 20 // for memory streams, of which we have none
	openBatches    = 500      // open atomic batches a stream; the default 50 is soon reached by many callers at once
	openBatchTotal = 2000
)

// StartServer starts the embedded server and returns when JetStream takes requests.
func StartServer(cfg ServerConfig) (*Server, error) {
	opts := &server.Options{
		ServerName:         "copyfleet",
		DontListen:         cfg.Listen == "",
		JetStream:          true,
		StoreDir:           cfg.Dir,
		SyncAlways:         true,
		JetStreamMaxMemory: serverMemory,
		NoSigs:             true,
		MaxPayload:         8 << 20,
		Authorization:      cfg.Token,
		AuthTimeout:        authSeconds,
		JetStreamLimits: server.JSLimitOpts{
			MaxBatchInflightPerStream: openBatches,
			MaxBatchInflightTotal:     openBatchTotal,
			DefaultMaxConsumers:       -1,
		},
	}
	if cfg.Listen != "" {
		host, port, err := splitListen(cfg.Listen)
		if err != nil {
			return nil, err
		}
		opts.Host, opts.Port = host, port
	}
	s := &Server{cfg: cfg, opts: opts}
	if err := s.start(); err != nil {
		return nil, err
	}
	if addr, ok := s.ns.Load().Addr().(*net.TCPAddr); ok && addr != nil {
		opts.Port = addr.Port // another start comes back to the same one
	}
	return s, nil
}

func (s *Server) start() error {
	s.broken.Store(false)
	ns, err := server.NewServer(s.opts.Clone())
	if err != nil {
		return fmt.Errorf("start the embedded NATS server in %s: %w", s.cfg.Dir, err)
	}
	ns.SetLoggerV2(serverLog{s.cfg.Logger, &s.broken}, false, false, false)
	ns.Start()
	if !ns.ReadyForConnections(serverStart) || !ns.JetStreamEnabled() {
		ns.Shutdown()
		ns.WaitForShutdown()
		return fmt.Errorf("start the embedded NATS server: JetStream in %s is not ready after %s (address %q taken? disk full?)",
			s.cfg.Dir, serverStart, s.cfg.Listen)
	}
	s.ns.Store(ns)
	return nil
}

// InProcessConn implements nats.InProcessConnProvider: a connection to the server that runs now.
func (s *Server) InProcessConn() (net.Conn, error) {
	return s.ns.Load().InProcessConn() //nolint:wrapcheck // for the client, which reports it
}

func splitListen(listen string) (string, int, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", 0, fmt.Errorf("--nats-listen %q: %w", listen, err)
	}
	n, err := strconv.Atoi(port)
	if err != nil || n < 0 || n > 65535 {
		return "", 0, fmt.Errorf("--nats-listen %q: the port must be a number from 0 to 65535", listen)
	}
	if n == 0 {
		n = server.RANDOM_PORT
	}
	// nats-server logs a taken port and goes on without it; asking first gives the caller an error.
	probe, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", listen) //nolint:forbidigo // a probe of a moment, bounded by itself
	if err != nil {
		return "", 0, fmt.Errorf("--nats-listen %q: %w", listen, err)
	}
	return host, n, errors.Join(nil, probe.Close())
}

// URL is where other processes join, without the token; "" if the server does not listen.
func (s *Server) URL() string {
	if s.opts.DontListen {
		return ""
	}
	return "nats://" + net.JoinHostPort(s.opts.Host, strconv.Itoa(s.opts.Port))
}

// Healthy reports whether JetStream runs and all its streams can be written.
func (s *Server) Healthy() bool {
	ns := s.ns.Load()
	return ns.Running() && ns.JetStreamEnabled() && !s.broken.Load()
}

// Close stops the server and waits until its files are closed.
func (s *Server) Close() {
	ns := s.ns.Load()
	ns.Shutdown()
	ns.WaitForShutdown()
}

// serverLog passes the server's warnings on; its notices are of no use to our users.
type serverLog struct {
	log    *slog.Logger
	broken *atomic.Bool
}

func (l serverLog) Noticef(string, ...any) {}
func (l serverLog) Debugf(string, ...any)  {}
func (l serverLog) Tracef(string, ...any)  {}

func (l serverLog) Warnf(format string, args ...any) {
	l.log.Warn("the embedded NATS server warns", "text", fmt.Sprintf(format, args...))
}

// Errorf also notices a stream that has failed: a server of its own tells it nowhere else, its health check included
// (nats-server v2.15.2, server/stream.go, setWriteErrLocked).
func (l serverLog) Errorf(format string, args ...any) {
	if strings.Contains(format, "critical write error") {
		l.broken.Store(true)
	}
	l.log.Error("the embedded NATS server reports an error", "text", fmt.Sprintf(format, args...))
}

func (l serverLog) Fatalf(format string, args ...any) { l.Errorf(format, args...) }
