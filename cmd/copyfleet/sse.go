package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
)

// event is one server-sent event (HTML Living Standard, section 9.2).
type event struct {
	name string // "message" where none was given
	id   string // the last id that was told, in this event or before
	data []byte
}

// maxEvent bounds an event, in bytes: a view of a batch with its error groups has about 100 KiB.
const maxEvent = 8 << 20

var errEventTooLong = errors.New("an event of the stream is too long")

// events reads server-sent events.
type events struct {
	in    *bufio.Reader
	id    string
	heard func() // called for every line, also for those that only say that the server lives
}

func newEvents(in io.Reader, lastID string, heard func()) *events {
	return &events{in: bufio.NewReaderSize(in, 64<<10), id: lastID, heard: heard}
}

// next returns the next event that carries data. An event that the stream breaks off in is none.
func (e *events) next() (event, error) {
	ev, id, has := event{name: "message"}, e.id, false
	for total := 0; ; {
		line, err := e.line()
		if err != nil {
			return event{}, err
		}
		if total += len(line); total > maxEvent {
			return event{}, errEventTooLong
		}
		if len(line) == 0 {
			e.id = id
			if has {
				ev.id, ev.data = id, bytes.TrimSuffix(ev.data, []byte{'\n'})
				return ev, nil
			}
			ev = event{name: "message"}
			continue
		}
		field, value, _ := strings.Cut(string(line), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			ev.name = value
		case "data":
			ev.data, has = append(append(ev.data, value...), '\n'), true
		case "id":
			if !strings.ContainsRune(value, 0) {
				id = value
			}
		}
	}
}

// line reads a line without its end, which is LF or CRLF.
func (e *events) line() ([]byte, error) {
	var long []byte
	for {
		part, err := e.in.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
				if len(long)+len(part) == 0 {
					err = io.EOF
				}
			}
			return nil, err //nolint:wrapcheck // wrapped by who knows the stream
		}
		if len(long)+len(part) > maxEvent {
			return nil, errEventTooLong
		}
		if err != nil {
			long = append(long, part...)
			continue
		}
		e.heard()
		if len(long) > 0 {
			part = append(long, part...)
		}
		return bytes.TrimSuffix(bytes.TrimSuffix(part, []byte{'\n'}), []byte{'\r'}), nil
	}
}
