package sandbox

import (
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/archive"
)

// Tree returns the directory path in a sandbox for one attempt to unpack an archive there, which is the content of its Put. temp and stale
// are as in [Store.Destination].
func (s *Store) Tree(
	org, sandbox, path string, policy storage.TreePolicy, limits storage.TreeLimits, temp string, stale []string,
) storage.Destination {
	at := &destination{store: s, place: place{org: org, sandbox: sandbox, path: path}, temp: temp, stale: stale}
	return &tree{at: at, policy: policy, limits: limits}
}

// tree is one attempt to unpack an archive. What is hidden is a directory of the name that a file's would have.
type tree struct {
	at     *destination
	policy storage.TreePolicy
	limits storage.TreeLimits
}

// NeedsSize reports false: an archive says where it ends.
func (t *tree) NeedsSize() bool { return false }

// Put unpacks the content into a hidden directory beside its destination and puts that in its place.
func (t *tree) Put(ctx context.Context, content storage.Content) (storage.Stored, error) {
	d := t.at
	dirName, name, err := d.place.split("write")
	if err == nil {
		err = d.checkTokens()
	}
	if err == nil {
		err = stopped(ctx, "write", d.place)
	}
	if err != nil {
		return storage.Stored{}, err
	}
	if content.OnlyNew && t.policy != storage.RepeatedTree {
		t.policy = storage.NewTree
	}
	dir, err := d.openParent(dirName)
	if err != nil {
		return storage.Stored{}, d.store.fail("open", d.place, err)
	}
	defer dir.close()
	return t.putIn(ctx, dir, name, content)
}

// putIn does the work in the open directory.
func (t *tree) putIn(ctx context.Context, dir directory, name string, content storage.Content) (storage.Stored, error) {
	if err := t.fence(dir, name); err != nil {
		return storage.Stored{}, err
	}
	// The check that counts comes with the last step. This one spares a long transfer that cannot end well.
	if _, err := t.look(dir, name); err != nil {
		return storage.Stored{}, err
	}
	if err := dir.mkdir(t.hidden(), dirPerm); err != nil {
		return storage.Stored{}, t.at.failCreate(err)
	}
	// Whatever bears the name at the end is to go: what was half unpacked, what was replaced, or what is left of a merge.
	defer func() { _ = dir.remove(t.hidden(), t.at.store.removeWithin) }()
	top, err := dir.open(t.hidden())
	if err != nil {
		return storage.Stored{}, t.at.store.fail("open", t.at.place, err)
	}
	defer top.close()
	stored, err := t.unpack(ctx, top, content)
	if err != nil {
		return storage.Stored{}, err
	}
	p := &publication{tree: t, dir: dir, top: top, name: name}
	if err := p.commit(ctx, content.Ready); err != nil {
		return storage.Stored{}, err
	}
	failpoint.Hit(failpoint.Renamed)
	return stored, p.sync()
}

// hidden is the name of the directory that the archive is unpacked into.
func (t *tree) hidden() string { return hiddenPrefix + t.at.temp }

// unpack makes the tree below the open directory top and leaves it, if so configured, durable.
func (t *tree) unpack(ctx context.Context, top directory, content storage.Content) (storage.Stored, error) {
	u := &unpacker{at: t.at, ctx: ctx, top: top, each: t.at.store.sync && t.at.store.files.root == nil}
	defer u.leave()
	body := &counted{Reader: content.Body}
	err := archive.Walk(body, t.limits, u.visit)
	if short := t.at.checkSize(body.n, content.Size, body.ended); short != nil && (err == nil || body.ended) {
		return storage.Stored{}, short
	}
	if err != nil {
		if _, classified := errors.AsType[*storage.Error](err); classified {
			return storage.Stored{}, err
		}
		return storage.Stored{}, t.at.foreign("read", err)
	}
	if err := u.durable(); err != nil {
		return storage.Stored{}, t.at.store.fail("sync", t.at.place, err)
	}
	failpoint.Hit(failpoint.TempSynced)
	return storage.Stored{Bytes: body.n, Unpacked: &u.made}, stopped(ctx, "commit", t.at.place)
}

// counted counts what was read of a body.
type counted struct {
	io.Reader
	n     int64
	ended bool
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	c.ended = c.ended || err == io.EOF // an error that wraps io.EOF is a broken connection, not the end
	return n, err
}

// Discard removes what the stale attempts left, and writes nothing. That there is nothing is no error.
func (t *tree) Discard() error {
	_, name, err := t.at.place.split("clean up")
	if err != nil {
		return err
	}
	return t.at.discardIn(func(dir directory) error { return t.fence(dir, name) })
}

// fence takes what predecessors unpack into from them, and removes it. A new name comes first: from then on a slow one cannot show what is
// being removed. What cannot be removed stays, hidden: it is in nobody's way.
func (t *tree) fence(dir directory, name string) error {
	if len(t.at.stale) == 0 {
		return nil
	}
	for i, token := range t.at.stale {
		err := move(dir, hiddenPrefix+token, dir, t.hidden()+"."+strconv.Itoa(i))
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return t.at.store.fail("take what a predecessor unpacked", t.at.place, err)
		}
	}
	rests, err := t.rests(dir)
	if err != nil {
		return t.at.store.fail("read the directory", t.at.place, err)
	}
	for _, rest := range rests {
		if strings.HasSuffix(rest, aside) {
			// A predecessor died between the two steps of a replacement. If nothing is in its place it goes back, else it was replaced.
			if err := moveNew(dir, rest, dir, name); err == nil {
				continue
			}
		}
		_ = dir.remove(rest, t.at.store.removeWithin)
	}
	return nil
}

// aside ends the name of what is to be replaced on a file system that cannot exchange two names.
const aside = ".old"

// rests names what this attempt took from others, and what they had taken or put aside when they died.
func (t *tree) rests(dir directory) ([]string, error) {
	list, err := dir.open(".") // a position of its own
	if err != nil {
		return nil, err
	}
	defer list.close()
	var rests []string
	for {
		names, err := list.file.Readdirnames(1024)
		for _, name := range names {
			rest, hidden := strings.CutPrefix(name, hiddenPrefix)
			token, _, more := strings.Cut(rest, ".")
			if hidden && more && (token == t.at.temp || slices.Contains(t.at.stale, token)) {
				rests = append(rests, name)
			}
		}
		if err == io.EOF { // os.File returns io.EOF itself
			return rests, nil
		}
		if err != nil {
			return nil, err
		}
	}
}
