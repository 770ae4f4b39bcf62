package worker

import (
	"math/rand/v2"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
)

// verdict is what becomes of an item after an attempt.
type verdict int

const (
	done verdict = iota
	retry
	giveUp
)

const (
	backoffBase   = 250 * time.Millisecond
	backoffCap    = 30 * time.Second
	maxRetryAfter = 5 * time.Minute

	// maxCrashes is how many workers an item may take down. The last try, from soloCrashes on, runs alone, so that the
	// others that happened to run beside a poison item are not charged for it; nor are those that wait for their turn.
	maxCrashes  = 3
	soloCrashes = 2
)

// Codes of content that is not what the store or the source says it is. Either of them may be wrong, for good, or a byte on the way was: a
// retry tells. What the caller expects is another matter (see [unsureError]).
const (
	codeStoreMismatch  = "checksum_mismatch"
	codeSourceMismatch = "source_checksum_mismatch"
)

// mayPass reports whether a failure of a class that is permanent may be another one at the next attempt. What was written to may be removed by
// whoever tidies up at the same key: the next attempt begins anew.
func mayPass(f *protocol.Failure) bool {
	if f.Class == protocol.Conflict {
		return f.Code == storage.CodeUploadGone
	}
	return f.Class == protocol.Corrupt && (f.Code == codeStoreMismatch || f.Code == codeSourceMismatch)
}

// decideFailure is decide for a failure of which unsure says that more may be known after another attempt.
func decideFailure(f *protocol.Failure, unsure bool, attempt, maxAttempts int) verdict {
	class := f.Class
	if unsure || mayPass(f) {
		class = protocol.Interrupted
	}
	return decide(class, attempt, maxAttempts)
}

// decide is the whole retry policy: class × attempt → verdict. attempt counts from 1.
func decide(class protocol.Class, attempt, maxAttempts int) verdict {
	switch class {
	case "":
		return done
	case protocol.NotFound, protocol.Denied, protocol.Invalid, protocol.Conflict, protocol.TooLarge, protocol.NoSpace,
		protocol.ForbiddenAddress, protocol.Corrupt, protocol.Canceled, protocol.Lost:
		return giveUp
	case protocol.Timeout:
		// A peer that hangs holds a slot for the whole wait; one more try tells a hiccup from a habit.
		maxAttempts = min(maxAttempts, 2)
	case protocol.Throttled, protocol.Unavailable, protocol.Interrupted, protocol.Internal:
	}
	if attempt >= maxAttempts {
		return giveUp
	}
	return retry
}

// backoff is how long to wait after an attempt: exponential with full jitter, but at least what the peer asked for.
func backoff(attempt int, retryAfter time.Duration) time.Duration {
	limit := backoffCap
	if shift := attempt - 1; shift < 10 {
		limit = min(backoffCap, backoffBase<<shift)
	}
	wait := rand.N(limit) + time.Millisecond //nolint:gosec // jitter needs no secrecy
	return max(wait, min(retryAfter, maxRetryAfter))
}
