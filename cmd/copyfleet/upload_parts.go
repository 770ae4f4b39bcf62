package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sourcegraph/conc/pool"
)

const (
	// silence is how long a part may make no progress at all on its way.
	silence = time.Minute
	// mostRounds is how often the API is asked again what is missing: it names a thousand gaps at once, and parts that its store lost later.
	mostRounds = 20
	// mostSpoiled is how often a part is sent again that arrived as another.
	mostSpoiled = 5
)

// transfer sends what is missing and has the whole published, until it is.
func (r *uploadRun) transfer(ctx context.Context) error {
	p := newPatience(awayLimit, r.shown.note)
	p.once = true
	for range mostRounds {
		if r.session.Status != statusCompleting && r.session.Status != statusCompleted {
			if err := r.sendMissing(ctx, p); err != nil {
				return err
			}
		}
		if err := r.source.unchanged(); err != nil {
			return err
		}
		if again, err := r.publish(ctx, p); err != nil || !again {
			return err
		}
	}
	return exitWith(exitTemporary, "upload %s: parts that were sent are missing again and again", r.session.ID)
}

// sendMissing sends parts until the API says that it has all.
func (r *uploadRun) sendMissing(ctx context.Context, p *patience) error {
	for range mostRounds {
		gaps := r.session.missing()
		if gaps == nil {
			return nil
		}
		r.shown.phase("sending", r.session.Accepted, r.session.Length)
		if err := r.sendParts(ctx, p, gaps); err != nil {
			return err
		}
		if err := r.refresh(ctx, p); err != nil || r.session.Status == statusCompleting || r.session.Status == statusCompleted {
			return err
		}
	}
	return exitWith(exitTemporary, "upload %s: parts that were accepted are missing again and again", r.session.ID)
}

// refresh asks for the session.
func (r *uploadRun) refresh(ctx context.Context, p *patience) error {
	for n := 1; ; n++ {
		s := &uploadSession{}
		err := r.api.get(ctx, r.uploads(r.session.ID), nil, s)
		if err == nil {
			p.moved()
			r.session = s
			return s.ended()
		}
		if err := p.pause(ctx, n, err); err != nil {
			return err
		}
	}
}

// sendParts sends some parts, several at once.
func (r *uploadRun) sendParts(ctx context.Context, p *patience, gaps []partRange) error {
	atOnce := r.Concurrency
	if most := r.session.MaxConcurrency; most > 0 && atOnce > most {
		r.shown.note(fmt.Sprintf("the API takes %d parts at once; so many are sent", most))
		atOnce, r.Concurrency = most, most
	}
	var mu sync.Mutex
	group := pool.New().WithMaxGoroutines(atOnce).WithContext(ctx).WithCancelOnError().WithFirstError()
	stop, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, gap := range gaps {
		for n := gap.First; n <= min(gap.Last, r.session.PartCount-1) && stop.Err() == nil; n++ {
			group.Go(func(ctx context.Context) error {
				err := r.sendPart(ctx, p, n)
				if err != nil {
					cancel() // no more are begun
					return err
				}
				mu.Lock()
				defer mu.Unlock()
				_, length := r.session.span(n)
				r.sent += length
				return nil
			})
		}
	}
	err := group.Wait()
	switch {
	case ctx.Err() != nil:
		return interrupted(ctx)
	case errors.Is(err, errSentElsewhere):
		return nil
	}
	return err //nolint:wrapcheck // one of ours
}

// errSentElsewhere tells that somebody else completes the same session.
var errSentElsewhere = errors.New("the upload is being completed already")

// sendPart sends a part until it is accepted.
func (r *uploadRun) sendPart(ctx context.Context, p *patience, n int) error {
	spoiled := 0
	for try := 1; ; try++ {
		err := r.putPart(ctx, n)
		if err == nil {
			p.moved()
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
		if refusal := refused(err); refusal != nil {
			switch refusal.Code {
			case "upload_completing", "upload_completed":
				return errSentElsewhere
			case "part_checksum_mismatch": // spoiled on its way, or the source is not what it was
				if changed := r.source.unchanged(); changed != nil {
					return changed
				}
				if spoiled++; spoiled >= mostSpoiled {
					return err
				}
				err = exitWith(exitTemporary, "part %d: %w", n, err)
			case "body_incomplete":
				err = exitWith(exitTemporary, "part %d: %w", n, err)
			}
		}
		if err := p.pause(ctx, try, err); err != nil {
			return err
		}
	}
}

// putPart sends a part once.
func (r *uploadRun) putPart(ctx context.Context, n int) error {
	offset, length := r.session.span(n)
	sum := sha256.New()
	read, err := io.Copy(sum, io.NewSectionReader(r.source.file, offset, length))
	switch {
	case err != nil:
		return exitWith(exitFailed, "the source: %w", err)
	case read != length:
		return sourceChanged(r.source.path)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(silence, func() { cancel(errSilence) })
	defer watchdog.Stop()
	counter, done := r.shown.try()
	body := &partBody{in: io.NewSectionReader(r.source.file, offset, length), left: length, moved: func(n int, last bool) {
		counter.Add(int64(n))
		if last {
			watchdog.Reset(answerTime) // for what the API has to do with it
		} else {
			watchdog.Reset(silence)
		}
	}}
	err = r.answered(ctx, n, body, hexOf(sum))
	done(err == nil, length)
	if failed := body.failed.Load(); err != nil && failed != nil {
		return exitWith(exitFailed, "the source: %w", *failed)
	}
	if err != nil && errors.Is(context.Cause(ctx), errSilence) {
		return exitWith(exitTemporary, "part %d: %w", n, errSilence)
	}
	return err
}

// errSilence is the cause of the end of a part that went no further.
var errSilence = fmt.Errorf("nothing moved for %s", silence)

// answered sends a part and reads the answer.
func (r *uploadRun) answered(ctx context.Context, n int, body *partBody, sum string) error {
	header := http.Header{"X-Checksum-Sha256": {sum}, "Content-Type": {"application/octet-stream"}, "Expect": {"100-continue"}}
	path := r.uploads(r.session.ID, "parts", strconv.Itoa(n))
	var in io.Reader
	length := body.left
	if length > 0 {
		in = body
	}
	resp, err := r.api.send(ctx, http.MethodPut, path, header, in, length)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // read to its end below
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return exitWith(exitTemporary, "part %d: the answer broke off: %w", n, err)
	}
	s := &uploadSession{}
	if err := json.Unmarshal(text, s); err != nil {
		return notPromised(err)
	}
	return nil
}

// partBody is a part on its way.
type partBody struct {
	in     io.Reader
	left   int64
	moved  func(n int, last bool)
	failed atomic.Pointer[error] // why the source could not be read
}

// Read implements io.Reader.
func (b *partBody) Read(p []byte) (int, error) {
	n, err := b.in.Read(p)
	b.left -= int64(n)
	b.moved(n, b.left == 0)
	if errors.Is(err, io.EOF) && b.left > 0 {
		err = errSourceChanged
	}
	if err != nil && !errors.Is(err, io.EOF) {
		b.failed.Store(&err)
	}
	return n, err //nolint:wrapcheck // an io.Reader
}
