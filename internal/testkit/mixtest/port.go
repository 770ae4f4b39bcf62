package mixtest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
)

// Below the range from which systems take the ports of outgoing connections: a port there stays free while its
// process is down.
const firstPort, ports = 20_000, 12_000

// FreeAddress returns a TCP address that is the test's own until its end, whether a process listens there or not. The UDP
// port of the same number, which nobody else has a use for, says so to other tests, also to those of other packages.
func FreeAddress(t testing.TB) string {
	t.Helper()
	for range 50 {
		address := fmt.Sprintf("127.0.0.1:%d", firstPort+rand.IntN(ports))
		mark, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", address)
		if err != nil {
			continue
		}
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
		if err != nil {
			_ = mark.Close()
			continue
		}
		_ = l.Close()
		t.Cleanup(func() { _ = mark.Close() })
		return address
	}
	t.Fatal("no free port")
	return ""
}
