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
	api    *client
	env    *environment
	upload *upload
	term   terminal

	sent atomic.Int64 // bytes of this try
}

// safely sends until there is an answer that says something: the key of the request keeps it from making two batches.
func (s *sender) safely(ctx context.Context, out any) error {
	return insist(ctx, s.env, func() (bool, error) {
		err := s.send(ctx, out)
		return s.upload.manifest.again(), err
	})
}

// errGrew and errShrank tell that a file is not what it was a moment before.
var errShrank = errors.New("the manifest has become shorter while it was read")

// send sends the manifest once.
func (s *sender) send(ctx context.Context, out any) error {
	s.sent.Store(0)
	m, u := s.upload.manifest, s.upload
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
	quit, done := make(chan struct{}), make(chan struct{})
	b := &block{term: s.term, out: s.env.stdout}
	go func() {
		defer close(done)
		start := time.Now()
		tick := time.NewTicker(drawEvery)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				_ = b.draw(nil) // the next who prints is told what is wrong
				return
			case now := <-tick.C:
				_ = b.draw([]string{s.line(length, now.Sub(start))}) // as above
			}
		}
	}()
	return func() { close(quit); <-done }
}

func (s *sender) line(length int64, took time.Duration) string {
	sent := s.sent.Load()
	pace := size(int64(float64(sent)/took.Seconds())) + "/s"
	switch {
	case length > 0 && sent >= length:
		return "sent " + size(sent) + "; waiting for the batch to be accepted"
	case length > 0:
		share := float64(sent) / float64(length)
		return fmt.Sprintf("sending %s %3.0f%%  %s of %s  %s", bar(share), 100*share, size(sent), size(length), pace)
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

const (
	// insistFor is how long a call is tried again that the API was too busy for, or whose connection broke off.
	insistFor    = time.Minute
	longestPause = 15 * time.Second
)

// insist makes a call until it has an answer that says something, or insistFor has passed. A first call that reaches nobody is not
// tried again: there is nothing there. try also returns whether it may be tried again at all.
func insist(ctx context.Context, env *environment, try func() (bool, error)) error {
	start := time.Now()
	for n, pause := 1, firstPause; ; n++ {
		again, err := try()
		after, worth := temporary(err)
		if err == nil || !again || !worth || ctx.Err() != nil {
			return err
		}
		if e, ok := errors.AsType[*exitError](err); n == 1 && ok && e.reason == "unreachable" {
			return err
		}
		pause = min(max(pause*2, after), longestPause)
		if time.Since(start)+pause > insistFor {
			return err
		}
		env.note(fmt.Sprintf("%s; trying again in %s", err, span(pause)))
		select {
		case <-ctx.Done():
			return interrupted(ctx)
		case <-time.After(pause):
		}
	}
}
