package sandbox

import (
	"context"
	"errors"
	"io"

	"golang.org/x/sys/unix"

	"github.com/copyfleet/copyfleet/storage"
)

// merging puts one tree over another: what the other lacks is moved, a directory as a whole, and files that both have are replaced.
type merging struct {
	ctx context.Context
	p   *publication
	dry bool // only looks for what is in the way
}

// merge goes through what was unpacked. A dry one changes nothing.
func (p *publication) merge(ctx context.Context, dry bool) error {
	target, err := p.dir.within(p.name)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return errSwapped
	}
	if err != nil {
		return p.at.store.fail("open", p.at.place, err)
	}
	defer target.close()
	m := &merging{ctx: ctx, p: p, dry: dry}
	return m.directory(p.top, target, p.at.place)
}

// mergePasses is how often a directory is read again: one that is changed while it is read may leave out names.
const mergePasses = 8

// directory merges one directory into another; at is the latter's place.
func (m *merging) directory(from, to directory, at place) error {
	a, err := deviceOf(from.file)
	if err != nil {
		return m.fail(at, err)
	}
	if b, err := deviceOf(to.file); err != nil || a != b {
		return m.fail(at, errors.Join(err, unix.EXDEV))
	}
	for range mergePasses {
		moved, err := m.pass(from, to, at)
		if err != nil || moved == 0 {
			return err
		}
	}
	return errSwapped // entries come all the time: what is left would be taken for merged
}

// pass goes through a directory once and returns how many entries are not in it any more.
func (m *merging) pass(from, to directory, at place) (int, error) {
	list, err := from.open(".")
	if err != nil {
		return 0, m.fail(at, err)
	}
	defer list.close()
	moved := 0
	for {
		names, err := list.file.Readdirnames(1024)
		for _, name := range names {
			gone, err := m.entry(from, to, name, place{at.org, at.sandbox, at.path + "/" + name})
			if err != nil {
				return moved, err
			}
			if gone {
				moved++
			}
		}
		if err == io.EOF { // os.File returns io.EOF itself
			return moved, nil
		}
		if err != nil {
			return moved, m.fail(at, err)
		}
	}
}

// entry merges one entry and reports whether it was moved.
func (m *merging) entry(from, to directory, name string, at place) (bool, error) {
	if err := stopped(m.ctx, "commit", m.p.at.place); err != nil {
		return false, err
	}
	for range showTries {
		is, err := from.kind(name)
		if err != nil || is == 0 {
			return false, m.failIf(at, err) // moved before
		}
		there, err := to.kind(name)
		switch {
		case err != nil:
			return false, m.fail(at, err)
		case is == unix.S_IFDIR && there == unix.S_IFDIR:
			return false, m.descend(from, to, name, at)
		case there != 0 && !replaces(is, there):
			return false, inTheWay(at, is, there)
		case m.dry:
			return false, nil
		}
		// A successor takes the hidden directory away; what is moved after this look is what it puts there, too.
		if err := m.p.mine(); err != nil {
			return false, err
		}
		if err = m.move(from, to, name, there); !errors.Is(err, unix.EEXIST) {
			return err == nil, m.failIf(at, err)
		}
	}
	return false, m.fail(at, unix.EEXIST)
}

// move puts an entry in its place.
func (m *merging) move(from, to directory, name string, there uint32) error {
	if there == 0 {
		return moveNew(from, name, to, name)
	}
	if err := move(from, name, to, name); err != nil {
		return err
	}
	return from.unlink(name) // two names of one file: then rename(2) does nothing
}

func (m *merging) descend(from, to directory, name string, at place) error {
	a, err := from.open(name)
	if err != nil {
		return m.fail(at, err)
	}
	defer a.close()
	b, err := to.within(name)
	if err != nil {
		return m.fail(at, err)
	}
	defer b.close()
	return m.directory(a, b, at)
}

// replaces reports whether what an archive has may replace what is there: a file is replaced, and a link by another one, which a repeated
// merge does. Nothing else is: through a link, or in the place of a device, somebody else's files are.
func replaces(is, there uint32) bool {
	return is != unix.S_IFDIR && there == unix.S_IFREG || is == unix.S_IFLNK && there == unix.S_IFLNK
}

// inTheWay names what keeps an archive from being merged.
func inTheWay(at place, is, there uint32) error {
	switch {
	case there == unix.S_IFDIR:
		return storage.Errorf(storage.Conflict, "destination_is_directory", "merge", at.subject(), "it is a directory, and not so in the archive")
	case is == unix.S_IFDIR:
		return storage.Errorf(storage.Conflict, "destination_not_directory", "merge", at.subject(), "it is not a directory, and is one in the archive")
	}
	return storage.Errorf(storage.Conflict, "destination_not_regular", "merge", at.subject(), "it is there and not a regular file")
}

func (m *merging) fail(at place, err error) error { return m.p.at.store.fail("merge", at, err) }

func (m *merging) failIf(at place, err error) error {
	if err == nil {
		return nil
	}
	return m.fail(at, err)
}
