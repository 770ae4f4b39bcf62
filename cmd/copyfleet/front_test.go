package main

import (
	"errors"
	"net"
	"net/http"
	"testing"
)

// lingering is a listener whose Accept has not noticed yet that it was closed.
type lingering struct {
	net.Listener

	accepting, over chan struct{}
}

func (l *lingering) Accept() (net.Conn, error) {
	close(l.accepting)
	<-l.over
	return nil, net.ErrClosed
}

// TestFrontThatListensNoMoreIsClosedInOrder shuts a server down whose listener was closed a moment ago.
func TestFrontThatListensNoMoreIsClosedInOrder(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener, server, served := &lingering{l, make(chan struct{}), make(chan struct{})}, &http.Server{}, make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	<-listener.accepting
	server.RegisterOnShutdown(func() { close(listener.over) }) // by then the listener was to be closed once more
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if err := shut(t.Context(), server); err != nil {
		t.Error(err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}
