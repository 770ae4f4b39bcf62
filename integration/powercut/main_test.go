package powercut

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(mixtest.Runner{M: m})
}
