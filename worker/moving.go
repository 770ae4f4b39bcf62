package worker

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// moving is how far other workers are with the parts of an item, as they say: hints, of which some are lost.
type moving struct {
	mu    sync.Mutex
	parts map[int]heardPart
}

type heardPart struct {
	bytes int64
	at    time.Time
}

// movingFor is how long it counts what was said of a part, which is said every second.
const movingFor = 5 * time.Second

// hear listens until the function that it returns is called.
func (m *moving) hear(w *Worker, ref protocol.Ref) (stop func()) {
	stop, err := w.conn.HearParts(ref.Org, ref.Batch, ref.Index, m.note)
	if err != nil { // the item is as far as its stored parts, then
		w.cfg.Logger.Debug("the progress of parts is not heard", "batch", ref.Batch, "index", ref.Index, "error", err)
		return func() {}
	}
	return stop
}

func (m *moving) note(data []byte) {
	var p protocol.Progress
	if json.Unmarshal(data, &p) != nil || p.Part < 1 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.parts[p.Part]; !known && len(m.parts) >= 2*partsAhead {
		return
	}
	if m.parts == nil {
		m.parts = map[int]heardPart{}
	}
	m.parts[p.Part] = heardPart{p.Bytes, time.Now()}
}

// bytes is how much is moving of the parts that are not stored. Of none it is more than the part has, whatever is said: what was shown of an item
// is never taken back.
func (m *moving) bytes(states []protocol.PartState, sizeOf func(number int) int64) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	sum := int64(0)
	for number, heard := range m.parts {
		if number > len(states) || isStored(&states[number-1]) || time.Since(heard.at) > movingFor {
			delete(m.parts, number)
			continue
		}
		sum += min(max(heard.bytes, 0), sizeOf(number))
	}
	return sum
}
