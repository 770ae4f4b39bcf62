package triggers

import (
	"context"
	"errors"
	"fmt"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// Kind is the form of a notification, as its subject says it.
type Kind = protocol.EventKind

// Accept stores a notification. It is durable when Accept returns; [ErrEventFull] if there is no room in the stream, and what [Config.Room] says if there
// is none on the disk. attributes are the headers of a CloudEvent; it was parsed by the caller, so that what is malformed is told to its sender.
func (s *Service) Accept(ctx context.Context, org protocol.OrgID, kind Kind, attributes map[string]string, body []byte) error {
	if err := s.cfg.Room(); err != nil {
		return err
	}
	_, err := s.conn.PublishEvent(ctx, org, kind, attributes, body)
	if errors.Is(err, broker.ErrFull) {
		return fmt.Errorf("%w: %w", ErrEventFull, err)
	}
	return err
}
