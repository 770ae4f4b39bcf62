package transfer

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(miniotest.Main(mixtest.Runner{M: m}),
		// A link of toxiproxy that was cut ends when its other side does, which may be after the test.
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*ToxicLink).read"),
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2/toxics.(*ToxicStub).Run"))
}
