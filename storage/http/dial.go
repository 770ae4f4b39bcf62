package httpstore

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"

	"github.com/copyfleet/copyfleet/storage"
)

// dialError is why there is no connection. The transport hands it on as it is.
type dialError struct {
	class   storage.Class
	name    string // the end of the code: "connect_refused"
	message string
	hint    string
	err     error // fit to be shown, or nil
}

// Error returns the message. What users see is made by [call.dialed].
func (e *dialError) Error() string { return e.message }

// Unwrap returns the cause.
func (e *dialError) Unwrap() error { return e.err }

// dialer makes connections and gives each way to fail its name.
type dialer struct {
	opts  Options
	tls   *tls.Config
	names *names
}

// tally counts what the guard said about the addresses of one host. They may be dialed at the same time.
type tally struct {
	asked, refused atomic.Int32
	refusal        atomic.Pointer[storage.Error]
}

// dial connects to the first address of a host that can be reached, asking the guard about each.
func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.opts.ConnectTimeout)
	defer cancel()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err // the transport always gives both
	}
	var counts tally
	addrs, err := d.names.lookup(ctx, host)
	if err != nil {
		return nil, d.explain(ctx, err, &counts)
	}
	var nd net.Dialer
	if d.opts.Guard != nil {
		nd.Control = func(network, address string, raw syscall.RawConn) error {
			counts.asked.Add(1)
			err := d.opts.Guard.Control(network, address, raw)
			if refusal, ok := errors.AsType[*storage.Error](err); ok {
				counts.refused.Add(1)
				counts.refusal.Store(refusal)
			}
			return err
		}
	}
	c, err := race(ctx, addrs, func(ctx context.Context, addr netip.Addr) (net.Conn, error) {
		return nd.DialContext(ctx, network, net.JoinHostPort(addr.String(), port))
	})
	if err != nil {
		d.names.forget(host)
		return nil, d.explain(ctx, err, &counts)
	}
	return newConn(c), nil
}

// resolve looks a host up and asks the guard about its addresses. It dials nothing.
func (d *dialer) resolve(ctx context.Context, host string) *dialError {
	ctx, cancel := context.WithTimeout(ctx, d.opts.ConnectTimeout)
	defer cancel()
	addrs, err := d.names.lookup(ctx, host)
	var counts tally
	if err != nil {
		return d.explain(ctx, err, &counts)
	}
	var refused error
	for _, addr := range addrs {
		counts.asked.Add(1)
		if d.opts.Guard == nil {
			return nil
		}
		if refused = d.opts.Guard.Check(addr); refused == nil {
			return nil
		}
		if refusal, ok := errors.AsType[*storage.Error](refused); ok {
			counts.refused.Add(1)
			counts.refusal.Store(refusal)
		}
	}
	return d.explain(ctx, refused, &counts)
}

// explain names the reason why none of a host's addresses could be connected to. A host is forbidden if all
// of its addresses that were tried are; if only some are, the others decide, because they may come back.
func (d *dialer) explain(ctx context.Context, err error, counts *tally) *dialError {
	refusal := counts.refusal.Load()
	if refusal != nil && counts.refused.Load() == counts.asked.Load() {
		return &dialError{class: storage.ForbiddenAddress, name: refusal.Code, message: refusal.Message, hint: refusal.Hint}
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return d.unresolved(ctx, dns)
	}
	if timeout, ok := errors.AsType[net.Error](err); ctx.Err() != nil || ok && timeout.Timeout() {
		w := &wait{name: "connect_timeout", what: "no connection", limit: d.opts.ConnectTimeout}
		return &dialError{class: storage.Timeout, name: w.name, message: w.Error()}
	}
	e := &dialError{class: storage.Unavailable, err: presentable(err)}
	switch {
	case refusal != nil:
		e.name, e.message = "connect", "no connection to the public addresses of the host (others were not tried)"
		e.err = nil // it may be the refusal, which did not decide
	case errors.Is(err, syscall.ECONNREFUSED):
		e.name, e.message = "connect_refused", "the connection was refused"
		e.err = nil // it says the same
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		e.name, e.message = "connect_unreachable", "the host cannot be reached"
	case errors.Is(err, syscall.ECONNRESET):
		e.name, e.message = "connect_reset", "the connection was reset while it was made"
	default:
		e.name, e.message = "connect", "no connection could be made"
	}
	return e
}

// unresolved names the reason why a name has no address. A name that is not there may be there soon (names
// of services come and go), so this is for the caller's retries to decide.
func (d *dialer) unresolved(ctx context.Context, dns *net.DNSError) *dialError {
	e := &dialError{class: storage.Unavailable, err: presentable(dns)}
	switch {
	case dns.IsNotFound:
		e.name, e.message, e.hint = "dns_not_found", "the host name has no address", "Check the spelling of the host."
	case dns.IsTimeout || ctx.Err() != nil:
		w := &wait{name: "dns_timeout", what: "no answer about the host name", limit: d.opts.ConnectTimeout}
		e.class, e.name, e.message = storage.Timeout, w.name, w.Error()
	default:
		e.name, e.message = "dns", "the host name could not be looked up"
	}
	return e
}

// dialTLS connects and shakes hands.
func (d *dialer) dialTLS(ctx context.Context, network, address string) (net.Conn, error) {
	plain, err := d.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, d.opts.TLSTimeout)
	defer cancel()
	config := d.tls.Clone()
	config.ServerName, _, _ = net.SplitHostPort(address) // the transport always gives host and port
	secured := tls.Client(plain, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		plain.Close()
		return nil, d.unsecured(ctx, err)
	}
	return secured, nil
}

// unsecured names the reason why a handshake failed. A certificate that does not hold will not hold at the
// next attempt either.
func (d *dialer) unsecured(ctx context.Context, err error) *dialError {
	if ctx.Err() != nil {
		w := &wait{name: "tls_timeout", what: "no TLS handshake", limit: d.opts.TLSTimeout}
		return &dialError{class: storage.Timeout, name: w.name, message: w.Error()}
	}
	e := &dialError{class: storage.Unavailable, name: "tls", message: "the TLS handshake failed", err: presentable(err)}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		e.class, e.message = storage.Invalid, "the server's certificate was not accepted"
		e.hint = "The certificate must be valid, for this host, and from an authority that the worker trusts."
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		e.message, e.hint = "the server does not speak TLS", "Is the URL meant to begin with http:// ?"
	}
	return e
}
