package uploads

import (
	"context"

	"github.com/copyfleet/copyfleet/protocol"
)

// Direct stages content that comes in one request and begins to publish it: the session is completing.
func (s *Service) Direct(ctx context.Context, d Direct) (*Session, error) {
	return nil, &Refusal{Code: RefusedBusy, Message: "not yet"}
}

// stagedKeys are all places where a session may have staged something.
func stagedKeys(u *protocol.Upload) []string { return []string{u.Key} }
