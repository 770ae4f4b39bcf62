package producer

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// within is the stage for a part of a test.
func (s *stage) within(t *testing.T) *stage {
	t.Helper()
	part, bundle := *s, *s.bundle
	bundle.T, part.bundle = t, &bundle
	return &part
}

// serveOn lets a test set the limits of the server.
func (s *stage) serveOn(server *http.Server) {
	s.Helper()
	listener, err := (&net.ListenConfig{}).Listen(s.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		s.Fatal(err)
	}
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(listener) }()
	s.Cleanup(func() { _ = server.Close(); <-served })
	s.url, s.client = "http://"+listener.Addr().String(), &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
}

// stream sends a body piece by piece and returns the answer.
func (s *stage) stream(media string, write func(send func(string)), header ...string) answer {
	s.Helper()
	body, pipe := io.Pipe()
	req, err := http.NewRequestWithContext(s.Context(), http.MethodPost, s.url+"/v1/batches", body)
	if err != nil {
		s.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.keys["one/copy"])
	req.Header.Set("Content-Type", media)
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		write(func(text string) { _, _ = io.WriteString(pipe, text) })
		_ = pipe.Close()
	}()
	defer func() { _ = body.Close(); <-sent }()
	resp, err := s.client.Do(req)
	if err != nil {
		s.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		s.Fatal(err)
	}
	return answer{s.T, resp.StatusCode, resp.Header, got}
}

// Items whose destinations cannot be looked at.
const (
	toPut  = `{"src":{"type":"httpGetLocation","url":"https://a.test/1"},"dest":{"type":"httpPutLocation","url":"https://a.test/put"}}`
	toPost = `{"src":{"type":"httpGetLocation","url":"https://a.test/1"},"dest":{"type":"httpPostFormLocation","url":"https://a.test/post","form":{}}}`
)

// withMembers adds members to an item.
func withMembers(item, members string) string {
	return strings.TrimSuffix(item, "}") + "," + members + "}"
}
