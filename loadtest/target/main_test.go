package target_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(miniotest.Main(m)) }
