package httpstore

import (
	"crypto/tls"
	"crypto/x509"
	"maps"
	"net"
	"net/http"
	"time"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/egress"
)

// Limits that are not for configuration.
const (
	maxResponseHeaders = 64 << 10  // bytes of status line and headers, all 1xx answers included
	bufferSize         = 32 << 10  // bytes that a connection gathers before it writes, and reads at least, each way
	pieceSize          = 256 << 10 // bytes that a body is handed on in
	maxDrain           = 64 << 10  // bytes of an unwanted answer that are read to keep the connection
	drainLimit         = 2 * time.Second
	continueLimit      = time.Second // how long an upload waits for 100 (Continue) before it goes ahead
	maxIdleTotal       = 512         // connections kept, all hosts together
	minProgress        = 4 << 10     // bytes within the idle timeout
	tlsSessions        = 256         // TLS sessions kept for resumption
)

// Options configure a [Client]. A field that is zero or negative has its default.
type Options struct {
	// Guard is asked about each address before it is connected to. nil asks nobody: that is for our own
	// storage endpoint and never for a URL that a caller chose.
	Guard *egress.Guard

	// ConnectTimeout limits the way to a TCP connection, name resolution and all addresses of the host
	// included. Default 10 s.
	ConnectTimeout time.Duration
	// TLSTimeout limits the TLS handshake. Default 10 s.
	TLSTimeout time.Duration
	// HeaderTimeout limits the wait for the answer, from the moment the request (for an upload: its last
	// byte) has been handed over. It starts anew when the peer acknowledges bytes that were still under way,
	// where the system can tell (Linux). Default 60 s.
	HeaderTimeout time.Duration
	// IdleTimeout limits the time in which a body makes no progress: nothing arrives, or nothing is taken.
	// Time that our own side takes does not count. Default 30 s.
	IdleTimeout time.Duration
	// MinProgress is how many bytes must move within IdleTimeout to count as progress. Default 4 KiB: a peer that drips would hold a slot
	// for ever, and one of 300 bytes a second passes. 1 lets the slowest peer pass that is not silent.
	MinProgress int64

	// MaxIdlePerHost is how many unused connections are kept for one host. Default 32.
	MaxIdlePerHost int
	// KeepIdle is how long an unused connection is kept. Shorter than what servers keep, so that few
	// requests meet a connection that is just being closed. Default 30 s.
	KeepIdle time.Duration

	// UserAgent is sent where the caller's headers name none. Default "copyfleet".
	UserAgent string
	// RootCAs are the authorities that servers are verified with. nil means those of the system.
	RootCAs *x509.CertPool
	// Resolver looks up names; what it finds is used for five seconds. nil means that of the system.
	Resolver *net.Resolver
}

// withDefaults returns o with its defaults filled in.
func (o Options) withDefaults() Options {
	o.ConnectTimeout = orDefault(o.ConnectTimeout, 10*time.Second)
	o.TLSTimeout = orDefault(o.TLSTimeout, 10*time.Second)
	o.HeaderTimeout = orDefault(o.HeaderTimeout, 60*time.Second)
	o.IdleTimeout = orDefault(o.IdleTimeout, 30*time.Second)
	o.MinProgress = orDefault(o.MinProgress, minProgress)
	o.MaxIdlePerHost = orDefault(o.MaxIdlePerHost, 32)
	o.KeepIdle = orDefault(o.KeepIdle, 30*time.Second)
	if o.UserAgent == "" {
		o.UserAgent = "copyfleet"
	}
	return o
}

// orDefault returns v, or def if v is not positive.
func orDefault[T int | int64 | time.Duration](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

// Client makes sources and destinations of URLs. They share its connections and may be used by any number
// of goroutines at once.
type Client struct {
	opts        Options
	transport   *http.Transport
	unshared    *http.Transport // keeps no connection
	dialer      *dialer
	noticeLimit time.Duration
}

// NewClient returns a client. Close it when it is no longer used.
func NewClient(opts Options) *Client {
	opts = opts.withDefaults()
	d := &dialer{
		opts:  opts,
		names: newNames(opts.Resolver, opts.ConnectTimeout),
		tls: &tls.Config{
			MinVersion:         tls.VersionTLS12,
			NextProtos:         []string{"http/1.1"}, // not h2: docs/performance.md tells what it costs
			RootCAs:            opts.RootCAs,
			ClientSessionCache: tls.NewLRUClientSessionCache(tlsSessions),
		},
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	c := &Client{
		opts:        opts,
		dialer:      d,
		noticeLimit: noticeLimit,
		transport: &http.Transport{
			Proxy:                  nil, // a proxy would dial what the guard never sees
			DialContext:            d.dial,
			DialTLSContext:         d.dialTLS,
			DisableCompression:     true,
			MaxIdleConns:           maxIdleTotal,
			MaxIdleConnsPerHost:    opts.MaxIdlePerHost,
			IdleConnTimeout:        opts.KeepIdle,
			ExpectContinueTimeout:  continueLimit,
			MaxResponseHeaderBytes: maxResponseHeaders,
			WriteBufferSize:        bufferSize,
			ReadBufferSize:         bufferSize,
			Protocols:              &protocols,
		},
	}
	c.unshared = c.transport.Clone()
	c.unshared.DisableKeepAlives = true
	return c
}

// Close closes the connections that are not in use. Those in use are closed at the end of their transfer or
// when they have been unused for Options.KeepIdle.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Get returns the source that a GET of url reads. Up to five redirects are followed; headers go to the
// origin of url only. Nothing is checked or sent before Open.
//
// The headers Accept-Encoding (identity) and User-Agent are sent unless given.
func (c *Client) Get(url string, headers map[string]string) storage.Source {
	return &get{client: c, url: url, headers: maps.Clone(headers)}
}

// Put returns the destination that a PUT to url writes. It needs the size; a redirect is a failure.
// Nothing is checked or sent before Put.
//
// The Content-Type is that of headers, else that of the content; without either none is sent, because a
// presigned URL may have been signed without one.
func (c *Client) Put(url string, headers map[string]string) storage.Destination {
	return &upload{client: c, method: http.MethodPut, url: url, headers: maps.Clone(headers), frame: plain{}}
}

// PostForm returns the destination that a POST of a form to url writes (multipart/form-data, RFC 7578): the
// fields of form in the order of their names, and last the content, as a file called fileName in the field
// fileField. It needs the size; a redirect is a failure. Nothing is checked or sent before Put.
//
// A Content-Type in headers is ignored: it could not name the boundary.
func (c *Client) PostForm(url string, form map[string]string, fileField, fileName string, headers map[string]string) storage.Destination {
	return &upload{
		client: c, method: http.MethodPost, url: url, headers: maps.Clone(headers),
		frame: multipartForm{fields: maps.Clone(form), fileField: fileField, fileName: fileName},
	}
}
