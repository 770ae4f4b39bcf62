package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// abortTime is how long the command tries to give back what a session holds that is of no use.
const abortTime = 10 * time.Second

// uploadSummary is the last line of JSON.
type uploadSummary struct {
	Session *uploadSession `json:"session"`
	Bytes   int64          `json:"published_bytes"`
	Files   int            `json:"published_file_count"`
	Sent    int64          `json:"sent_bytes"` // by this run
}

// finished tells the result, and lets go of the source.
func (r *uploadRun) finished() error {
	if r.source != nil {
		if err := r.source.close(false); err != nil {
			r.env.note(err.Error())
		}
	}
	s := r.session
	if r.env.json {
		return printJSON(r.env, &uploadSummary{s, s.PublishedBytes, s.PublishedFiles, r.sent})
	}
	text := fmt.Sprintf("%s completed: %s, %s", clean(s.ID), clean(r.sandbox+":"+s.TargetPath), size(s.PublishedBytes))
	if s.Kind == protocol.UploadTree {
		text += " in " + several(s.PublishedFiles, "file", "files")
	}
	if r.Resume != "" {
		text += "; " + size(r.sent) + " sent now"
	}
	return printf(r.env, "%s\n", text)
}

// unfinished tells how to go on, and what is kept for that.
func (r *uploadRun) unfinished(ctx context.Context, err error) error {
	if r.source == nil { // nothing was begun by this run
		if stoppedByHand(err) {
			return stoppedWith("stopped before anything was sent")
		}
		return err
	}
	live := r.session != nil && !r.dead(err)
	if errors.Is(err, errSourceChanged) && r.session != nil {
		r.abort(ctx)
		err = hinted(err, "Nothing was changed in the sandbox. Upload it again once nobody writes to it.")
	}
	stream := r.source.from == protocol.UploadSpooled
	keep := live || stream
	path := r.source.path
	if closed := r.source.close(keep); closed != nil {
		r.env.note(closed.Error())
	}
	e, ok := errors.AsType[*exitError](err)
	again := ok && (e.code == exitTemporary || e.code == exitCanceled)
	switch {
	case live:
		return r.resumable(err)
	case stream:
		r.env.note(fmt.Sprintf("what was read, %s, is kept in %s; remove it when it is of no use", size(r.source.size), path))
	}
	if again && r.session == nil {
		return hinted(err, r.command())
	}
	return err
}

// resumable adds the command that goes on to an error.
func (r *uploadRun) resumable(err error) error {
	if stoppedByHand(err) {
		err = stoppedWith("stopped; upload %s can be resumed until %s", r.session.ID, localTime(r.session.Expires))
	} else if _, ok := errors.AsType[*exitError](err); !ok {
		err = &exitError{code: exitFatal, err: err}
	}
	return hinted(err, r.command())
}

// stoppedByHand reports whether a signal ended the command.
func stoppedByHand(err error) bool {
	e, ok := errors.AsType[*exitError](err)
	return ok && e.code == exitCanceled && e.reason == "interrupted"
}

func stoppedWith(format string, args ...any) error {
	return &exitError{code: exitCanceled, reason: "interrupted", err: fmt.Errorf(format, args...)}
}

// dead reports whether an error leaves nothing to go on with.
func (r *uploadRun) dead(err error) bool {
	p := refused(err)
	e, _ := errors.AsType[*exitError](err)
	return errors.Is(err, errSourceChanged) || r.session.ended() != nil || e != nil && e.reason == misfits || p != nil && slices.Contains(endings, p.Code)
}

// abort ends the session, so that it holds no quota until it expires. That it does not work is no matter: it expires.
func (r *uploadRun) abort(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTime)
	defer cancel()
	if _, err := r.api.call(ctx, http.MethodDelete, r.uploads(r.session.ID), nil, nil, nil); err != nil {
		r.env.note(fmt.Sprintf("upload %s could not be aborted, and expires by itself: %s", r.session.ID, err))
	}
}
