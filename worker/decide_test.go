package worker

import (
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
)

func TestDecide(t *testing.T) {
	t.Parallel()
	permanent := []protocol.Class{
		protocol.NotFound, protocol.Denied, protocol.Invalid, protocol.Conflict, protocol.TooLarge, protocol.NoSpace,
		protocol.ForbiddenAddress, protocol.Corrupt, protocol.Canceled, protocol.Lost,
	}
	transient := []protocol.Class{protocol.Throttled, protocol.Unavailable, protocol.Interrupted, protocol.Internal}
	type row struct {
		class        protocol.Class
		attempt, max int
		want         verdict
	}
	rows := []row{
		{"", 1, 4, done},
		{"", 9, 4, done},
		{protocol.Timeout, 1, 4, retry},
		{protocol.Timeout, 2, 4, giveUp},
		{protocol.Timeout, 1, 1, giveUp},
	}
	for _, c := range permanent {
		rows = append(rows, row{c, 1, 4, giveUp})
	}
	for _, c := range transient {
		rows = append(rows, row{c, 1, 4, retry}, row{c, 3, 4, retry}, row{c, 4, 4, giveUp}, row{c, 1, 1, giveUp})
	}
	for _, r := range rows {
		if got := decide(r.class, r.attempt, r.max); got != r.want {
			t.Errorf("decide(%q, %d, %d) = %d, want %d", r.class, r.attempt, r.max, got, r.want)
		}
	}
}

// TestMismatchesAreDecidedByWhoseTheyAre: content may have been changed on the way, or cut.
func TestMismatchesAreDecidedByWhoseTheyAre(t *testing.T) {
	t.Parallel()
	for _, r := range []struct {
		code    string
		unsure  bool
		attempt int
		want    verdict
	}{
		{codeStoreMismatch, false, 1, retry},
		{codeStoreMismatch, false, 4, giveUp},
		{codeSourceMismatch, false, 3, retry},
		{codeSourceMismatch, false, 4, giveUp},
		{"source_sha256_mismatch", false, 1, giveUp},
		{"source_sha256_mismatch", true, 1, retry},
		{"source_sha256_mismatch", true, 4, giveUp},
		{storage.CodeSourceChanged, false, 1, giveUp},
	} {
		if got := decideFailure(&protocol.Failure{Class: protocol.Corrupt, Code: r.code}, r.unsure, r.attempt, 4); got != r.want {
			t.Errorf("%s, unsure %t, attempt %d: %d, want %d", r.code, r.unsure, r.attempt, got, r.want)
		}
	}
	if got := decideFailure(&protocol.Failure{Class: protocol.Conflict, Code: storage.CodeUploadGone}, false, 1, 4); got != retry {
		t.Errorf("what was written to is gone: %d", got)
	}
	if got := decideFailure(&protocol.Failure{Class: protocol.Invalid, Code: codeStoreMismatch}, false, 1, 4); got != giveUp {
		t.Errorf("of another class: %d", got)
	}
}

func TestBackoffIsBounded(t *testing.T) {
	t.Parallel()
	for attempt := 1; attempt < 80; attempt++ {
		for range 50 {
			got := backoff(attempt, 0)
			limit := backoffCap
			if attempt <= 7 {
				limit = min(limit, backoffBase<<(attempt-1))
			}
			if got <= 0 || got > limit+time.Millisecond {
				t.Fatalf("backoff(%d) = %s, want at most %s", attempt, got, limit)
			}
		}
	}
	if got := backoff(1, 7*time.Second); got != 7*time.Second {
		t.Errorf("a peer that asks for 7 s gets %s", got)
	}
	if got := backoff(1, time.Hour); got != maxRetryAfter {
		t.Errorf("a peer that asks for an hour gets %s, want %s", got, maxRetryAfter)
	}
}
