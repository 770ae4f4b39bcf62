package uploads

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/protocol"
)

// Create makes a session, or finds the one that the same request made under its key. A call that ended half-way is gone on with.
func (s *Service) Create(ctx context.Context, r Request) (*Session, error) {
	fresh, err := s.fresh(&r, false)
	if err != nil {
		return nil, err
	}
	rec, err := s.reserve(ctx, fresh)
	if err != nil {
		return nil, err
	}
	if err := sameRequest(&rec.Upload, fresh); err != nil {
		return nil, err
	}
	if rec, err = s.begin(ctx, rec); err != nil {
		return nil, err
	}
	return s.view(ctx, rec)
}

// reserve finds the session of that id, or makes this one, with its share of the quota.
func (s *Service) reserve(ctx context.Context, u *protocol.Upload) (*record, error) {
	name, freed := Name{Org: u.Org, Sandbox: u.Sandbox, ID: u.ID}, false
	for try := range mostRaces {
		if err := pause(ctx, try); err != nil {
			return nil, err
		}
		rec, err := s.read(ctx, name)
		if !refused(err, RefusedNotFound) {
			return rec, err
		}
		if err := s.refuseTooLarge(u.Length); err != nil {
			return nil, err
		}
		rec, err = s.storeShare(ctx, nil, u)
		switch {
		case err == nil:
			failpoint.Hit(failpoint.SessionReserved)
			s.cfg.Metrics.UploadSession(ctx, string(StatusCreated))
			return rec, nil
		case errors.Is(err, broker.ErrConflict): // another call with this key, or another session of the sandbox
		case !freed && (refused(err, RefusedQuota) || refused(err, RefusedSessions)):
			freed = true
			if some, endErr := s.endExpired(ctx, u.Org, u.Sandbox); endErr != nil || !some {
				return nil, errors.Join(endErr, err)
			}
		default:
			return nil, err
		}
	}
	return nil, fmt.Errorf("create the session %s: %w", u.ID, errRaces)
}

// refuseTooLarge refuses what could never be taken.
func (s *Service) refuseTooLarge(length int64) error {
	if length <= s.cfg.Largest {
		return nil
	}
	return &Refusal{Code: RefusedTooLarge, Message: fmt.Sprintf("The upload has %d bytes; at most %d are allowed.", length, s.cfg.Largest)}
}

func sameRequest(was, u *protocol.Upload) error {
	if was.Request == u.Request {
		return nil
	}
	return &Refusal{Code: RefusedKeyReused, Message: "The idempotency key was used for another upload request to this sandbox."}
}

func refused(err error, code string) bool {
	r, ok := errors.AsType[*Refusal](err)
	return ok && r.Code == code
}

// fresh is the session that a request asks for.
func (s *Service) fresh(r *Request, direct bool) (*protocol.Upload, error) {
	id := protocol.KeyedUploadID(r.Org, r.Sandbox, r.Key)
	request, err := fingerprint(r, direct)
	if err != nil {
		return nil, err
	}
	now := s.now()
	u := &protocol.Upload{
		Version: protocol.UploadVersion, ID: id, Org: r.Org, Sandbox: r.Sandbox, Pool: r.Pool, Request: request,
		Kind: r.Kind, Source: r.Source, TargetPath: r.TargetPath, Length: r.Length, Conflict: r.Conflict, User: r.User, Archive: r.Archive,
		Whole: r.Whole, Metadata: r.Metadata, Direct: direct, Bucket: s.staging.Bucket(), Key: freshKey(r.Org, r.Sandbox, id),
		State: protocol.UploadCreating, Created: now, Updated: now, Expires: now.Add(s.cfg.Expiry),
	}
	u.PartSize = partSize(r.Length, s.smallest)
	if direct {
		u.Key += directTry
		u.Expires = now.Add(min(s.cfg.Expiry, directExpiry))
	} else {
		u.PartCount = int((r.Length + u.PartSize - 1) / u.PartSize)
	}
	return u, nil
}

