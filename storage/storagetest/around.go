package storagetest

import (
	"strconv"
	"testing"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/memory"
)

// Around is the harness of a decorator, put around the memory driver.
func Around(source func(storage.Source) storage.Source, destination func(storage.Destination) storage.Destination) Harness {
	target := func(*testing.T) Target {
		d := &memory.Destination{}
		return Target{
			Destination: func() storage.Destination { return destination(d) },
			Read:        func(*testing.T) ([]byte, bool) { return d.Bytes() },
			Leftovers:   func(*testing.T) []string { return d.Uploads() },
		}
	}
	return Harness{
		Features:    Features{Source: true, Destination: true, Ranges: true, Parts: true, CompletesAgain: true, OnlyNew: true},
		NewSource:   func(_ *testing.T, data []byte) storage.Source { return source(memory.NewSource(data)) },
		Missing:     func(*testing.T) storage.Source { return source(memory.Missing()) },
		NewTarget:   target,
		NamedTarget: func(t *testing.T, _ string) Target { return target(t) },
		NewRanger: func(t *testing.T, data []byte) (storage.Ranger, func([]byte)) {
			version := 1
			inner := &memory.Source{Data: data, ETag: "1"}
			r, ok := source(inner).(storage.Ranger)
			if !ok {
				t.Fatal("the decorator hides that its source can be read from the middle")
			}
			return r, func(data []byte) {
				version++
				inner.Data, inner.ETag = data, strconv.Itoa(version)
			}
		},
	}
}
