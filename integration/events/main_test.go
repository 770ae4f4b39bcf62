package events

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(miniotest.Main(mixtest.Runner{M: m})) }
