package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/lifecycle"
)

// The exit codes, as documented: never 0 on failure.
const (
	exitOK        = 0
	exitFailed    = 1 // finished, with items that failed
	exitUsage     = 2
	exitNotFound  = 3
	exitDenied    = 4
	exitTemporary = 5 // try again
	exitCanceled  = 6
	exitFatal     = 7
)

// exitError carries an exit code through the error chain.
type exitError struct {
	code   int
	reason string // a stable word; "": the one of the exit code
	hint   string // what the reader may do about it; "": nothing to add
	err    error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func exitWith(code int, format string, args ...any) error {
	return &exitError{code: code, err: fmt.Errorf(format, args...)}
}

// hinted adds a hint to an error with an exit code.
func hinted(err error, hint string) error {
	if e, ok := errors.AsType[*exitError](err); ok {
		return &exitError{code: e.code, reason: e.reason, hint: hint, err: err}
	}
	return err
}

// interrupted is the error of what ended with its context: by a signal, or by a limit that names itself as the cause.
func interrupted(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return &exitError{code: exitCanceled, reason: "interrupted", err: interruption{ctx.Err()}}
	}
	return context.Cause(ctx) //nolint:wrapcheck // says what it was
}

// interruption says no more than that: that a context ended is how, and not why.
type interruption struct{ error }

func (interruption) Error() string   { return "interrupted" }
func (i interruption) Unwrap() error { return i.error }

// exitReasons are the words for exit codes whose error has none of its own.
var exitReasons = map[int]string{
	exitFailed: "items_failed", exitUsage: "usage", exitNotFound: "not_found", exitDenied: "denied",
	exitTemporary: "temporary", exitCanceled: "canceled", exitFatal: "fatal",
}

// failure is an error as --json tells it, on the last line of the standard error.
type failure struct {
	Exit    int    `json:"exit"`
	Code    string `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
	Problem any    `json:"problem,omitempty"` // the API's refusal with all its fields
}

// fail prints an error and maps it to an exit code.
func fail(stderr io.Writer, inJSON bool, err error) int {
	told := describe(err)
	if inJSON {
		line, encodeErr := json.Marshal(map[string]failure{"error": told})
		if encodeErr == nil {
			_, _ = fmt.Fprintf(stderr, "%s\n", line) // nobody to tell
			return told.Exit
		}
	}
	var text strings.Builder
	for i, line := range strings.Split(err.Error(), "\n") {
		if i > 0 {
			text.WriteString("\n")
		}
		text.WriteString(clean(line))
	}
	if told.Hint != "" {
		text.WriteString("\n  hint: " + clean(told.Hint))
	}
	_, _ = fmt.Fprintf(stderr, "copyfleet: %s\n", text.String()) // nobody to tell
	return told.Exit
}

func describe(err error) failure {
	told := failure{Exit: exitFatal, Message: err.Error()}
	if e, ok := errors.AsType[*exitError](err); ok {
		told.Exit, told.Code, told.Hint = e.code, e.reason, e.hint
		if p := refused(err); p != nil {
			told.Message, told.Problem = p.Message, p
		}
	} else {
		switch {
		case errors.Is(err, broker.ErrURL):
			told.Exit = exitUsage
		case errors.Is(err, broker.ErrUnavailable), errors.Is(err, lifecycle.ErrInUse), errors.Is(err, syscall.EADDRINUSE):
			told.Exit = exitTemporary
		case errors.Is(err, context.Canceled):
			told.Exit = exitCanceled
		}
	}
	if told.Code == "" {
		told.Code = exitReasons[told.Exit]
	}
	return told
}
