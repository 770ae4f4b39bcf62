package storage

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Class says what kind of failure it was. Drivers classify; what to do about it is decided elsewhere.
type Class int

// The classes, permanent ones first.
const (
	Internal         Class = iota // our own fault; also the class of an error that no driver classified
	NotFound                      // it is not there
	Denied                        // credentials are missing, wrong or expired, or permission is lacking
	Invalid                       // it cannot be done as asked
	Conflict                      // the destination is something that may not be replaced
	TooLarge                      // beyond a limit of the receiver or of ours
	NoSpace                       // the destination is full
	ForbiddenAddress              // the address guard refused to dial
	Corrupt                       // the bytes are not those that were promised
	Throttled                     // the peer asked to slow down
	Unavailable                   // the peer failed or cannot be reached
	Timeout                       // a named wait passed its limit
	Interrupted                   // a transfer broke off midway
)

var classNames = map[Class]string{
	Internal: "internal", NotFound: "not_found", Denied: "denied", Invalid: "invalid", Conflict: "conflict", TooLarge: "too_large", NoSpace: "no_space",
	ForbiddenAddress: "forbidden_address", Corrupt: "corrupt", Throttled: "throttled", Unavailable: "unavailable", Timeout: "timeout",
	Interrupted: "interrupted",
}

// String is the word for the class in receipts and reports.
func (c Class) String() string { return classNames[c] }

// Error is what went wrong in a driver.
type Error struct {
	Class Class
	// Code is stable and machine readable: "http_404", "source_short", "connect_timeout".
	Code string
	// Op is what was being done: "open", "read", "write", "commit".
	Op string
	// Subject is what it was done to, without credentials: a path, a redacted URL, s3://bucket/key.
	Subject string
	// Message is one sentence for people. It names no credential.
	Message string
	// Hint is what the reader may do about it; "" if there is nothing to say.
	Hint string
	// Status is the HTTP status of the peer, with StatusText its phrase ("404 Not Found"); 0 if there was none.
	Status     int
	StatusText string
	// Reason is the peer's own word for why it refused an upload, where it told one as stores do (S3's error codes); it is no text for
	// people, and it may be wrong or missing.
	Reason string
	// RetryAfter is how long the peer asked to wait; 0 if it did not.
	RetryAfter time.Duration
	// Err is the cause. Drivers strip credentials from it before they set it (url.Error prints whole URLs).
	Err error
}

// Error returns operation, subject, message and cause, unless the message says it already.
func (e *Error) Error() string {
	text := e.Op + " " + e.Subject + ": " + e.Message
	if e.Err != nil && !strings.Contains(e.Message, e.Err.Error()) {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// ClassOf returns the class of the first [*Error] in err's tree, and Internal if there is none.
func ClassOf(err error) Class {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Class
	}
	return Internal
}

// Errorf returns an error of a class with a formatted message and no cause.
func Errorf(class Class, code, op, subject, format string, args ...any) *Error {
	return &Error{Class: class, Code: code, Op: op, Subject: subject, Message: fmt.Sprintf(format, args...)}
}
