package mixtest

import (
	"net"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestAddressesAreGivenOnce takes so many that two would be the same without the marks.
func TestAddressesAreGivenOnce(t *testing.T) {
	t.Parallel()
	given := map[string]bool{}
	for range 600 {
		address := FreeAddress(t)
		if given[address] {
			t.Fatalf("%s was given twice", address)
		}
		given[address] = true
	}
	for address := range given {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
		if err != nil {
			t.Fatalf("%s cannot be listened on: %v", address, err)
		}
		_ = l.Close()
	}
}
