package httpstore

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// headStart is how long an address is tried alone before the next one is tried beside it (RFC 8305, section 5).
const headStart = 250 * time.Millisecond

// dialed is what became of an address.
type dialed struct {
	conn net.Conn
	err  error
}

// race connects to the first of several addresses that can be reached. One that fails is followed by the next at once, one that does
// not answer after a head start. All that it started has ended when it returns. The error is that of the first address that failed.
func race(ctx context.Context, addrs []netip.Addr, dial func(context.Context, netip.Addr) (net.Conn, error)) (net.Conn, error) {
	if len(addrs) == 1 {
		return dial(ctx, addrs[0])
	}
	ctx, cancel := context.WithCancel(ctx)
	results := make(chan dialed, len(addrs))
	running := 0
	defer func() {
		cancel()
		for ; running > 0; running-- {
			if late := <-results; late.conn != nil {
				late.conn.Close()
			}
		}
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var first error
	for {
		select {
		case <-timer.C:
			if len(addrs) == 0 {
				continue
			}
			addr := addrs[0]
			addrs = addrs[1:]
			running++
			go func() {
				conn, err := dial(ctx, addr)
				results <- dialed{conn, err}
			}()
			timer.Reset(headStart)
		case result := <-results:
			running--
			if result.err == nil {
				return result.conn, nil
			}
			if first == nil {
				first = result.err
			}
			if running == 0 && len(addrs) == 0 {
				return nil, first
			}
			timer.Reset(0)
		}
	}
}
