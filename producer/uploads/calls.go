package uploads

import (
	"context"
	"errors"

	"github.com/copyfleet/copyfleet/internal/broker"
)

var errNotYet = errors.New("not there yet")

// New opens the sessions.
func New(ctx context.Context, cfg Config, conn *broker.Conn, staging Staging, queue Queue) (*Service, error) {
	return nil, errNotYet
}

// Create makes a session, or finds the one that the same request made under its key.
func (s *Service) Create(ctx context.Context, r Request) (*Session, error) { return nil, errNotYet }

// Show returns a session. One whose batch has ended is brought to its end first.
func (s *Service) Show(ctx context.Context, name Name) (*Session, error) { return nil, errNotYet }

// List returns the sessions of a sandbox, newest first, at most limit.
func (s *Service) List(ctx context.Context, name Name, limit int) ([]*Session, error) {
	return nil, errNotYet
}

// PutPart stores a part, and returns once its state is in KV.
func (s *Service) PutPart(ctx context.Context, name Name, part Part) (*Session, error) {
	return nil, errNotYet
}

// Complete begins to publish a session whose parts are all there, or finds that it was begun; whole is the SHA-256 of all, in lowercase hex, or "". The
// session is completing, with the batch that publishes it, or has ended.
func (s *Service) Complete(ctx context.Context, name Name, whole, trace string) (*Session, error) {
	return nil, errNotYet
}

// Abort ends a session that is not published. One that is already aborted stays so.
func (s *Service) Abort(ctx context.Context, name Name) (*Session, error) { return nil, errNotYet }

// Direct stages content that comes in one request and begins to publish it: the session is completing.
func (s *Service) Direct(ctx context.Context, d Direct) (*Session, error) { return nil, errNotYet }

// Run sweeps until the context ends: sessions that expire, that have ended and left something, or that nobody brings to their end.
func (s *Service) Run(ctx context.Context) {}
