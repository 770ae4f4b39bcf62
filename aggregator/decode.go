package aggregator

import (
	"context"
	"encoding/json"

	fast "github.com/go-json-experiment/json"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// decoded is a bundle of reports that was read.
type decoded struct {
	broker.Bundle

	reports protocol.ReportBundle
	err     error
}

// decodedAhead is how many bundles are read while others are being committed.
const decodedAhead = 4

// decode reads bundles until ctx ends, and gives back those that nobody takes any more.
func decode(ctx context.Context, bundles <-chan broker.Bundle, out chan decoded) {
	defer close(out)
	for {
		select {
		case <-ctx.Done():
			return
		case bundle := <-bundles:
			d := decoded{Bundle: bundle}
			d.reports, d.err = decodeReports(bundle.Data)
			select {
			case out <- d:
			case <-ctx.Done():
				_ = bundle.Later(0) // not sent, it comes again after AckWait
				return
			}
		}
	}
}

// giveBack gives back what was read and not folded.
func giveBack(ahead <-chan decoded) {
	for d := range ahead {
		_ = d.Later(0) // as above
	}
}

// decodeReports reads a bundle. The fast way is stricter than what may stand in one that another build wrote.
func decodeReports(data []byte) (protocol.ReportBundle, error) {
	var b protocol.ReportBundle
	if fast.Unmarshal(data, &b) == nil {
		return b, nil
	}
	b = protocol.ReportBundle{}
	err := json.Unmarshal(data, &b)
	return b, err //nolint:wrapcheck // the caller says what it was
}
