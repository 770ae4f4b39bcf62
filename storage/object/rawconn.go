package object

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// patientDialer makes connections whose other end has a time to take what it is sent. net/http waits for the begin of an answer only once it has sent all: a
// store that stands still in the middle of an object would hold it for ever.
func patientDialer(most time.Duration) func(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: connectTimeout}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err //nolint:wrapcheck // classified by the caller
		}
		return &patientConn{c, most}, nil
	}
}

type patientConn struct {
	net.Conn

	most time.Duration
}

// Write implements net.Conn.
func (c *patientConn) Write(p []byte) (int, error) {
	_ = c.SetWriteDeadline(time.Now().Add(c.most)) // fails where the write does
	n, err := c.Conn.Write(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("it takes nothing any more: %w", context.DeadlineExceeded)
	}
	return n, err //nolint:wrapcheck // classified by the caller
}