// freshKey is where a session is staged. No two sessions have the same one, not even two of one id at different times: what is removed
// late is never that of another.
func freshKey(org protocol.OrgID, sandbox protocol.SandboxID, id protocol.UploadID) string {
	return string(org) + "/" + string(sandbox) + "/" + string(id) + "-" + strings.ToLower(rand.Text())
}

// fingerprint is the same for requests that ask for the same.
func fingerprint(r *Request, direct bool) (string, error) {
	asked := struct {
		Kind       protocol.UploadKind     `json:"kind"`
		Source     protocol.UploadSource   `json:"source"`
		TargetPath string                  `json:"target"`
		Length     int64                   `json:"length"`
		Conflict   protocol.UploadConflict `json:"conflict"`
		User       string                  `json:"user"`
		Archive    string                  `json:"archive"`
		Whole      string                  `json:"whole"`
		Metadata   []byte                  `json:"metadata"`
		Direct     bool                    `json:"direct"`
	}{r.Kind, r.Source, r.TargetPath, r.Length, r.Conflict, r.User, r.Archive, r.Whole, r.Metadata, direct}
	data, err := json.Marshal(asked)
	if err != nil {
		return "", fmt.Errorf("encode an upload request: %w", err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

const mebibyte = 1 << 20

// partSize is that of a session of so many bytes: the smallest, or what makes [MostParts] parts, up to a whole MiB.
func partSize(length, smallest int64) int64 {
	each := (length + MostParts - 1) / MostParts
	if each <= smallest {
		return smallest
	}
	return (each + mebibyte - 1) / mebibyte * mebibyte
}

// begin makes what parts are written to, unless that was done. Of several that do so at once one wins, and the others remove what they made.
func (s *Service) begin(ctx context.Context, rec *record) (*record, error) {
	if rec.State != protocol.UploadCreating || rec.Direct || s.over(&rec.Upload) {
		return rec, nil
	}
	if err := s.elsewhere(&rec.Upload); err != nil {
		return nil, err
	}
	release, err := s.turns.take(ctx, rec.Key)
	if err != nil {
		return nil, err
	}
	defer release()
	if rec, err = s.read(ctx, rec.name()); err != nil || rec.State != protocol.UploadCreating { // whose turn it was before has done it
		return rec, err
	}
	multipart := ""
	if rec.Length == 0 {
		_, err = s.staging.PutWhole(ctx, rec.Key, 0, strings.NewReader(""))
	} else {
		multipart, err = s.staging.Begin(ctx, rec.Key, rec.Length, rec.PartSize)
	}
	if err != nil {
		return nil, fmt.Errorf("begin to stage %s: %w", rec.ID, err)
	}
	failpoint.Hit(failpoint.SessionBegun)
	after, err := s.change(ctx, rec.name(), func(u *protocol.Upload) (bool, error) {
		if u.State != protocol.UploadCreating || u.Key != rec.Key {
			return false, nil
		}
		u.State, u.Multipart = protocol.UploadOpen, multipart
		return true, nil
	})
	if err != nil { // it may have been stored all the same: what was begun is left to the end of the session
		return nil, err
	}
	// Another call may have begun it first, or it was ended, and may have been swept.
	if after.State.Final() {
		s.discard(ctx, rec, multipart, true)
	} else if after.Multipart != multipart {
		s.discard(ctx, rec, multipart, false)
	}
	return after, nil
}

// discard removes what this call has staged, and no session has. What cannot be removed now is removed when the session is forgotten.
func (s *Service) discard(ctx context.Context, rec *record, multipart string, all bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveUpLimit)
	defer cancel()
	if err := s.staging.Clean(ctx, rec.Key, multipart, all); err != nil {
		s.log.Warn("cannot remove what lost a race", "upload", rec.ID, "error", err)
	}
}
