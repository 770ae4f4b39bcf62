package nulls3

import (
	"bufio"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Options of a [Server].
type Options struct {
	Object int64         // bytes of each object that is read
	Think  time.Duration // that passes before each answer
}

// Mood is how a [Server] answers.
type Mood int32

// Moods. The zero Mood is a good one.
const (
	Fine    Mood = iota
	Busy         // 503, with the error of S3 for it
	Garbage      // what is no HTTP
	Cut          // ends the connection without an answer, before it has read the body
	Half         // ends the connection in the middle of the content of an object; else as Cut
)

// Counts are how many requests have come, whatever became of them.
type Counts struct{ Put, Get, Head, Delete, Post, Other int64 }

// All is how many there are together.
func (c Counts) All() int64 { return c.Put + c.Get + c.Head + c.Delete + c.Post + c.Other }

// Server listens on a loopback port.
type Server struct {
	Endpoint string // http://127.0.0.1:port

	listener net.Listener
	object   int64
	think    time.Duration
	counts   [methods]atomic.Int64
	mood     atomic.Int32
	stalled  atomic.Int64 // until when, in Unix nanoseconds

	mu     sync.Mutex
	conns  map[net.Conn]struct{} // nil: closed
	closed chan struct{}
	work   sync.WaitGroup
}

const bufferBytes = 64 << 10

// Start serves until the end of the test.
func Start(tb testing.TB, opts Options) *Server {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("nulls3: %v", err)
	}
	s := &Server{
		Endpoint: "http://" + l.Addr().String(), listener: l, object: opts.Object, think: opts.Think,
		conns: map[net.Conn]struct{}{}, closed: make(chan struct{}),
	}
	s.work.Go(s.accept)
	tb.Cleanup(s.Close)
	return s
}

// Close ends all connections, and returns when nothing of the server runs any more. What it listened on refuses connections then.
func (s *Server) Close() {
	s.mu.Lock()
	conns := s.conns
	s.conns = nil
	s.mu.Unlock()
	if conns == nil {
		return
	}
	close(s.closed)
	s.listener.Close()
	for c := range conns {
		c.Close()
	}
	s.work.Wait()
}

// Counts returns how many requests have come.
func (s *Server) Counts() Counts {
	return Counts{
		Put: s.counts[put].Load(), Get: s.counts[get].Load(), Head: s.counts[head].Load(), Delete: s.counts[remove].Load(), Post: s.counts[post].Load(),
		Other: s.counts[other].Load(),
	}
}

// Stall holds the answers to all requests that come from now on until a time has gone by.
func (s *Server) Stall(d time.Duration) { s.stalled.Store(time.Now().Add(d).UnixNano()) }

// Turn changes how requests are answered that come from now on.
func (s *Server) Turn(m Mood) { s.mood.Store(int32(m)) }

func (s *Server) accept() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		if !s.keep(c) {
			c.Close()
			return
		}
		s.work.Go(func() {
			defer s.drop(c)
			s.serve(c)
		})
	}
}

func (s *Server) keep(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil {
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *Server) drop(c net.Conn) {
	c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// serve answers the requests of one connection until it ends.
func (s *Server) serve(c net.Conn) {
	in := bufio.NewReaderSize(c, bufferBytes)
	for {
		req, err := readHead(in)
		if errors.Is(err, errSpeech) {
			_, _ = c.Write(notUnderstood)
			return
		}
		if err != nil {
			return
		}
		s.counts[req.method].Add(1)
		mood := Mood(s.mood.Load())
		if mood == Cut || mood == Half && req.method != get {
			return
		}
		if req.expects {
			if _, err := c.Write(goOn); err != nil {
				return
			}
		}
		if err := discard(in, req.length); err != nil || !s.wait() || s.answer(c, &req, mood) != nil {
			return
		}
	}
}

// discard reads over a body, and takes no interest in it.
func discard(in *bufio.Reader, n int64) error {
	for n > 0 {
		step, err := in.Discard(int(min(n, 1<<30)))
		if err != nil {
			return err
		}
		n -= int64(step)
	}
	return nil
}

// wait waits as long as an answer takes, and for the end of a stall; false: the server is closed.
func (s *Server) wait() bool {
	left := s.think
	if until := s.stalled.Load(); until != 0 {
		left = max(left, time.Until(time.Unix(0, until)))
	}
	if left <= 0 {
		return true
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.closed:
		return false
	}
}

// answer writes an answer. An error ends the connection.
func (s *Server) answer(c net.Conn, req *request, mood Mood) error {
	switch {
	case mood == Busy && req.method == head:
		return write(c, busyHead)
	case mood == Busy:
		return write(c, busy)
	case mood == Garbage:
		return errors.Join(write(c, garbage), io.EOF)
	case req.method == head:
		return write(c, objectHead(s.object))
	case req.method != get || req.answer != nil:
		return write(c, req.answer)
	}
	size := s.object
	if err := write(c, objectHead(size)); err != nil {
		return err
	}
	if mood == Half {
		size /= 2
	}
	for ; size > 0; size -= int64(len(zeros)) {
		if err := write(c, zeros[:min(size, int64(len(zeros)))]); err != nil {
			return err
		}
	}
	if mood == Half {
		return io.ErrUnexpectedEOF
	}
	return nil
}

func write(c net.Conn, text []byte) error {
	_, err := c.Write(text)
	return err
}
