package broker

import (
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Errors that callers act upon.
var (
	ErrNotFound    = errors.New("no such record")
	ErrExists      = errors.New("the record exists already")
	ErrConflict    = errors.New("the record changed meanwhile")
	ErrCommitted   = errors.New("the chunk is in the queue already")
	ErrFull        = errors.New("the queue is full")
	ErrUnavailable = errors.New("the message broker does not answer")
	ErrURL         = errors.New("its address is no URL: in a name or a password, signs other than letters and digits are escaped, as / is by %2F")
	ErrNoSpace     = errors.New("the disk is nearly full")
	ErrTooLarge    = errors.New("the message is larger than the broker takes")
	ErrRewound     = errors.New("the stream ends before what was read of it: it was made anew, or restored")
)

// JetStream API error codes that nats.go does not name. Source: nats-server, server/errors.json.
const (
	codeWrongLastSequence         jetstream.ErrorCode = 10071
	codeWrongLastSequenceConstant jetstream.ErrorCode = 10164
	codeStoreFailed               jetstream.ErrorCode = 10077
	codeInsufficientResources     jetstream.ErrorCode = 10023
	codeStorageExceeded           jetstream.ErrorCode = 10047
	codeMessageTooLarge           jetstream.ErrorCode = 10054
	codeHeaderTooLarge            jetstream.ErrorCode = 10097
	codeTooManyRequests           jetstream.ErrorCode = 10167
	codeTooManyOpenBatches        jetstream.ErrorCode = 10210
	codeStreamOffline             jetstream.ErrorCode = 10118
	codeMessageNotFound           jetstream.ErrorCode = 10037
)

// classify joins one of the errors above to an error of the client, where one fits.
func classify(err error) error {
	if err == nil {
		return nil
	}
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		if kind := kindOf(api); kind != nil {
			return fmt.Errorf("%w: %w", kind, err)
		}
		return err
	}
	switch {
	case errors.Is(err, nats.ErrMaxPayload):
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, nats.ErrTimeout), errors.Is(err, nats.ErrConnectionClosed),
		errors.Is(err, nats.ErrDisconnected), errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, jetstream.ErrNoStreamResponse):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

func kindOf(api *jetstream.APIError) error {
	switch api.ErrorCode {
	case codeMessageNotFound:
		return ErrNotFound
	case codeWrongLastSequence, codeWrongLastSequenceConstant:
		return ErrConflict
	case codeInsufficientResources, codeStorageExceeded, codeTooManyRequests, codeTooManyOpenBatches, codeStreamOffline:
		return ErrUnavailable
	case codeMessageTooLarge, codeHeaderTooLarge:
		return ErrTooLarge
	case codeStoreFailed:
		if storeFull(api.Description) {
			return ErrFull
		}
		return ErrUnavailable
	}
	return nil
}

// storeFull tells a stream at its limit from a store that failed. Code 10077 covers both and only the text
// differs: "maximum messages exceeded", "maximum bytes exceeded", "maximum messages per subject exceeded"
// (nats-server, server/store.go).
func storeFull(description string) bool {
	return strings.Contains(description, "maximum ")
}
