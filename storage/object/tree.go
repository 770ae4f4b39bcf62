package object

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/minio/minio-go/v7"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/archive"
	"github.com/copyfleet/copyfleet/storage/sandbox"
)

// Tree returns a directory of a sandbox for one attempt to unpack an archive there. temp names the hidden objects of the attempt, stale those that
// earlier ones may have left.
//
// A bucket has no directories, and no way to show many objects at once. All of the archive is unpacked to hidden keys first, so that an archive that
// is broken or refused leaves everything as it was. Then the store copies each file to its key, and what the archive lacks is removed
// ([storage.ReplaceTree]). Each file is whole at any time, but who reads meanwhile may see new files beside old ones; so does, until the next
// attempt, who reads after a crash at that point. Of a new tree that cannot be shown as a whole what was shown is removed. Directories without
// files, permissions and times of modification are not kept; a symbolic link is refused, and a hard link is another object of the same content,
// whose bytes count as those of a file.
func (s *Sandboxes) Tree(
	org, sandbox, path string, policy storage.TreePolicy, limits storage.TreeLimits, temp string, stale []string,
) storage.Destination {
	return &tree{boxes: s, at: file{org, sandbox, path}, policy: policy, limits: limits, temp: temp, stale: stale}
}

type tree struct {
	boxes  *Sandboxes
	at     file
	policy storage.TreePolicy
	limits storage.TreeLimits
	temp   string
	stale  []string

	files files // of the archive
	shown files // which this attempt has made visible, of a tree that must be new
}

const (
	hiddenTree = ".copyfleet-" // begins what no caller can name in a sandbox
	showing    = ".shows"      // ends the key that is there while a tree is shown, and that a successor takes away
	treeAtOnce = 8             // objects that are written, copied or removed at the same time
	// linkedBytes is how many bytes hard links may have for each byte of the archive: the store copies them, and nobody sent them.
	linkedBytes = 10
)

// NeedsSize reports false: an archive says where it ends.
func (t *tree) NeedsSize() bool { return false }

// Put unpacks an archive. The body is read to its end.
func (t *tree) Put(ctx context.Context, content storage.Content) (stored storage.Stored, err error) {
	if err := t.check("write"); err != nil {
		return storage.Stored{}, err
	}
	if content.OnlyNew && t.policy != storage.RepeatedTree {
		t.policy = storage.NewTree
	}
	if err := t.place(t.at.path).prepareBucket(ctx); err != nil {
		return storage.Stored{}, err
	}
	if err := t.discard(ctx); err != nil {
		return storage.Stored{}, err
	}
	if t.policy == storage.NewTree { // this look spares a transfer in vain; another one comes with the last step
		if err := t.expectRoom(ctx); err != nil {
			return storage.Stored{}, err
		}
	}
	stored, err = t.unpack(ctx, content)
	if err == nil {
		err = t.expectRoom(ctx)
	}
	if err == nil {
		err = t.place(t.at.path).askReady(ctx, content.Ready)
	}
	if err == nil {
		err = t.show(ctx)
	}
	left := t.cleanUp(ctx, err != nil)
	if err != nil {
		return storage.Stored{}, errors.Join(err, left)
	}
	return stored, nil
}

// cleanUp removes what this attempt leaves. It is best effort: what stays is hidden.
func (t *tree) cleanUp(ctx context.Context, failed bool) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), slowTimeout)
	defer cancel()
	var left error
	if failed {
		left = t.hide(ctx)
	}
	return errors.Join(left, t.removeBelow(ctx, t.hidden(t.temp)), t.mark(t.temp).Remove(ctx))
}

// check refuses names that are none. The archive's are checked as they come.
func (t *tree) check(op string) error {
	for _, token := range append([]string{t.temp}, t.stale...) {
		if token == "" || strings.ContainsAny(token, "/.\x00") {
			return storage.Errorf(storage.Internal, "token_invalid", op, t.place(t.at.path).subject(), "the token of the hidden objects is not valid")
		}
	}
	return t.place(t.at.path).check(op)
}

// root is where the sandbox is in the bucket.
func (t *tree) root() string { return t.boxes.prefix + t.at.org + "/" + t.at.sandbox + "/" }

// hidden is where an attempt keeps what it unpacked.
func (t *tree) hidden(token string) string { return t.root() + hiddenTree + token + "/" }

// mark is there while a tree that must be new is being shown. A successor takes it away: from then on what was shown is the successor's.
func (t *tree) mark(token string) *destination {
	return &destination{place{store: t.boxes.store, bucket: t.boxes.bucket, key: t.root() + hiddenTree + token + showing, file: t.at}}
}

// place is a file of the sandbox.
func (t *tree) place(path string) *destination {
	return &destination{t.boxes.place(t.at.org, t.at.sandbox, path)}
}

// hiddenPlace is where a file is until it is shown; errors name it as what it becomes.
func (t *tree) hiddenPlace(name string) *destination {
	d := t.place(t.at.path + "/" + name)
	d.key = t.hidden(t.temp) + name
	return d
}

// begin notes that the tree is becoming visible.
func (t *tree) begin(ctx context.Context) error {
	_, err := t.mark(t.temp).Put(ctx, storage.Content{Body: strings.NewReader("")})
	return err
}

// discard removes what predecessors left.
func (t *tree) discard(ctx context.Context) error {
	for _, token := range t.stale {
		if err := t.removeBelow(ctx, t.hidden(token)); err != nil {
			return err
		}
		if err := t.mark(token).Remove(ctx); err != nil {
			return err
		}
	}
	return nil
}

// noneOwn is for who has nothing in the tree's place.
func noneOwn(context.Context, string) (bool, error) { return false, nil }

