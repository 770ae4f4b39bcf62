package worker

import (
	"context"
	"errors"

	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
)

// What an item asks for if something is at its destination already is looked at twice: before the source is opened, so that nothing is
// moved in vain, and by the destination in the step that makes it visible ([storage.Content.OnlyNew]), so that it holds against whoever
// comes in between.

// replaces reports the policy that does not care what is there.
func replaces(p protocol.ConflictPolicy) bool { return p == "" || p == protocol.Overwrite }

// onlyNew reports whether the destination must refuse to replace anything.
func (t *transfer) onlyNew() bool {
	return t.conflict == protocol.SkipIfThere || t.conflict == protocol.FailIfThere
}

// settle looks at the destination if the policy of an item asks for it. settled: the item has ended without a copy.
func (c *copier) settle(ctx context.Context, t transfer) (came copied, settled bool, err error) {
	if replaces(t.conflict) {
		return copied{}, false, nil
	}
	switch t.dest.Type {
	case protocol.SandboxTree:
		return c.settleTree(ctx, t)
	case protocol.SandboxFile, protocol.Object:
	case protocol.HTTPPut, protocol.HTTPPostForm, protocol.HTTPGet, protocol.StagedUpload:
		return copied{}, false, blame(t, storage.Errorf(storage.Invalid, "conflict_unsupported", "look at", t.dest.Redacted(),
			"what is at a URL cannot be looked at; such an item can only overwrite"))
	}
	size, there, err := c.there(ctx, t)
	if err != nil {
		return copied{}, false, blame(t, err)
	}
	if !there {
		return copied{}, false, nil
	}
	came, settled, err = c.meet(ctx, t, size)
	if err != nil || !settled {
		return came, false, err
	}
	if err := t.fence(); err != nil {
		return copied{}, false, err
	}
	return came, true, nil
}

// meet is what becomes of an item whose destination exists and has size bytes. settled is false if it is to be copied.
func (c *copier) meet(ctx context.Context, t transfer, size int64) (came copied, settled bool, err error) {
	switch t.conflict {
	case protocol.SkipIfThere:
		return copied{skip: protocol.SkipExists}, true, nil
	case protocol.FailIfThere:
		// What an earlier attempt, or a worker that died, made visible is not told from somebody else's by looking at it. If it is what
		// is to be copied, the item has what it asked for.
		if !t.again {
			return copied{}, false, blame(t, existsError(t))
		}
		same := c.compare(ctx, t, size, readSource)
		switch {
		case same.err != nil:
			return copied{read: same.read}, false, same.err
		case !same.same:
			return copied{read: same.read}, false, blame(t, existsError(t))
		}
		came := same.copied()
		if t.src.Type == protocol.StagedUpload { // nobody skips what a session publishes
			came.skip, came.stored, came.method = "", size, protocol.MethodStream
		}
		return came, true, nil
	case protocol.IfDifferent:
		same := c.compare(ctx, t, size, readFiles)
		if same.err != nil || !same.same {
			return copied{}, false, same.err
		}
		return same.copied(), true, nil
	case protocol.Overwrite, protocol.MergeTree:
	}
	return copied{}, false, nil
}

// there reports whether something is at the destination, and its size. Where that cannot be known without writing it is not; the commit
// will tell.
func (c *copier) there(ctx context.Context, t transfer) (size int64, exists bool, err error) {
	if t.dest.Type == protocol.Object { // one request, where a Look takes several to know what would be made
		if s, ok := c.source(t.reverse()).(stater); ok {
			stat, err := s.Stat(ctx)
			switch class := storage.ClassOf(err); {
			case err == nil:
				return stat.Size, true, nil
			case class == storage.NotFound, class == storage.Denied: // a key may write objects and not read them
				return 0, false, nil
			}
			return 0, false, err //nolint:wrapcheck // the driver's own words
		}
	}
	d, ok := c.destination(t).(looker)
	if !ok {
		return 0, false, nil
	}
	look, err := d.Look(ctx)
	return look.Size, look.Checked && look.Exists, err //nolint:wrapcheck // the driver's own words
}

// late answers for a destination that came into being while its content was on its way: an item that skips has come to its end.
func late(t transfer, came copied, err error) (copied, error) {
	if t.conflict != protocol.SkipIfThere || !isExists(err) {
		return came, err
	}
	return copied{read: came.read, status: came.status, skip: protocol.SkipExists}, nil
}

func isExists(err error) bool {
	if _, fromSource := errors.AsType[*sourceError](err); fromSource {
		return false
	}
	e, ok := errors.AsType[*storage.Error](err)
	return ok && e.Code == storage.CodeDestinationExists
}

func existsError(t transfer) error {
	return storage.Errorf(storage.Conflict, storage.CodeDestinationExists, "write", t.dest.Redacted(), "it exists already")
}

// reverse is a transfer whose source is the destination, for those who read what is there.
func (t *transfer) reverse() transfer { return transfer{org: t.org, id: t.id, src: t.dest} }
