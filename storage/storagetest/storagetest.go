// Package storagetest is the conformance suite of the drivers below package storage. A driver that passes
// [Run] keeps what the package comment of storage guarantees, as far as a test can see it from outside:
// whole or not at all, visible as the last step, bytes as read, errors classified, nothing left behind.
//
// The suite does not show durability across a power cut, bounded memory or the hiding of credentials in a
// driver's own messages: those need tests that know the driver.
package storagetest

import (
	"testing"

	"github.com/copyfleet/copyfleet/storage"
)

// BufferSize is the size around which the suite places contents, in bytes. Drivers that copy through a
// buffer of another size add their own test around that size.
const BufferSize = 256 << 10

// Features declares what a driver has and what it cannot do. The zero value checks nothing.
type Features struct {
	// Source and Destination say which half of the suite applies.
	Source, Destination bool

	// UnknownSize says that a source may answer storage.UnknownSize. Otherwise Object.Size must be exact.
	UnknownSize bool

	// NeedsSize says that Put requires Content.Size. It must be what Destination.NeedsSize answers.
	NeedsSize bool

	// CommitIsLastByte says that content becomes visible with the last byte that the receiver gets. Such a driver
	// may call Content.Ready before it saw the end of Content.Body, but like all others only after it read
	// every byte of it: what Ready decides upon, a digest for instance, covers all bytes.
	CommitIsLastByte bool

	// Ranges says that sources implement storage.Ranger.
	Ranges bool

	// Parts says that destinations implement storage.PartDestination, and storage.UploadReader if they choose to.
	Parts bool

	// PartSize is the size of the parts that the suite stores, in bytes; 0: 64 KiB.
	PartSize int64

	// NoEmptyParts says that content of no bytes cannot be stored in parts.
	NoEmptyParts bool

	// CompletesAgain says that what was completed can be completed again, as after an answer that was lost.
	CompletesAgain bool

	// ListsParts says that destinations with Parts implement storage.PartLister.
	ListsParts bool

	// Removes says that destinations implement storage.Remover.
	Removes bool

	// OnlyNew says that destinations can be told to replace nothing.
	OnlyNew bool

	// Trails says that destinations keep Content.Trail beside the content, and sources that are copied directly lose theirs.
	Trails bool
}

// Harness connects a driver to the suite.
type Harness struct {
	Features

	// NewSource returns a source of exactly data. Needed for Features.Source.
	NewSource func(t *testing.T, data []byte) storage.Source
	// Missing returns a source of something that does not exist. nil if the driver knows no such thing.
	Missing func(t *testing.T) storage.Source
	// NewRanger returns a source of data, and what makes other data of it, under which the old mark must not be valid any more. Needed
	// for Features.Ranges.
	NewRanger func(t *testing.T, data []byte) (source storage.Ranger, change func(data []byte))
	// NewTarget returns a place that holds nothing yet. Needed for Features.Destination, Parts, Removes, OnlyNew and Trails.
	NewTarget func(t *testing.T) Target
	// NamedTarget returns a place of the given name, in fresh surroundings. The name has the form that [Names]
	// draws. nil if the driver's places have no names of the caller's choice.
	NamedTarget func(t *testing.T, name string) Target
}

// Target is one place, written and looked at by the suite. Its functions may be called on any goroutine, so
// they report failures with t.Error, not with t.Fatal.
type Target struct {
	// Destination returns a new writer of the place. Each stands for an attempt of its own.
	Destination func() storage.Destination
	// Read returns what anybody who looks at the place sees now; false if there is nothing.
	Read func(t *testing.T) ([]byte, bool)
	// Trail returns the trail that is seen at the place; "": there is none. Needed for Features.Trails.
	Trail func(t *testing.T) string
	// Leftovers names what remains of unfinished writes: hidden files, open uploads. nil if the driver leaves
	// nothing that could be looked for.
	Leftovers func(t *testing.T) []string
}

// Run checks a driver. Every check is a subtest with places of its own.
func Run(t *testing.T, h Harness) {
	t.Helper()
	if !h.Source && !h.Destination && !h.Ranges && !h.Parts && !h.Removes && !h.OnlyNew && !h.Trails {
		t.Fatal("storagetest: the harness declares nothing, so nothing would be checked")
	}
	if h.Source {
		t.Run("Source", func(t *testing.T) { runSource(t, h) })
	}
	if h.Destination {
		t.Run("Destination", func(t *testing.T) { runDestination(t, h) })
	}
	if h.Ranges {
		t.Run("Ranger", func(t *testing.T) { runRanger(t, h) })
	}
	if h.Parts {
		t.Run("Parts", func(t *testing.T) { runParts(t, h) })
	}
	if h.Parts && h.ListsParts {
		t.Run("ListParts", func(t *testing.T) { runListParts(t, h) })
	}
	if h.Removes {
		t.Run("Remove", func(t *testing.T) { runRemove(t, h) })
	}
	if h.OnlyNew {
		t.Run("OnlyNew", func(t *testing.T) { runOnlyNew(t, h) })
	}
	if h.Trails {
		t.Run("Trails", func(t *testing.T) { runTrails(t, h) })
	}
}

// sizes are the content lengths in bytes at which copy loops are known to go wrong.
var sizes = []int{0, 1, 2, 4095, 4096, 4097, 32 << 10, BufferSize - 1, BufferSize, BufferSize + 1, 1<<20 + 3}