// expectRoom refuses a tree that must be new if anything is in its place that is not its own.
func (t *tree) expectRoom(ctx context.Context) error {
	own := noneOwn
	switch t.policy {
	case storage.MergeTree, storage.ReplaceTree:
		return nil
	case storage.RepeatedTree:
		own = t.sameFile
	case storage.NewTree:
	}
	taken, err := t.taken(ctx, own)
	if err == nil && taken {
		return t.place(t.at.path).exists()
	}
	return err
}

// taken reports whether anything is in the tree's place, but for files that are its own.
func (t *tree) taken(ctx context.Context, own func(ctx context.Context, name string) (bool, error)) (bool, error) {
	at := t.place(t.at.path)
	_, err := at.head(ctx)
	if err == nil {
		return true, nil
	}
	if !isMissing(err) {
		return false, at.answered(ctx, err)
	}
	var found atomic.Bool
	err = t.each(ctx, at.key+"/", func(ctx context.Context, name string) error {
		if is, err := own(ctx, name); is || err != nil {
			return err
		}
		found.Store(true)
		return errStop
	})
	return found.Load(), err
}

// isMissing reports whether an object, or its bucket, is not there.
func isMissing(err error) bool { return minio.ToErrorResponse(err).StatusCode == http.StatusNotFound }

// Look tells whether anything is in the tree's place, and writes nothing.
func (t *tree) Look(ctx context.Context) (storage.Look, error) {
	if err := t.check("look at"); err != nil {
		return storage.Look{}, err
	}
	taken, err := t.taken(ctx, noneOwn)
	return storage.Look{Checked: err == nil, Exists: taken, Free: storage.UnknownSize}, err
}

// unpack writes what is in the archive to hidden keys.
func (t *tree) unpack(ctx context.Context, content storage.Content) (storage.Stored, error) {
	body := &counted{Reader: content.Body}
	u := &unpacker{tree: t, ctx: ctx, writes: newCrowd(ctx), body: body}
	err := archive.Walk(body, t.limits, u.visit)
	if failed := u.writes.wait(); failed != nil {
		err = failed // which the walk may have stopped for
	}
	if size := content.Size; size >= 0 && (body.n > size || body.ended && body.n < size) {
		code := "source_long"
		if body.n < size {
			code = storage.CodeSourceShort
		}
		return storage.Stored{}, storage.Errorf(storage.Corrupt, code, "write", t.place(t.at.path).subject(), "%d bytes came of the announced %d", body.n, size)
	}
	if err != nil {
		return storage.Stored{}, t.place(t.at.path).refused(ctx, err)
	}
	return storage.Stored{Bytes: body.n, Unpacked: &u.made}, nil
}

// counted counts what is read of a body.
type counted struct {
	io.Reader

	n     int64
	ended bool
}

// Read implements io.Reader.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	c.ended = c.ended || err == io.EOF // an error that wraps io.EOF is a broken connection, not the end
	return n, err                      //nolint:wrapcheck // what the body said is told as it is
}

// Discard removes what stale attempts left, and writes nothing.
func (t *tree) Discard() error {
	const op = "clean up"
	if err := t.check(op); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), slowTimeout) //nolint:forbidigo // who cleans up has none: the item has ended
	defer cancel()
	return t.discard(ctx)
}

// unpacker writes the entries of an archive.
type unpacker struct {
	tree   *tree
	ctx    context.Context
	writes *crowd
	made   storage.Unpacked
	body   *counted
	linked int64 // bytes of hard links
}

// visit writes one entry.
func (u *unpacker) visit(e archive.Entry) error {
	at := u.tree.hiddenPlace(e.Path)
	if err := u.tree.place(u.tree.at.path + "/" + e.Path).check("unpack"); err != nil {
		return err
	}
	switch e.Kind {
	case archive.Dir:
		return sandbox.CheckPath("unpack", at.file.org, at.file.sandbox, at.file.path)
	case archive.Symlink:
		return storage.Errorf(storage.Invalid, "archive_link_unsupported", "unpack", archive.Subject(e.Path),
			"a symbolic link cannot be kept in a sandbox that is in a bucket")
	case archive.Link:
		u.made.Files++
		return u.link(at, e)
	case archive.File:
	}
	u.made.Files++
	u.made.Bytes += e.Size
	u.tree.files.add(e.Path, e.Size)
	if e.Size > smallContent {
		return u.put(u.ctx, at, e.Body, e.Size)
	}
	data := make([]byte, e.Size)
	if _, err := io.ReadFull(e.Body, data); err != nil {
		return err //nolint:wrapcheck // what the body said is told as it is
	}
	return u.writes.do(func(ctx context.Context) error { return u.put(ctx, at, strings.NewReader(string(data)), e.Size) })
}

func (u *unpacker) put(ctx context.Context, at *destination, body io.Reader, size int64) error {
	_, err := at.Put(ctx, storage.Content{Body: body, Size: size})
	return err
}

// link makes another object of a file's content.
func (u *unpacker) link(at *destination, e archive.Entry) error {
	size, _ := u.tree.files.size(e.Target)
	if u.linked += size; u.linked > linkedBytes*u.body.n || u.linked > u.tree.limits.Bytes-u.made.Bytes {
		return storage.Errorf(storage.Invalid, archive.CodeTooLarge, "unpack", archive.Subject(e.Path),
			"with this one the hard links have %d bytes, each of which would be stored: too many for what was sent", u.linked)
	}
	u.tree.files.add(e.Path, size)
	if err := u.writes.wait(); err != nil { // the file may be among them
		return err
	}
	u.writes = newCrowd(u.ctx)
	_, err := at.copyFrom(u.ctx, u.tree.hiddenPlace(e.Target).place, storage.DirectCopy{Mark: storage.Mark{Size: storage.UnknownSize}})
	return err
}
