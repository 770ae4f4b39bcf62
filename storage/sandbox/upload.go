package sandbox

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/copyfleet/copyfleet/storage"
)

// leastInParts is the size from which on an item may have been begun in parts, in bytes. Of smaller ones nothing is looked for.
const leastInParts = 1 << 20

// identity tells one file from others, also after its number was given to another one.
type identity struct {
	inode   uint64
	born    int64 // nanoseconds since 1970; 0: the file system does not tell
	size    int64
	regular bool
}

func (i identity) same(o identity) bool { return i.inode == o.inode && i.born == o.born }

// identifyByInode is identify for systems that do not tell when a file was made.
func (d directory) identifyByInode(name string) (identity, error) {
	var st unix.Stat_t
	err := uninterrupted(func() error { return unix.Fstatat(d.fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	if err != nil {
		return identity{}, err
	}
	return identity{inode: st.Ino, size: st.Size, regular: uint32(st.Mode)&unix.S_IFMT == unix.S_IFREG}, nil //nolint:unconvert // 16 bits on darwin
}

// upload is a hidden file that parts are written to. Its name, as others keep it, is
//
//	<token of the attempt that began it>.<nonce>.<size>.<inode>.<birth>
//
// with numbers to the base 36. The file bears the first two: no two uploads ever have one name, so nobody who comes late writes to
// another one, and a token is never followed by a dot, so a Put does not take it. The last two tell the file itself after it
// became visible.
type upload struct {
	token, nonce string
	size         int64
	id           identity
}

// newUpload names an upload. What it is to be told by is known once it is there.
func newUpload(token string, size int64) (upload, error) {
	var nonce [8]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return upload{}, err
	}
	return upload{token: token, nonce: strconv.FormatUint(binary.BigEndian.Uint64(nonce[:]), numberBase), size: size}, nil
}

const numberBase = 36

func (u upload) String() string {
	return strings.Join([]string{
		u.token, u.nonce, strconv.FormatInt(u.size, numberBase),
		strconv.FormatUint(u.id.inode, numberBase), strconv.FormatInt(u.id.born, numberBase),
	}, ".")
}

// hidden is the name of the file.
func (u upload) hidden() string { return hiddenPrefix + u.token + "." + u.nonce }

// parseUpload reads a name.
func (d *destination) parseUpload(op, name string) (upload, error) {
	fields := strings.Split(name, ".")
	if len(fields) == 5 && validToken(fields[0]) && validToken(fields[1]) && len(fields[1]) <= maxNonce {
		u := upload{token: fields[0], nonce: fields[1]}
		var errs [3]error
		u.size, errs[0] = strconv.ParseInt(fields[2], numberBase, 64)
		u.id.inode, errs[1] = strconv.ParseUint(fields[3], numberBase, 64)
		u.id.born, errs[2] = strconv.ParseInt(fields[4], numberBase, 64)
		if errors.Join(errs[:]...) == nil && u.size >= 0 {
			return u, nil
		}
	}
	return upload{}, storage.Errorf(storage.Invalid, "upload_invalid", op, d.place.subject(), "this driver gives no such names to what parts are written to")
}

const maxNonce = 13 // digits of 64 bits

// openUpload opens the file of an upload, which has the name hidden, for reading or writing. Whatever else is in its place, it is gone:
// the caller begins anew.
func (d *destination) openUpload(dir directory, u upload, hidden, op string, mode int) (*os.File, error) {
	file, err := dir.reopen(hidden, mode)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENXIO), errors.Is(err, unix.EISDIR):
		return nil, d.gone(op, "it is not there")
	case err != nil:
		return nil, d.store.fail(op, d.place, err)
	}
	if err := d.whole(file, u, op); err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

// whole reports a file that is not, or not any more, what was begun. One that has another name as well might be anybody's: a process
// in the sandbox could have us write to what it may not write itself.
func (d *destination) whole(file *os.File, u upload, op string) error {
	var st unix.Stat_t
	if err := uninterrupted(func() error { return unix.Fstat(int(file.Fd()), &st) }); err != nil {
		return d.store.fail(op, d.place, err)
	}
	switch {
	case uint32(st.Mode)&unix.S_IFMT != unix.S_IFREG: //nolint:unconvert // 16 bits on darwin
		return d.gone(op, "something else is in its place")
	case st.Nlink == 0:
		return d.gone(op, "it was removed")
	case st.Nlink > 1:
		return d.gone(op, "it has another name")
	case st.Size != u.size:
		return d.gone(op, "its length was changed")
	}
	return nil
}

// gone is the error for an upload that is not there.
func (d *destination) gone(op, why string) error {
	return storage.Errorf(storage.Conflict, storage.CodeUploadGone, op, d.place.subject(), "what parts were written to is gone: %s", why)
}

// removeUploads removes what the stale attempts began, except keep.
func (d *destination) removeUploads(dir directory, keep string) error {
	if len(d.stale) == 0 {
		return nil
	}
	var kept string
	if u, err := d.parseUpload("clean up", keep); err == nil {
		kept = u.hidden()
	}
	for {
		names, err := dir.file.Readdirnames(1024)
		for _, name := range names {
			if name == kept || !d.isStale(name) {
				continue
			}
			if err := dir.unlink(name); err != nil && !errors.Is(err, unix.EISDIR) { // a directory is none of ours
				return d.store.fail("remove what a predecessor began", d.place, err)
			}
		}
		if err == io.EOF { // os.File returns io.EOF itself
			return nil
		}
		if err != nil {
			return d.store.fail("read the directory", d.place, err)
		}
	}
}

// isStale reports whether a name is that of an upload of a stale attempt.
func (d *destination) isStale(name string) bool {
	rest, hidden := strings.CutPrefix(name, hiddenPrefix)
	token, _, upload := strings.Cut(rest, ".")
	return hidden && upload && slices.Contains(d.stale, token)
}
