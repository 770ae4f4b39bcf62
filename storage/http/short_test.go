package httpstore

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// lateWriter is a connection on which a writer that wrote the end of a body is not heard of until some time after the answer was read: the
// system runs somebody else in between.
type lateWriter struct {
	net.Conn

	once    sync.Once
	answer  chan struct{} // closed some time after the first byte of an answer
	pending int           // bytes of the request that are still to be written; owned by the writer
}

func (l *lateWriter) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	if n > 0 {
		l.once.Do(func() { time.AfterFunc(100*time.Millisecond, func() { close(l.answer) }) })
	}
	return n, err
}

func (l *lateWriter) Write(p []byte) (int, error) {
	n, err := l.Conn.Write(p)
	if l.pending -= n; l.pending <= 0 {
		<-l.answer
	}
	return n, err
}

// A receiver that has all of a short body may answer before the transport tells that it wrote the end.
func TestShortPutAnsweredAtOnce(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "stored") // an answer without content would wait for the writer
	})}
	go server.Serve(listener)
	defer server.Close()
	client := testClient(t, nil)
	const size = shortBody - 1<<10 // more than a connection gathers: the end is written before the transport says so
	client.transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, address)
		return &lateWriter{Conn: c, answer: make(chan struct{}), pending: size}, err
	}
	if stored, err := client.Put("http://"+listener.Addr().String(), nil).Put(t.Context(), zeros(size)); err != nil || stored.Bytes != size {
		t.Errorf("%+v, %v", stored, err)
	}
}
