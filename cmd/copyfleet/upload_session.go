package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// uploadSession is an upload as the API tells it.
type uploadSession struct {
	ID             string                `json:"upload_id"`
	Kind           protocol.UploadKind   `json:"kind"`
	Source         protocol.UploadSource `json:"source_kind"`
	TargetPath     string                `json:"target_path"`
	Length         int64                 `json:"content_length"`
	Accepted       int64                 `json:"accepted_bytes"`
	PartSize       int64                 `json:"part_size"`
	PartCount      int                   `json:"part_count"`
	MaxConcurrency int                   `json:"max_concurrency"`
	Status         string                `json:"status"`
	Whole          string                `json:"whole_checksum_sha256"`
	Expires        time.Time             `json:"expires_at"`
	Missing        []partRange           `json:"missing_parts"`
	Metadata       json.RawMessage       `json:"metadata"`
	PublishedBytes int64                 `json:"published_bytes"`
	PublishedFiles int                   `json:"published_file_count"`
	Failure        *struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"failure"`

	raw json.RawMessage // as it came
}

// partRange is parts from First to Last, both included.
type partRange struct {
	First int `json:"first"`
	Last  int `json:"last"`
}

// The published states that are looked at.
const (
	statusCompleting = "completing"
	statusCompleted  = "completed"
	statusAborted    = "aborted"
	statusExpired    = "expired"
	statusFailed     = "failed"
)

// UnmarshalJSON implements json.Unmarshaler. It keeps the text, for --json.
func (s *uploadSession) UnmarshalJSON(data []byte) error {
	type plain uploadSession
	var p plain
	if err := json.Unmarshal(data, &p); err != nil {
		return err //nolint:wrapcheck // the caller says what it decodes
	}
	*s = uploadSession(p)
	s.raw = slices.Clone(data)
	if s.ID == "" || s.Status == "" || s.Length < 0 || s.PartCount < 0 || s.PartCount > 0 && s.PartSize <= 0 {
		return fmt.Errorf("upload %q of %d bytes in %d parts of %d bytes cannot be", s.ID, s.Length, s.PartCount, s.PartSize)
	}
	return nil
}

// MarshalJSON implements json.Marshaler.
func (s *uploadSession) MarshalJSON() ([]byte, error) { return s.raw, nil } //nolint:unparam // an interface of the standard library

// keptIn reports whether a file may be the spool of this upload.
func (s *uploadSession) keptIn(file string) bool {
	return isSpool(file) && s.Source != protocol.UploadRestartable
}

// span tells where a part stands in the content.
func (s *uploadSession) span(part int) (offset, length int64) {
	offset = int64(part) * s.PartSize
	return offset, min(s.PartSize, s.Length-offset)
}

// missing lists the parts to send; nil: none. An API that does not tell is sent everything, which does no harm.
func (s *uploadSession) missing() []partRange {
	switch {
	case s.Accepted >= s.Length || s.PartCount == 0:
		return nil
	case len(s.Missing) == 0:
		return []partRange{{0, s.PartCount - 1}}
	}
	return s.Missing
}

// ended is the error of a session that can never be completed any more.
func (s *uploadSession) ended() error {
	code, said, hint := exitFailed, "it failed", "" // a merge that failed may have replaced some files
	switch s.Status {
	case statusAborted:
		code, said = exitCanceled, "it was aborted; nothing was changed in the sandbox"
	case statusExpired:
		code, said = exitUsage, "it expired; nothing was changed in the sandbox"
	case statusFailed:
		if s.Failure != nil {
			said = s.Failure.Message + " (" + s.Failure.Code + ")"
			if s.Failure.Code == "destination_exists" {
				hint = "--conflict replace puts it in the place of what is there."
			}
		}
	default:
		return nil
	}
	return &exitError{code: code, reason: "upload_" + s.Status, hint: hint, err: fmt.Errorf("upload %s: %s", s.ID, said)}
}

// endings are the refusals after which a session cannot be gone on with.
var endings = []string{"upload_not_found", "upload_aborted", "upload_expired", "upload_failed"}
