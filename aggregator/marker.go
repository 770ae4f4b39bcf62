package aggregator

import (
	"context"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
)

// marker is what is left of a record that was deleted.
type marker struct {
	bucket   *broker.Bucket
	key      string
	revision uint64
	at       time.Time
}

// markerKept is how long a marker stays for those who watch.
const markerKept = 30 * time.Second

// dropMarkers removes old markers, which would be told to every watch that begins.
func (f *feeder) dropMarkers(ctx context.Context) {
	for len(f.markers) > 0 && time.Since(f.markers[0].at) > min(markerKept, f.cfg.Retention) {
		m := f.markers[0]
		f.markers = f.markers[1:]
		if err := m.bucket.DropAt(ctx, m.key, m.revision); err != nil {
			f.trouble(ctx, "remove markers", err)
			m.at = time.Now()
			f.markers = append(f.markers, m)
			return
		}
	}
}
