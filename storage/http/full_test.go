package httpstore

import (
	"net"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// closedPort returns a port of 127.0.0.1 at which nobody listens, and nobody will as long as the test runs.
func closedPort(t *testing.T) string {
	t.Helper()
	_, port := bound(t)
	return strconv.Itoa(port)
}

// bound returns a socket that has a port of 127.0.0.1 and does not listen.
func bound(t *testing.T) (fd, port int) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	syscall.CloseOnExec(fd)
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fd, name.(*syscall.SockaddrInet4).Port
}

// fullListener returns the address of a listener that accepts nothing and whose queue of connections is full.
func fullListener(t *testing.T) string {
	t.Helper()
	fd, port := bound(t)
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	for range 16 {
		c, err := net.DialTimeout("tcp", address, 200*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatal("the queue of a listener with backlog 0 does not fill up")
	return ""
}
