package producer

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/copyfleet/copyfleet/producer/uploads"
	"github.com/copyfleet/copyfleet/protocol"
)

// maxMissingShown bounds the ranges of missing parts in an answer.
const maxMissingShown = 1000

// checksumAlgorithm is the one that uploads have.
const checksumAlgorithm = "sha256"

// sessionView is an upload session as the published API has it, and what we add: metadata, missing_parts, and how it ended.
type sessionView struct {
	ID          protocol.UploadID       `json:"upload_id"`
	Kind        protocol.UploadKind     `json:"kind"`
	Source      protocol.UploadSource   `json:"source_kind"`
	TargetPath  string                  `json:"target_path"`
	Length      int64                   `json:"content_length"`
	Accepted    int64                   `json:"accepted_bytes"`
	Reserved    int64                   `json:"reserved_staging_bytes"`
	PartSize    int64                   `json:"part_size"`
	PartCount   int                     `json:"part_count"`
	Concurrency int                     `json:"max_concurrency"`
	Status      uploads.Status          `json:"status"`
	Conflict    protocol.UploadConflict `json:"conflict"`
	Algorithm   string                  `json:"checksum_algorithm"`
	Limits      uploads.Limits          `json:"limits"`
	CreatedAt   time.Time               `json:"created_at"`
	UpdatedAt   time.Time               `json:"updated_at"`
	ExpiresAt   time.Time               `json:"expires_at"`
	User        string                  `json:"user,omitempty"`
	NextPart    int                     `json:"next_part"`
	Archive     string                  `json:"archive_format,omitempty"`
	Whole       string                  `json:"whole_checksum_sha256,omitempty"`
	Metadata    json.RawMessage         `json:"metadata,omitempty"` // where it comes back: [verbatimHere]

	Missing    []uploads.Range   `json:"missing_parts"`
	MissingCut bool              `json:"missing_parts_truncated,omitempty"` // there are more ranges than are shown
	Batch      protocol.BatchID  `json:"batch_id,omitempty"`                // that publishes it, or did
	EndedAt    *time.Time        `json:"ended_at,omitempty"`
	Bytes      *int64            `json:"published_bytes,omitempty"`
	Files      *int              `json:"published_file_count,omitempty"`
	Failure    *protocol.Failure `json:"failure,omitempty"` // why it failed, or why complete has to be called again
}

func viewOfSession(s *uploads.Session) sessionView {
	v := sessionView{
		ID: s.ID, Kind: s.Kind, Source: s.Source, TargetPath: s.TargetPath, Length: s.Length, Accepted: s.Accepted, Reserved: s.Reserved,
		PartSize: s.PartSize, PartCount: s.PartCount, Concurrency: s.Limits.Concurrent, Status: s.Status, Conflict: s.Conflict,
		Algorithm: checksumAlgorithm, Limits: s.Limits, CreatedAt: s.Created.UTC(), UpdatedAt: s.Changed.UTC(), ExpiresAt: s.Expires.UTC(),
		User: s.User, NextPart: s.Next, Archive: s.Archive, Whole: s.Whole,
		Batch: s.Batch, EndedAt: known(s.Ended), Failure: s.Failure,
	}
	if len(s.Metadata) > 0 {
		v.Metadata = verbatimHere
	}
	v.Missing, v.MissingCut = shownRanges(s.Missing)
	if s.Status == uploads.StatusCompleted {
		v.Bytes, v.Files = &s.PublishedBytes, &s.PublishedFiles
	}
	return v
}

// verbatimHere stands in an encoded answer where the metadata of a session come: an encoder would write them in its own way. Nobody else knows it.
var verbatimHere = json.RawMessage(`"` + rand.Text() + `"`)

