// Package memory is a driver whose bytes stay in the process. It is for tests: of the conformance suite itself, and of
// code that joins a source to a destination and must see each of them fail.
//
// Without faults it keeps what package storage guarantees, except that its memory grows with the content. Faults
// are fields; set them before the first use. A [Source] or [Destination] may be used by several goroutines.
package memory

import (
	"context"

	"github.com/copyfleet/copyfleet/storage"
)

// stopped is the error for a context that ended.
func stopped(ctx context.Context, op string) error {
	if ctx.Err() == nil {
		return nil
	}
	return &storage.Error{
		Class: storage.Interrupted, Code: "interrupted", Op: op, Subject: subject,
		Message: "it was stopped before its end", Err: context.Cause(ctx),
	}
}

// subject is what errors of this package are about.
const subject = "memory"
