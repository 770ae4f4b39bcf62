package uploads

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

const (
	directExpiry = 2 * time.Hour // for the content of a direct upload to come
	directTries  = 100           // of one token
	directSame   = 2             // requests with one token at once in a process: one that sends, one that waits for its turn
	giveUpLimit  = 20 * time.Second
)

// Direct stages content that comes in one request and begins to publish it: the session is completing. Under a key whose content came before,
// the session is as it is, and nothing of the body is read. Content that did not come as announced leaves the key free to be used again.
func (s *Service) Direct(ctx context.Context, d Direct) (*Session, error) {
	if err := s.refuseTooLarge(d.Length); err != nil {
		return nil, err
	}
	rec, err := s.direct(ctx, &d)
	if err != nil {
		return nil, err
	}
	if rec, err = s.settle(ctx, rec); err != nil {
		return nil, err
	}
	// One whose publication is to be asked for again is asked for.
	rec, err = s.change(ctx, rec.name(), func(u *protocol.Upload) (bool, error) { return s.startCompleting(ctx, u, "") })
	if err != nil {
		return nil, err
	}
	if rec.State == protocol.UploadCompleting {
		if err := s.submitUnlessThere(ctx, rec, d.Trace); err != nil {
			return nil, err
		}
	}
	return s.view(ctx, rec)
}

// direct returns the session of a direct upload when its content is there, or when it has ended.
func (s *Service) direct(ctx context.Context, d *Direct) (*record, error) {
	fresh, err := s.fresh(&d.Request, true)
	if err != nil {
		return nil, err
	}
	// Two requests of one process with the same token do not waste each other's bytes. More of them would only keep others out.
	leave, ok := s.parts.take("direct "+string(fresh.ID), directSame)
	if !ok {
		return nil, &Refusal{Code: RefusedBusy, Retry: time.Second, Message: "The same upload is being sent by other requests."}
	}
	defer leave()
	release, err := s.turns.take(ctx, "direct "+string(fresh.ID))
	if err != nil {
		return nil, err
	}
	defer release()
	rec, err := s.reserve(ctx, fresh)
	if err != nil {
		return nil, err
	}
	if rec, err = s.tryDirect(ctx, rec.name(), fresh); err != nil || rec.State != protocol.UploadCreating {
		return rec, err
	}
	size, digest, err := s.stageDirect(ctx, rec, d)
	if err != nil {
		s.giveUp(ctx, rec)
		return nil, err
	}
	ctx = context.WithoutCancel(ctx) // the content is there: that its sender is gone is no reason to forget it
	after, err := s.change(ctx, rec.name(), func(u *protocol.Upload) (bool, error) {
		if u.State != protocol.UploadCreating || u.Key != rec.Key {
			return false, nil
		}
		u.State, u.Length, u.Whole = protocol.UploadOpen, size, digest // what is published is what came
		return s.startCompleting(ctx, u, "")
	})
	if err != nil {
		return nil, err
	}
	if after.Key == rec.Key && !after.State.Final() {
		return after, nil
	}
	// Another front has taken the session over with the same token, or it was ended, and may have been swept. What was staged here is nobody's.
	s.discard(ctx, rec, "", true)
	if after.State == protocol.UploadCreating {
		return nil, &Refusal{Code: RefusedBusy, Retry: time.Second, Message: "The same upload is being sent by another request."}
	}
	return after, nil
}

