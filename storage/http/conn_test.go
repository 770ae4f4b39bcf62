package httpstore

import (
	"bytes"
	"io"
	"net"
	"syscall"
	"testing"
)

// takenConn takes what is written to it, or fails.
type takenConn struct {
	net.Conn
	taken  bytes.Buffer
	writes int
	err    error
}

func (c *takenConn) Write(p []byte) (int, error) {
	c.writes++
	if c.err != nil {
		return 0, c.err
	}
	return c.taken.Write(p)
}

// TestConnWritesLargePieces guards what a large upload costs: with small pieces twice as much processor time.
func TestConnWritesLargePieces(t *testing.T) {
	t.Parallel()
	const pieces = 4
	want := bytes.Repeat([]byte("0123456789abcdef"), pieces*pieceSize/16)
	raw := &takenConn{}
	n, err := newConn(raw).ReadFrom(io.LimitReader(bytes.NewReader(want), int64(len(want))))
	if err != nil || n != int64(len(want)) || !bytes.Equal(raw.taken.Bytes(), want) {
		t.Errorf("%d bytes, %v", n, err)
	}
	if raw.writes != pieces {
		t.Errorf("%d writes", raw.writes)
	}
}

// TestConnReadFromHearsOut checks that a peer that hung up is heard out also by large pieces.
func TestConnReadFromHearsOut(t *testing.T) {
	t.Parallel()
	c := newConn(&takenConn{err: syscall.EPIPE})
	if n, err := c.ReadFrom(bytes.NewReader(make([]byte, 3*pieceSize))); err != nil || n != 3*pieceSize {
		t.Errorf("%d bytes, %v", n, err)
	}
	if !c.dropped.Load() {
		t.Error("nothing was dropped")
	}
	if _, err := newConn(&takenConn{err: net.ErrClosed}).ReadFrom(bytes.NewReader(make([]byte, 1))); err == nil {
		t.Error("a connection that is closed on our side took a byte")
	}
}
