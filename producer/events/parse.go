package events

import (
	"errors"
	"strconv"
)

// MaxBody bounds a notification, in bytes; MaxEvents the events in it.
const (
	MaxBody   = 1 << 20
	MaxEvents = 1000
)

// maxKey bounds the key of an object in bytes, as S3 does.
const maxKey = 1024

// ErrMalformed is wrapped by what says that a notification cannot be read, and why.
var ErrMalformed = errors.New("the notification cannot be read")

// MalformedError says why a notification cannot be read. It wraps [ErrMalformed], and holds no value of what was sent.
type MalformedError struct {
	Pointer string // RFC 6901, into the body; "" is the whole of it, or a header
	Reason  string // goes on where the place was named: "must be a string"
}

// Error implements error.
func (e *MalformedError) Error() string {
	where := e.Pointer
	if where == "" {
		where = "it"
	}
	return ErrMalformed.Error() + ": " + where + " " + e.Reason
}

// Unwrap makes it [ErrMalformed].
func (e *MalformedError) Unwrap() error { return ErrMalformed }

func malformed(pointer, reason string) error {
	return &MalformedError{Pointer: pointer, Reason: reason}
}

// tooLong is the error of a body beyond [MaxBody].
func tooLong() error { return malformed("", "has more than "+strconv.Itoa(MaxBody)+" bytes") }

// tooMany is the error of a list beyond [MaxEvents].
func tooMany(pointer string) error {
	return malformed(pointer, "has more than "+strconv.Itoa(MaxEvents)+" events")
}