// tryDirect takes a session over whose content is to come, under a key of this try alone: what another try still writes is never read. One that
// was given up, or whose time is over, begins again.
func (s *Service) tryDirect(ctx context.Context, name Name, fresh *protocol.Upload) (*record, error) {
	take := func(u *protocol.Upload) (bool, error) {
		again := u.State == protocol.UploadAborted || u.State == protocol.UploadExpired || s.over(u)
		if !again {
			if err := sameContent(u, fresh); err != nil || u.State != protocol.UploadCreating {
				return false, err
			}
		}
		if u.Generation >= directTries {
			return false, &Refusal{Code: RefusedBusy, Message: fmt.Sprintf("This upload was tried %d times.", u.Generation)}
		}
		key, generation := directStem(u), u.Generation+1
		if again {
			*u = *fresh
		}
		u.Generation, u.Key, u.Bucket = generation, key+strconv.Itoa(generation), fresh.Bucket
		return true, nil
	}
	rec, err := s.change(ctx, name, take)
	if refused(err, RefusedQuota) || refused(err, RefusedSessions) {
		if some, endErr := s.endExpired(ctx, name.Org, name.Sandbox); endErr != nil || !some {
			return nil, errors.Join(endErr, err)
		}
		rec, err = s.change(ctx, name, take)
	}
	return rec, err
}

// sameContent fails where a URL is sent something else than before. Its sender knows of no key.
func sameContent(was, u *protocol.Upload) error {
	if was.Request == u.Request {
		return nil
	}
	return &Refusal{Code: RefusedKeyReused, Message: "Content of another length came to this URL before, or once as a form and once not; it takes one content."}
}

// directTry stands between the key of a direct session and the number of the try that stages there.
const directTry = "~"

func directStem(u *protocol.Upload) string {
	return u.Key[:strings.LastIndex(u.Key, directTry)+len(directTry)]
}

// stagedKeys are all places where a session may have staged something.
func stagedKeys(u *protocol.Upload) []string {
	if !u.Direct {
		return []string{u.Key}
	}
	keys := make([]string, 0, u.Generation)
	for try := range u.Generation {
		keys = append(keys, directStem(u)+strconv.Itoa(try+1))
	}
	return keys
}

// stageDirect stages the content, if it is what was announced, and returns its length and its SHA-256 in lowercase hex.
func (s *Service) stageDirect(ctx context.Context, rec *record, d *Direct) (bytes int64, digest string, err error) {
	late := &Refusal{Code: RefusedExpired, Message: "The content did not come within " + directExpiry.String() + "."}
	ctx, cancel := context.WithTimeoutCause(ctx, rec.Expires.Sub(s.now()), late)
	defer cancel()
	size := int64(-1)
	var body interface {
		io.Reader
		verdict() error
		digest() string
	} = newLimited(d.Body, d.Length)
	if d.Exact {
		exact := newHeld(d.Body, d.Length, d.Whole)
		defer exact.close()
		size, body = d.Length, exact
	}
	stored, err := s.staging.PutWhole(ctx, rec.Key, size, body)
	if err == nil {
		_, err = io.Copy(io.Discard, body) // what has no bytes need not be read
	}
	if wrong := body.verdict(); wrong != nil {
		return 0, "", wrong
	}
	if err != nil {
		return 0, "", fmt.Errorf("stage the content of %s: %w", rec.ID, err)
	}
	if d.Exact && stored != d.Length {
		return 0, "", fmt.Errorf("stage the content of %s: the staging storage took %d of %d bytes", rec.ID, stored, d.Length)
	}
	if digest = body.digest(); digest == "" {
		return 0, "", fmt.Errorf("stage the content of %s: the staging storage did not read it to its end", rec.ID)
	}
	return stored, digest, nil
}

// giveUp ends a session whose content did not come, so that its share of the quota is free at once. Its sender may be gone.
func (s *Service) giveUp(ctx context.Context, rec *record) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveUpLimit)
	defer cancel()
	_, err := s.change(ctx, rec.name(), func(u *protocol.Upload) (bool, error) {
		if u.State != protocol.UploadCreating || u.Key != rec.Key {
			return false, nil
		}
		return true, s.end(ctx, u, protocol.UploadAborted)
	})
	if err != nil {
		s.log.Warn("cannot give up a direct upload, which will expire", "upload", rec.ID, "error", err)
	}
}
