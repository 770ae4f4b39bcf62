// Package sse reads server-sent events (HTML Living Standard, section 9.2).
package sse

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
)

// Event is one server-sent event.
type Event struct {
	Name string // "message" where none was given
	ID   string // the last id that was told, in this event or before
	Data []byte
}

// maxEvent bounds an event, in bytes: a view of a batch with its error groups has about 100 KiB.
const maxEvent = 8 << 20

// ErrTooLong says that a stream has an event that is too long to be one.
var ErrTooLong = errors.New("an event of the stream is too long")

// Reader reads the events of a stream.
type Reader struct {
	in    *bufio.Reader
	id    string
	heard func() // called for every line, also for those that only say that the server lives
}

// NewReader reads a stream that goes on after the event lastID; "": from its beginning. heard is called for every line.
func NewReader(in io.Reader, lastID string, heard func()) *Reader {
	return &Reader{in: bufio.NewReaderSize(in, 64<<10), id: lastID, heard: heard}
}

// Next returns the next event that carries data. An event that the stream breaks off in is none.
func (e *Reader) Next() (Event, error) {
	ev, id, has := Event{Name: "message"}, e.id, false
	for total := 0; ; {
		line, err := e.line()
		if err != nil {
			return Event{}, err
		}
		if total += len(line); total > maxEvent {
			return Event{}, ErrTooLong
		}
		if len(line) == 0 {
			e.id = id
			if has {
				ev.ID, ev.Data = id, bytes.TrimSuffix(ev.Data, []byte{'\n'})
				return ev, nil
			}
			ev = Event{Name: "message"}
			continue
		}
		field, value, _ := strings.Cut(string(line), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			ev.Name = value
		case "data":
			ev.Data, has = append(append(ev.Data, value...), '\n'), true
		case "id":
			if !strings.ContainsRune(value, 0) {
				id = value
			}
		}
	}
}

// line reads a line without its end, which is LF or CRLF.
func (e *Reader) line() ([]byte, error) {
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
			return nil, ErrTooLong
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