// writeSessions answers with what has views of sessions, in this order, whose metadata come back byte for byte.
func writeSessions(w http.ResponseWriter, status int, v any, sessions ...*uploads.Session) {
	rest := encodeBody(v)
	body := make([]byte, 0, len(rest))
	for _, s := range sessions {
		if len(s.Metadata) == 0 {
			continue
		}
		before, after, _ := bytes.Cut(rest, verbatimHere)
		body, rest = append(append(body, before...), s.Metadata...), after
	}
	writeEncoded(w, status, "application/json", append(body, rest...))
}

// shownRanges is what of a list of ranges stands in an answer, which is never null.
func shownRanges(all []uploads.Range) (shown []uploads.Range, truncated bool) {
	if len(all) > maxMissingShown {
		return all[:maxMissingShown], true
	}
	if all == nil {
		all = []uploads.Range{}
	}
	return all, false
}

// sessionAnswer holds a session where the published API wraps it.
type sessionAnswer struct {
	Session sessionView `json:"session"`
}

// completedAnswer is what completing a session came to.
type completedAnswer struct {
	sessionAnswer

	Bytes int64 `json:"published_bytes"`
	Files int   `json:"published_file_count"`
}

// sessionList is a list of sessions.
type sessionList struct {
	Sessions []sessionView `json:"sessions"`
}

// refusalCodes are the codes of the refusals of sessions. Those of the API have the same names, but are declared with their status.
var refusalCodes = map[string]Code{
	uploads.RefusedNotFound:   CodeUploadNotFound,
	uploads.RefusedKeyReused:  CodeIdempotencyConflict,
	uploads.RefusedTooLarge:   CodeUploadTooLarge,
	uploads.RefusedQuota:      CodeStagingQuota,
	uploads.RefusedSessions:   CodeTooManyUploads,
	uploads.RefusedPart:       CodePartOutOfRange,
	uploads.RefusedLength:     CodePartLength,
	uploads.RefusedChecksum:   CodePartChecksum,
	uploads.RefusedBusy:       CodeTooManyParts,
	uploads.RefusedMissing:    CodePartsMissing,
	uploads.RefusedWhole:      CodeWholeChecksum,
	uploads.RefusedCompleting: CodeUploadCompleting,
	uploads.RefusedCompleted:  CodeUploadCompleted,
	uploads.RefusedAborted:    CodeUploadAborted,
	uploads.RefusedExpired:    CodeUploadExpired,
	uploads.RefusedFailed:     CodeUploadFailed,
}

// refuseUpload answers for an error of the sessions.
func (s *Server) refuseUpload(w http.ResponseWriter, r *http.Request, err error) {
	if p, ok := asProblem(err); ok {
		writeProblem(w, r, *p)
		return
	}
	if no, ok := errors.AsType[*uploads.Refusal](err); ok {
		writeProblem(w, r, refusalProblem(no))
		return
	}
	switch {
	case errors.Is(err, uploads.ErrStagingIsFull):
		s.fault(r, "the staging storage is full", err)
		p := newProblem(CodeNoSpace, "The storage in which uploads are staged is full. Try again later.")
		p.retryAfter = noSpaceRetry
		writeProblem(w, r, p)
	case errors.Is(err, uploads.ErrStagingAway), errors.Is(err, uploads.ErrStagingRefuses), errors.Is(err, uploads.ErrStagedGone):
		s.fault(r, "the staging storage failed", err)
		writeProblem(w, r, newProblem(CodeStorageUnavailable, "The storage in which uploads are staged does not do what it should. Repeat the request."))
	case errors.Is(err, context.Canceled) && r.Context().Err() != nil:
		// The caller is gone; there is nobody to be told.
		writeProblem(w, r, newProblem(CodeUnavailable, "The call was given up."))
	default:
		s.refuse(w, r, err)
	}
}

func refusalProblem(no *uploads.Refusal) Problem {
	code, ok := refusalCodes[no.Code]
	if !ok {
		code = CodeInternal
	}
	p := newProblem(code, no.Message)
	if len(no.Missing) > 0 {
		p.Missing, p.MissingCut = shownRanges(no.Missing)
	}
	p.retryAfter = int((no.Retry + time.Second - 1) / time.Second)
	return p
}
