package worker

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/memory"
)

// readAgain has what is read of the destination come from another source.
type readAgain struct {
	*partsKit

	back storage.Source
}

func (k readAgain) Source(org, sandbox, path string) storage.Source {
	if path == "/out" {
		return k.back
	}
	return k.partsKit.Source(org, sandbox, path)
}

// TestWhatCannotBeReadBackHasArrived spreads an item whose destination shows its parts only once they are complete, and then not, or not
// them: keys may write and not read, and somebody may replace what is there.
func TestWhatCannotBeReadBackHasArrived(t *testing.T) {
	t.Parallel()
	data := bytesOf(manyParts, 1)
	refused := func(class storage.Class) storage.Source {
		return &memory.Source{FailOpen: storage.Errorf(class, "no", "open", "x", "it is not to be read")}
	}
	for name, row := range map[string]struct {
		back   storage.Source
		sha256 string
	}{
		"denied":   {refused(storage.Denied), ""},
		"removed":  {refused(storage.NotFound), ""},
		"replaced": {&memory.Source{Data: bytesOf(manyParts, 2), ETag: `"another"`}, ""},
		"longer":   {&memory.Source{Data: bytesOf(manyParts+1, 2), ETag: `"another"`}, ""},
		"there":    {&memory.Source{Data: data}, digestOf(data)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dest := &memory.Destination{ETag: `"ours"`}
			k := newPartsKit(t, sourceOf(data), opaque{dest})
			cfg := k.config("w1")
			cfg.SpreadAfter = time.Nanosecond
			w, err := New(t.Context(), cfg, k.conn, Drivers{Sandboxes: readAgain{k, row.back}}, k.sealer)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			go func() { ended <- w.Run(ctx) }()
			defer func() {
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}()
			k.publish(t, nil)
			r := k.final(t)
			if got, _ := dest.Bytes(); r.State != protocol.ItemSucceeded || !bytes.Equal(got, data) || r.SHA256 != row.sha256 {
				t.Errorf("%d bytes arrived: %+v, %+v", len(got), r, r.Failure)
			}
			k.clean(t)
		})
	}
}
