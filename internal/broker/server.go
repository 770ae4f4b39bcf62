package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
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

// Server is an embedded nats-server with JetStream, which fsyncs before every acknowledgement.
type Server struct {
	ns    *server.Server
	token string
}

const (
	serverStart    = 30 * time.Second
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
	ns, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("start the embedded NATS server in %s: %w", cfg.Dir, err)
	}
	ns.SetLoggerV2(serverLog{cfg.Logger}, false, false, false)
	ns.Start()
	if !ns.ReadyForConnections(serverStart) || !ns.JetStreamEnabled() {
		ns.Shutdown()
		ns.WaitForShutdown()
		return nil, fmt.Errorf("start the embedded NATS server: JetStream in %s is not ready after %s (address %q taken? disk full?)",
			cfg.Dir, serverStart, cfg.Listen)
	}
	return &Server{ns: ns, token: cfg.Token}, nil
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
	addr, ok := s.ns.Addr().(*net.TCPAddr)
	if !ok || addr == nil {
		return ""
	}
	return "nats://" + addr.String()
}

// Healthy reports whether JetStream runs: it shuts itself down when the disk is full.
func (s *Server) Healthy() bool { return s.ns.Running() && s.ns.JetStreamEnabled() }

// Close stops the server and waits until its files are closed.
func (s *Server) Close() {
	s.ns.Shutdown()
	s.ns.WaitForShutdown()
}

// serverLog passes the server's warnings on; its notices are of no use to our users.
type serverLog struct{ log *slog.Logger }

func (l serverLog) Noticef(string, ...any) {}
func (l serverLog) Debugf(string, ...any)  {}
func (l serverLog) Tracef(string, ...any)  {}

func (l serverLog) Warnf(format string, args ...any) {
	l.log.Warn("the embedded NATS server warns", "text", fmt.Sprintf(format, args...))
}

func (l serverLog) Errorf(format string, args ...any) {
	l.log.Error("the embedded NATS server reports an error", "text", fmt.Sprintf(format, args...))
}

func (l serverLog) Fatalf(format string, args ...any) { l.Errorf(format, args...) }
