package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// sender sends a manifest.
type sender struct {
	api        *client
	env        *environment
	submission *submission
	term       terminal

	sent atomic.Int64 // bytes of this try
}

// safely sends until there is an answer that says something: the key of the request keeps it from making two batches.
func (s *sender) safely(ctx context.Context, out any) error {
	return insist(ctx, s.env, func() (bool, error) {
		err := s.send(ctx, out)
		return s.submission.manifest.again(), err
	})
}

// errShrank tells that a file is not what it was a moment before.
var errShrank = errors.New("the manifest has become shorter while it was read")

// send sends the manifest once.
func (s *sender) send(ctx context.Context, out any) error {
	s.sent.Store(0)
	m, u := s.submission.manifest, s.submission
	body, length := m.body(), m.length()
	if len(u.prefix)+len(u.suffix) > 0 || u.skip > 0 {
		if _, err := io.CopyN(io.Discard, body, int64(u.skip)); err != nil {
			return exitWith(exitUsage, "the manifest %s: %w", m.name, err)
		}
		if length >= 0 {
			length += int64(len(u.prefix) + len(u.suffix) - u.skip)
		}
		body = io.MultiReader(bytes.NewReader(u.prefix), body, bytes.NewReader(u.suffix))
	}
	header := u.header.Clone()
	header.Set("Expect", "100-continue") // a manifest that is not wanted is not sent
	path := "/v1/batches"
	if len(u.query) > 0 {
		path += "?" + u.query.Encode()
	}
	stop := s.show(length)
	counted := &countedReader{in: body, sent: &s.sent, want: length}
	resp, err := s.api.send(ctx, http.MethodPost, path, header, counted, length)
	stop()
	if err != nil {
		if counted.short {
			return exitWith(exitUsage, "%s: %w", m.name, errShrank)
		}
		return err
	}
	defer func() { _ = resp.Body.Close() }() // read to its end below
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return exitWith(exitTemporary, "the answer broke off: %w", err)
	}
	if err := json.Unmarshal(text, out); err != nil {
		return exitWith(exitFatal, "the answer is not what the API promises: %w", err)
	}
	return nil
}

// show draws how much has been sent, on a terminal. The returned function ends that.
func (s *sender) show(length int64) (stop func()) {
	if !s.term.live() || s.env.json {
		return func() {}
	}
	start := time.Now()
	b := &block{term: s.term, out: s.env.stdout}
	keep := b.keep(func(now time.Time) []string { return []string{s.line(length, now.Sub(start))} })
	return func() { _ = keep() } // the next who prints is told what is wrong
}

func (s *sender) line(length int64, took time.Duration) string {
	sent := s.sent.Load()
	pace := size(int64(float64(sent)/took.Seconds())) + "/s"
	switch {
	case length > 0 && sent >= length:
		return "sent " + size(sent) + "; waiting for the batch to be accepted"
	case length > 0:
		share := float64(sent) / float64(length)
		return barLine(s.term.room(), "sending ", share, fmt.Sprintf(" %3.0f%%  %s of %s  %s", 100*share, size(sent), size(length), pace))
	}
	return "sending " + size(sent) + "  " + pace
}

// countedReader counts what is read through it, and notices where there is less than there should be.
type countedReader struct {
	in    io.Reader
	sent  *atomic.Int64
	want  int64 // -1: whatever comes
	short bool
}

// Read implements io.Reader.
func (r *countedReader) Read(p []byte) (int, error) {
	n, err := r.in.Read(p)
	if sent := r.sent.Add(int64(n)); errors.Is(err, io.EOF) && sent < r.want {
		r.short = true
	}
	return n, err //nolint:wrapcheck // an io.Reader
}
