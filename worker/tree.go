package worker

import (
	"context"

	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
)

// An archive that is copied to a directory of a sandbox is unpacked there. It is read in one go: what is in it is known when all of it was read, and
// nothing is visible before it is known to be what was promised.

// TreeDriver is a [SandboxDriver] that unpacks archives. temp and stale are as there.
type TreeDriver interface {
	Tree(org, sandbox, path string, policy storage.TreePolicy, limits storage.TreeLimits, temp string, stale []string) storage.Destination
}

// TreeLimits bound what one archive may become. The bytes are bounded by the space that is there, too.
var TreeLimits = storage.TreeLimits{Entries: maxTreeEntries, Depth: maxTreeDepth, Bytes: maxTreeBytes}

func (c *copier) treeDestination(t *transfer) storage.Destination {
	driver, ok := c.drivers.Sandboxes.(TreeDriver)
	if !ok {
		return unsupported{t.dest.Type}
	}
	return driver.Tree(string(t.org), string(t.dest.Sandbox), t.dest.Path, treePolicy(t.conflict, t.again), TreeLimits, t.temp, t.stale)
}

// treePolicy says what is done about a directory that is there. again: it may be what an earlier attempt has shown.
func treePolicy(p protocol.ConflictPolicy, again bool) storage.TreePolicy {
	switch p {
	case protocol.FailIfThere:
		if again {
			return storage.RepeatedTree
		}
		return storage.NewTree
	case protocol.MergeTree:
		return storage.MergeTree
	case protocol.Overwrite, protocol.SkipIfThere, protocol.IfDifferent:
	}
	return storage.ReplaceTree
}

// settleTree looks whether anything is where a new directory is to be, before it is moved in vain. The commit looks once more.
func (c *copier) settleTree(ctx context.Context, t transfer) (came copied, settled bool, err error) {
	switch t.conflict {
	case protocol.FailIfThere:
	case protocol.SkipIfThere, protocol.IfDifferent:
		return copied{}, false, blame(t, storage.Errorf(storage.Invalid, "conflict_unsupported", "look at", t.dest.Redacted(),
			"a directory can be merged or replaced, or must not be there"))
	case protocol.Overwrite, protocol.MergeTree:
		return copied{}, false, nil
	}
	_, there, err := c.there(ctx, t)
	if err != nil {
		return copied{}, false, blame(t, err)
	}
	if there && !t.again {
		return copied{}, false, blame(t, existsError(t))
	}
	return copied{}, false, nil
}

// lateTree answers for a new directory in whose way something is. If an earlier attempt or batch may have put it there, and it is what the archive
// would become, the item has what it asked for.
func (c *copier) lateTree(ctx context.Context, t transfer, exists error) (copied, error) {
	came, same, err := c.sameTree(ctx, t)
	switch {
	case err != nil:
		return copied{read: came.read}, err
	case !same:
		return copied{read: came.read}, exists
	}
	if err := t.fence(); err != nil {
		return copied{read: came.read}, err
	}
	return came, nil
}

// unpacked is what an archive became, as receipts tell it.
func unpacked(stored storage.Stored) *protocol.Unpacked {
	if stored.Unpacked == nil {
		return nil
	}
	return &protocol.Unpacked{Files: stored.Unpacked.Files, Bytes: stored.Unpacked.Bytes}
}
