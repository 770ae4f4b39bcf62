package s3server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"syscall"
)

// errPortTaken marks an address that somebody else listens on.
var errPortTaken = errors.New("the address is in use")

// pickAddress resolves Config.Listen to one address with a port, and finds out whether it can be listened on. The
// library takes no listener, so the address is free again when it gets it: whoever starts it looks at its error too.
func pickAddress(ctx context.Context, listen string) (string, error) {
	if _, _, err := net.SplitHostPort(listen); err != nil {
		return "", fmt.Errorf("--s3-listen %q: want host:port: %w", listen, err)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if isAddressInUse(err) {
		return "", portTaken(listen, err)
	}
	if err != nil {
		return "", fmt.Errorf("--s3-listen %s: %w", listen, err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		return "", fmt.Errorf("--s3-listen %s: %w", listen, err)
	}
	return addr, nil
}

func portTaken(addr string, cause error) error {
	return fmt.Errorf("listen on %s: %w: %w; hint: stop the program that uses it, or choose another --s3-listen", addr, errPortTaken, cause)
}

func isAddressInUse(err error) bool { return errors.Is(err, syscall.EADDRINUSE) }

// picksPort reports whether the port is for the system to choose.
func picksPort(listen string) bool {
	_, port, err := net.SplitHostPort(listen)
	return err == nil && (port == "0" || port == "")
}

// dialable returns the address to connect to for one that is listened on.
func dialable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return addr
}

// healthPath draws the path of the health check. No bucket can have this name, so that it hides none.
func healthPath() string { return "/_copyfleet_" + rand.Text() }
