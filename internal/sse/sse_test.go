package sse_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"go.uber.org/goleak"

	"github.com/copyfleet/copyfleet/internal/sse"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEvents(t *testing.T) {
	t.Parallel()
	text := ": hello\r\n\r\nevent: batch\nid: 7\ndata: {\ndata: }\n\nid: 8\n\ndata:x\nretry: 5\nunknown: y\n\n" +
		"event: item\r\ndata:  two spaces\r\n\r\nid: a\x00b\ndata\n\nevent: batch\ndata: broken off"
	want := []sse.Event{
		{"batch", "7", []byte("{\n}")}, {"message", "8", []byte("x")}, {"item", "8", []byte(" two spaces")}, {"message", "8", []byte("")},
	}
	for name, in := range map[string]io.Reader{"at once": strings.NewReader(text), "byte by byte": iotest.OneByteReader(strings.NewReader(text))} {
		heard := 0
		e := sse.NewReader(in, "", func() { heard++ })
		for i, w := range want {
			got, err := e.Next()
			if err != nil || got.Name != w.Name || got.ID != w.ID || string(got.Data) != string(w.Data) {
				t.Fatalf("%s: event %d is %+v, %v; want %+v", name, i, got, err, w)
			}
		}
		if got, err := e.Next(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: after the last event: %+v, %v", name, got, err)
		}
		if heard == 0 {
			t.Errorf("%s: no line was heard", name)
		}
	}
}

func TestEventsLong(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 300<<10)
	e := sse.NewReader(strings.NewReader("data: "+long+"\n\n"), "", func() {})
	if ev, err := e.Next(); err != nil || string(ev.Data) != long {
		t.Errorf("an event of 300 KiB: %d bytes, %v", len(ev.Data), err)
	}
	// Neither one endless line nor endless lines fill the memory.
	for _, line := range []string{"x", "data: xxxxxxxxxxxxxxxxxxxxxx\n"} {
		e = sse.NewReader(io.MultiReader(strings.NewReader("data: "), &endless{line: line}), "", func() {})
		if _, err := e.Next(); !errors.Is(err, sse.ErrTooLong) {
			t.Errorf("an endless event of %q: %v", line, err)
		}
	}
}

type endless struct {
	line string
	at   int
}

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = e.line[e.at%len(e.line)]
		e.at++
	}
	return len(p), nil
}
