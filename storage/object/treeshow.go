package object

import (
	"context"
	"errors"
	"strings"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sync/errgroup"

	"github.com/copyfleet/copyfleet/storage"
)

// mustBeNew reports whether nothing may be replaced.
func (t *tree) mustBeNew() bool {
	return t.policy == storage.NewTree || t.policy == storage.RepeatedTree
}

// show makes the tree visible.
func (t *tree) show(ctx context.Context) error {
	if t.mustBeNew() {
		if err := t.begin(ctx); err != nil {
			return err
		}
	}
	if t.policy == storage.ReplaceTree {
		// A store that keeps objects as files has no place below it.
		if err := t.place(t.at.path).Remove(ctx); err != nil {
			return err
		}
	}
	if err := t.each(ctx, t.hidden(t.temp), t.showFile); err != nil || t.policy != storage.ReplaceTree {
		return err
	}
	return t.each(ctx, t.place(t.at.path).key+"/", t.removeUnknown)
}

// hide removes what this attempt has shown of a tree that must be new. If a successor has come it is left alone.
func (t *tree) hide(ctx context.Context) error {
	if t.shown.count() == 0 {
		return nil
	}
	if _, err := t.mark(t.temp).head(ctx); err != nil {
		if isMissing(err) {
			return nil
		}
		return t.place(t.at.path).answered(ctx, err)
	}
	return t.each(ctx, t.place(t.at.path).key+"/", func(ctx context.Context, name string) error {
		if _, shown := t.shown.size(name); !shown {
			return nil
		}
		if same, err := t.sameFile(ctx, name); !same || err != nil { // somebody else's by now
			return err
		}
		return t.removeKey(ctx, t.place(t.at.path+"/"+name).key)
	})
}

// showFile copies a file to its key.
func (t *tree) showFile(ctx context.Context, name string) error {
	at, from := t.place(t.at.path+"/"+name), t.hiddenPlace(name).place
	c := storage.DirectCopy{Mark: storage.Mark{Size: storage.UnknownSize}, OnlyNew: t.mustBeNew()}
	_, err := at.copyFrom(ctx, from, c)
	e, ok := errors.AsType[*storage.Error](err)
	switch exists := ok && e.Code == storage.CodeDestinationExists; {
	case !t.mustBeNew():
	case !exists: // after an error it may be there all the same
		t.shown.add(name, 0)
	case t.policy == storage.RepeatedTree:
		if same, failed := t.sameFile(ctx, name); same || failed != nil {
			return failed
		}
	}
	if ok && t.policy == storage.ReplaceTree && (e.Code == codeParent || e.Code == codeDirectory) {
		// This store keeps objects as files. What stands in the way is not in the archive, so it goes before its time.
		if err := t.clearWay(ctx, name); err != nil {
			return err
		}
		_, err = at.copyFrom(ctx, from, c)
	}
	return err
}

// clearWay removes the files that are directories in the archive, and the directory that is a file there.
func (t *tree) clearWay(ctx context.Context, name string) error {
	for i := range len(name) {
		if name[i] != '/' {
			continue
		}
		if err := t.place(t.at.path + "/" + name[:i]).Remove(ctx); err != nil {
			if e, ok := errors.AsType[*storage.Error](err); !ok || e.Class != storage.Conflict {
				return err
			}
		}
	}
	return t.removeBelow(ctx, t.place(t.at.path+"/"+name).key+"/")
}

// sameFile reports whether what is in the place of a file is what was unpacked.
func (t *tree) sameFile(ctx context.Context, name string) (bool, error) {
	if _, known := t.files.size(name); !known {
		return false, nil
	}
	at := t.place(t.at.path + "/" + name)
	there, err := at.head(ctx)
	if isMissing(err) {
		return false, nil
	}
	var made minio.ObjectInfo
	if err == nil {
		made, err = t.hiddenPlace(name).head(ctx)
	}
	if err != nil {
		return false, at.answered(ctx, err)
	}
	return sameContent(&made, &there), nil
}

// sameContent reports whether the store tells of two objects that they have the same content.
func sameContent(a, b *minio.ObjectInfo) bool {
	if a.Size != b.Size {
		return false
	}
	of, other := digestsOf(a), digestsOf(b)
	for kind, sum := range of {
		if other[kind] == sum {
			return true
		}
	}
	md5 := of[storage.DigestMD5]
	return a.Size == 0 || md5 != "" && b.ETag == composedETag([]storage.PartStored{{ETag: md5}}) // copied in one part
}

// removeUnknown removes a file that the archive lacks. What the archive has is known here: a worker that lost the item, whose hidden objects a
// successor has removed, must not take the successor's files for some that it lacks.
func (t *tree) removeUnknown(ctx context.Context, name string) error {
	if _, known := t.files.size(name); known {
		return nil
	}
	return t.removeKey(ctx, t.place(t.at.path+"/"+name).key)
}

// removeBelow removes the objects whose keys begin so.
func (t *tree) removeBelow(ctx context.Context, prefix string) error {
	return t.each(ctx, prefix, func(ctx context.Context, name string) error { return t.removeKey(ctx, prefix+name) })
}

// removeKey removes an object that was found, whatever its name is: it may be one that no path of a sandbox has.
func (t *tree) removeKey(ctx context.Context, key string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := t.boxes.store.client.RemoveObject(ctx, t.boxes.bucket, key, minio.RemoveObjectOptions{})
	if err == nil || minio.ToErrorResponse(err).Code == minio.NoSuchKey {
		return nil
	}
	return t.place(t.at.path).answered(ctx, err)
}

// errStop ends a walk through a listing that has found enough.
var errStop = errors.New("enough was found")

// each calls do for the names of objects behind a prefix, several at once, until one fails. What it removes or writes may or may not be told any more.
func (t *tree) each(ctx context.Context, prefix string, do func(ctx context.Context, name string) error) error {
	work := newCrowd(ctx)
	var failed error
	for found := range t.boxes.store.client.ListObjectsIter(work.going, t.boxes.bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
		if failed = found.Err; failed != nil {
			break
		}
		name := strings.TrimPrefix(found.Key, prefix)
		if failed = work.do(func(ctx context.Context) error { return do(ctx, name) }); failed != nil {
			break
		}
	}
	if err := work.wait(); err != nil {
		if errors.Is(err, errStop) {
			return nil
		}
		return err
	}
	if failed != nil && minio.ToErrorResponse(failed).Code != minio.NoSuchBucket { // where nothing can be
		return t.place(t.at.path).answered(ctx, failed)
	}
	if err := ctx.Err(); err != nil { // the listing may have ended with it
		return t.place(t.at.path).answered(ctx, err)
	}
	return nil
}

// crowd does several things at once, and begins no more once one has failed. What runs then comes to its end: a store that is no longer listened to
// may still make an object visible, after it was looked for what is to be removed.
type crowd struct {
	group *errgroup.Group
	ctx   context.Context // of what is done
	going context.Context // until one fails
}

func newCrowd(ctx context.Context) *crowd {
	group, going := errgroup.WithContext(ctx)
	group.SetLimit(treeAtOnce)
	return &crowd{group, ctx, going}
}

// do begins something when there is a place. It fails once anything has failed; wait tells why.
func (c *crowd) do(f func(ctx context.Context) error) error {
	if err := c.going.Err(); err != nil {
		return err //nolint:wrapcheck // told by wait
	}
	c.group.Go(func() error { return f(c.ctx) })
	return nil
}

// wait returns when all that was begun has ended, with the first error.
func (c *crowd) wait() error { return c.group.Wait() } //nolint:wrapcheck // as it was told
