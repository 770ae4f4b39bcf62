package httpstore

import "golang.org/x/sys/unix"

// bytesAcked returns tcpi_bytes_acked of a socket (tcp(7), TCP_INFO).
func bytesAcked(fd uintptr) int64 {
	info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0
	}
	return int64(info.Bytes_acked) //nolint:gosec // 2^63 bytes over one connection take centuries
}
