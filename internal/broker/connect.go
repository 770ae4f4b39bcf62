package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Config describes a connection.
type Config struct {
	URL    string  // of an external server, or of another process's embedded one; ignored if Server is set
	Server *Server // the server in this process
	Name   string  // shown in the server's connection list
	Logger *slog.Logger
	// AckWait is how long a delivery stays with a worker that gives no sign of life. It stands in the consumers, so that
	// every role of a fleet must have the same. At least a second; 0: [DefaultAckWait].
	AckWait time.Duration
	// Replicas of every stream and bucket on a cluster: 1, 3 or 5. 0 keeps what there is, and means 1 for a new fleet.
	Replicas int
}

// Conn is a connection to the broker. It reconnects for ever; methods fail with [ErrUnavailable] meanwhile.
type Conn struct {
	nc       *nats.Conn
	js       jetstream.JetStream
	log      *slog.Logger
	replicas int
	ackWait  time.Duration
	closed   chan struct{}
	once     sync.Once
}

const (
	reconnectWait  = 250 * time.Millisecond
	connectTimeout = 15 * time.Second
	requestTimeout = 10 * time.Second // of one JetStream request
	setupTimeout   = 2 * time.Minute  // of all of Setup: the server syncs several files for each stream that it makes
)

// Connect connects to the server. It fails at once if the server is not there, and soon if it does not answer.
func Connect(cfg Config) (*Conn, error) {
	c := &Conn{log: cfg.Logger, replicas: cfg.Replicas, ackWait: cfg.AckWait, closed: make(chan struct{})}
	if c.ackWait == 0 {
		c.ackWait = DefaultAckWait
	}
	if c.ackWait < minAckWait {
		return nil, fmt.Errorf("connect to NATS: AckWait %s: must be at least %s, or 0 for %s", cfg.AckWait, minAckWait, DefaultAckWait)
	}
	opts := []nats.Option{
		nats.Name(cfg.Name),
		nats.Timeout(connectTimeout),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectWait),
		nats.ReconnectJitter(reconnectWait, reconnectWait),
		nats.ReconnectBufSize(-1), // what was not sent must fail, not wait unseen
		nats.DisconnectErrHandler(c.onDisconnect),
		nats.ReconnectHandler(c.onReconnect),
		nats.ClosedHandler(func(*nats.Conn) { close(c.closed) }),
		nats.ErrorHandler(c.onError),
	}
	address := cfg.URL
	if cfg.Server != nil {
		opts = append(opts, nats.InProcessServer(cfg.Server), nats.Timeout(serverStart)) // it is there: there is only no time for it
		if cfg.Server.cfg.Token != "" {
			opts = append(opts, nats.Token(cfg.Server.cfg.Token))
		}
		address = nats.DefaultURL
	}
	nc, err := nats.Connect(address, opts...)
	if _, ok := errors.AsType[*url.Error](err); ok {
		return nil, fmt.Errorf("connect to NATS: %w", ErrURL) // the error itself has the password
	}
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w: %w", ErrUnavailable, err)
	}
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(requestTimeout))
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	c.nc, c.js = nc, js
	return c, nil
}

func (c *Conn) onDisconnect(_ *nats.Conn, err error) {
	if err != nil {
		c.log.Warn("lost the connection to NATS", "error", err)
	}
}

func (c *Conn) onReconnect(nc *nats.Conn) {
	c.log.Info("connected to NATS again", "server", nc.ConnectedServerName())
}

func (c *Conn) onError(_ *nats.Conn, sub *nats.Subscription, err error) {
	subject := ""
	if sub != nil {
		subject = sub.Subject
	}
	c.log.Warn("NATS reports an error", "subject", subject, "error", err)
}

// AckWait is how long a delivery stays with a worker that gives no sign of life.
func (c *Conn) AckWait() time.Duration { return c.ackWait }

// Epoch counts reconnections. A change means that deliveries may have been handed to others unseen. It is the connection's own count, which
// changes before anything can be sent to the new server; the handler of reconnections runs some time after that.
func (c *Conn) Epoch() uint64 { return c.nc.Stats().Reconnects }

// Ready returns an error unless JetStream answers.
func (c *Conn) Ready(ctx context.Context) error {
	if !c.nc.IsConnected() {
		return fmt.Errorf("%w: not connected", ErrUnavailable)
	}
	if _, err := c.js.AccountInfo(ctx); err != nil {
		return fmt.Errorf("JetStream: %w", classify(err))
	}
	return nil
}

// Close sends what is buffered and closes the connection.
func (c *Conn) Close() {
	c.once.Do(func() {
		if err := c.nc.FlushTimeout(connectTimeout); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
			c.log.Warn("closing the NATS connection with messages unsent", "error", err)
		}
		c.nc.Close()
		<-c.closed
	})
}

// ForceReconnect breaks the connection and returns when there is a new one: for tests of what must not outlive it.
func (c *Conn) ForceReconnect(ctx context.Context) error {
	before := c.Epoch()
	if err := c.nc.ForceReconnect(); err != nil {
		return fmt.Errorf("reconnect: %w", err)
	}
	tick := time.NewTicker(reconnectWait / 10)
	defer tick.Stop()
	for c.Epoch() == before || !c.nc.IsConnected() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}
