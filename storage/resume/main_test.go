package resume

import (
	"testing"

	"go.uber.org/goleak"
)

// The proxy leaves what it read and could not pass on of a connection that it cut to goroutines that wait for ever.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*ToxicLink).read"),
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2/toxics.(*ToxicStub).Run"))
}
