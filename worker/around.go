package worker

import (
	"context"

	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/decorate"
	"github.com/copyfleet/copyfleet/storage/limited"
	"github.com/copyfleet/copyfleet/storage/metered"
)

// source is the source of a transfer, as every use of it goes: what is read is held to the rates of the hosts that the transfer visits, these
// are told of it, and what each use came to is measured. Bytes are held back and told once, where they come in: what is read goes on to the
// destination at once.
func (c *copier) source(t transfer) storage.Source {
	told := metered.Told{Used: c.used(t.src)}
	source := limited.Source(c.driverSource(t), t.visit.Rates()...)
	if t.visit != nil {
		told.Moved = func(_ decorate.Op, n int) { t.visit.Moved(n) }
	}
	if told.Used == nil && told.Moved == nil {
		return source
	}
	return metered.Source(source, told)
}

// destination is the destination of a transfer, of which each use is measured.
func (c *copier) destination(t transfer) storage.Destination {
	destination := c.driverDestination(t)
	if used := c.used(t.dest); used != nil {
		return metered.Destination(destination, metered.Told{Used: used})
	}
	return destination
}

// used returns what measures the uses of a place; nil: nothing does.
func (c *copier) used(place protocol.Location) func(context.Context, metered.Use) {
	metrics := c.metrics
	if metrics == nil {
		return nil
	}
	driver := driverOf(place.Type)
	return func(ctx context.Context, use metered.Use) {
		class := ""
		if use.Failed {
			class = string(classes[use.Class])
		}
		metrics.Storage(ctx, driver, string(use.Op), class, use.Took)
	}
}

// driverOf names the driver of a kind of places, as metrics do.
func driverOf(kind protocol.LocationType) string {
	switch kind {
	case protocol.SandboxFile, protocol.SandboxTree:
		return "sandbox"
	case protocol.Object, protocol.StagedUpload:
		return "object"
	case protocol.HTTPGet, protocol.HTTPPut, protocol.HTTPPostForm:
		return "http"
	}
	return "unknown"
}
