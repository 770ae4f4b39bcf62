package sandbox

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/copyfleet/copyfleet/storage"
)

// publication is the last step: the hidden directory becomes what is at the destination.
type publication struct {
	*tree
	dir    directory // that of the destination
	top    directory // what was unpacked
	name   string    // of the destination
	merged bool      // directories below the destination were changed
}

// look returns what is at the destination (0: nothing), if the policy can be followed with it.
func (t *tree) look(dir directory, name string) (uint32, error) {
	kind, err := dir.kind(name)
	switch {
	case err != nil:
		return 0, t.at.store.fail("open", t.at.place, err)
	case kind == 0:
		return 0, nil
	case t.policy == storage.NewTree, t.policy == storage.RepeatedTree && kind != unix.S_IFDIR:
		return 0, t.at.exists()
	case kind == unix.S_IFDIR:
		return kind, nil
	}
	return 0, storage.Errorf(
		storage.Conflict, "destination_not_directory", "commit", t.at.place.subject(), "the destination is there and not a directory",
	)
}

// commit asks whether the tree may become visible and makes it so.
func (p *publication) commit(ctx context.Context, ready func() error) error {
	kind, err := p.look(p.dir, p.name)
	if err != nil {
		return err
	}
	if kind != 0 && p.policy == storage.MergeTree {
		if err := p.merge(ctx, true); err != nil {
			return err
		}
	}
	if ready != nil {
		if err := ready(); err != nil {
			return p.at.foreign("commit", err)
		}
	}
	for range showTries {
		if err = p.show(ctx); !errors.Is(err, errSwapped) {
			return err
		}
	}
	return err
}

// showTries is how often somebody may put something else at the destination between a look and the step that follows.
const showTries = 5

// errSwapped says that the destination is not any more what it was a moment ago.
var errSwapped = &storage.Error{
	Class: storage.Unavailable, Code: "destination_unsteady", Op: "commit", Subject: "the destination",
	Message: "a process in the sandbox makes and removes it all the time",
}

// show is one try.
func (p *publication) show(ctx context.Context) error {
	if err := p.mine(); err != nil {
		return err
	}
	kind, err := p.look(p.dir, p.name)
	switch {
	case err != nil:
		return err
	case kind == 0:
		return p.shown(moveNew(p.dir, p.hidden(), p.dir, p.name))
	case p.policy == storage.MergeTree:
		p.merged = true
		return p.merge(ctx, false)
	case p.policy == storage.RepeatedTree:
		return p.shownBefore(ctx)
	}
	return p.replace()
}

// shownBefore is the success of a predecessor that died before it could tell it, or a tree that is somebody else's.
func (p *publication) shownBefore(ctx context.Context) error {
	same, err := p.alike(ctx)
	switch {
	case ctx.Err() != nil:
		return stopped(ctx, "commit", p.at.place)
	case err != nil:
		return p.at.store.fail("compare", p.at.place, err)
	case !same:
		return p.at.exists()
	}
	return nil
}

// shown says what became of a rename that replaces nothing.
func (p *publication) shown(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EEXIST) && p.policy == storage.NewTree:
		return p.at.exists()
	case errors.Is(err, unix.EEXIST):
		return errSwapped
	case errors.Is(err, unix.ENOENT):
		return p.lost()
	}
	return p.at.store.fail("commit", p.at.place, err)
}

// mine reports that the hidden directory has been taken away.
func (p *publication) mine() error {
	if p.dir.same(p.hidden(), p.top) {
		return nil
	}
	return p.lost()
}

func (p *publication) lost() error {
	return verdict{
		storage.Interrupted, "lease_lost", "the hidden directory is gone",
		"another worker took the item over, or a process in the sandbox removed the directory",
	}.error("commit", p.at.place, unix.ENOENT)
}

// replace puts the tree in the place of a directory, which then has the hidden name.
func (p *publication) replace() error {
	err := p.dir.exchange(p.hidden(), p.name)
	switch {
	case unsupported(err):
		return p.replaceInSteps()
	case errors.Is(err, unix.ENOENT):
		return errSwapped // or lost: the next try tells
	case err != nil:
		return p.at.store.fail("commit", p.at.place, err)
	}
	// Somebody may have put a file or a link there since the look: it is not ours to remove.
	if kind, err := p.dir.kind(p.hidden()); err == nil && kind != 0 && kind != unix.S_IFDIR {
		if err := p.dir.exchange(p.hidden(), p.name); err != nil {
			return p.at.store.fail("commit", p.at.place, err)
		}
		return errSwapped
	}
	return nil
}

// replaceInSteps is replace for file systems that cannot exchange names: for a moment nothing is at the destination. Who dies in that moment
// leaves what was there under a name by which a successor finds it and puts it back.
func (p *publication) replaceInSteps() error {
	old := p.hidden() + aside
	if err := moveNew(p.dir, p.name, p.dir, old); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return errSwapped
		}
		return p.at.store.fail("commit", p.at.place, err)
	}
	if err := p.shown(moveNew(p.dir, p.hidden(), p.dir, p.name)); err != nil {
		_ = moveNew(p.dir, old, p.dir, p.name) // as before; if somebody has put something there, that is what is there now
		return err
	}
	_ = p.dir.remove(old, p.at.store.removeWithin) // hidden, should it not go
	return nil
}

// sync makes what was shown durable.
func (p *publication) sync() error {
	if !p.at.store.sync || !p.merged {
		return p.at.syncName(p.dir)
	}
	err := syncfs(p.dir.file)
	if errors.Is(err, errors.ErrUnsupported) {
		err = p.syncMerged()
	}
	if err != nil {
		return verdict{storage.Unavailable, "sync_failed", "the new content is visible, but could not be made durable", ""}.error("sync", p.at.place, err)
	}
	return nil
}

func (p *publication) syncMerged() error {
	target, err := p.dir.open(p.name)
	if err != nil {
		return err
	}
	defer target.close()
	return p.at.syncTree(target)
}
