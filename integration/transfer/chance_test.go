package transfer

import (
	"math/rand/v2"
	"testing"
	"time"
)

// chance is a source of random moments whose seed the test's log tells.
func chance(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}
