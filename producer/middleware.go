package producer

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"runtime/debug"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/internal/observe"
)

// Keys of log attributes, all of this package's.
const (
	logError    = "error"
	logTask     = "task"
	logRecord   = "record"
	logRequest  = "request_id"
	logMethod   = "method"
	logRoute    = "route"
	logStatus   = "status"
	logBytes    = "bytes"
	logDuration = "duration"
	logStack    = "stack"
)

// requestIDHeader names a call in the log and in the answer. A caller may choose the id.
const requestIDHeader = "X-Request-Id"

const maxRequestID = 128

type requestIDKey struct{}

// requestIDOf returns the id of a call.
func requestIDOf(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// wrap puts around the routes what every call has: an id, a line in the log, and an answer after a panic.
func (s *Server) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		id := requestID(r.Header)
		ctx, span := s.traces.Call(context.WithValue(r.Context(), requestIDKey{}, id), r.Header, knownMethod(r.Method))
		defer span.End()
		r = r.WithContext(ctx)
		h := w.Header()
		h.Set(requestIDHeader, id)
		// Answers hold secrets (a new key, signed URLs) or go stale at once; and none is a page.
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		rec := &recorder{ResponseWriter: w}
		defer func() {
			reason := recover()
			s.access(r, rec, span, time.Since(start), reason)
			if reason != nil {
				s.afterPanic(rec, r, reason)
			}
		}()
		if !cleanPath(r.URL.Path) {
			// The mux would redirect; an API has one path for a thing.
			writeProblem(rec, r, newProblem(CodeNotFound, "There is no such path."))
			return
		}
		next.ServeHTTP(rec, r)
	})
}

// access writes the one line that each call gets. The route is the pattern, never the path as it came: ids in
// it are fine, a mistyped secret is not. A call that panicked before it answered is a 500.
func (s *Server) access(r *http.Request, rec *recorder, span observe.Span, took time.Duration, panicked any) {
	status := rec.status
	switch {
	case panicked != nil && status == 0:
		status = http.StatusInternalServerError
	case status == 0:
		status = http.StatusOK
	}
	method, route := knownMethod(r.Method), r.Pattern
	span.Answered(method, route, status)
	s.metrics.Request(r.Context(), method, route, status, took)
	s.cfg.Logger.LogAttrs(r.Context(), slog.LevelInfo, "request",
		slog.String(logRequest, requestIDOf(r.Context())), slog.String(logMethod, method),
		slog.String(logRoute, route), slog.Int(logStatus, status),
		slog.Int64(logBytes, rec.written), slog.Duration(logDuration, took))
}

// afterPanic answers 500, or breaks the connection off if an answer had begun: half an answer must not
// look like a whole one.
func (s *Server) afterPanic(rec *recorder, r *http.Request, reason any) {
	if reason == http.ErrAbortHandler { //nolint:errorlint // net/http compares the very value
		panic(reason) //nolint:forbidigo // net/http asked for it
	}
	// The type only for what is not an error or a text: a value might be a request with its headers.
	what := fmt.Sprintf("%T", reason)
	switch v := reason.(type) {
	case error:
		what = withoutURL(v).Error()
	case string:
		what = v
	}
	s.cfg.Logger.LogAttrs(r.Context(), slog.LevelError, "panic in a handler",
		slog.String(logRequest, requestIDOf(r.Context())), slog.String(logRoute, r.Pattern),
		slog.String(logError, what), slog.String(logStack, string(debug.Stack())))
	if rec.status != 0 {
		panic(http.ErrAbortHandler) //nolint:forbidigo // the one way to break a connection off
	}
	writeProblem(rec, r, newProblem(CodeInternal, "Something went wrong here; the log has it under request "+
		requestIDOf(r.Context())+"."))
}

// fault logs an error of a neighbor under the call's id.
func (s *Server) fault(r *http.Request, what string, err error) {
	s.cfg.Logger.LogAttrs(r.Context(), slog.LevelError, "a neighbor failed", slog.String(logTask, what),
		slog.String(logRequest, requestIDOf(r.Context())), slog.String(logRoute, r.Pattern),
		slog.Any(logError, withoutURL(err)))
}

// requestID takes the caller's id if it is harmless in a log line, else makes one of 128 random bits.
func requestID(h http.Header) string {
	given := h.Get(requestIDHeader)
	harmless := given != "" && len(given) <= maxRequestID
	for i := 0; harmless && i < len(given); i++ {
		c := given[i]
		harmless = c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("._-", c) >= 0
	}
	if harmless {
		return given
	}
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand aborts the process instead
	return hex.EncodeToString(b[:])
}

// cleanPath reports whether the mux would serve p as it is.
func cleanPath(p string) bool {
	if p == "" || p[0] != '/' {
		return false
	}
	return p == "/" || path.Clean(p) == strings.TrimSuffix(p, "/")
}

// knownMethod keeps an invented method out of the log.
func knownMethod(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return m
	}
	return "other"
}

// recorder notes what was answered.
type recorder struct {
	http.ResponseWriter
	status  int // 0: nothing yet
	written int64
}

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 && status >= http.StatusOK { // 1xx are not the answer
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(b)
	r.written += int64(n)
	return n, err //nolint:wrapcheck // io.Writer passes on what it got
}

// Flush implements http.Flusher, for event streams.
func (r *recorder) Flush() {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	_ = http.NewResponseController(r.ResponseWriter).Flush() // not supported: nothing to flush
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
