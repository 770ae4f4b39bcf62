package sandbox

import (
	"errors"

	"golang.org/x/sys/unix"
)

// identify tells which file bears a name in the directory; links are not followed.
func (d directory) identify(name string) (identity, error) {
	var st unix.Statx_t
	err := uninterrupted(func() error {
		return unix.Statx(d.fd(), name, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_TYPE|unix.STATX_INO|unix.STATX_SIZE|unix.STATX_BTIME, &st)
	})
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) { // a filter of system calls that knows no statx
		return d.identifyByInode(name)
	}
	if err != nil {
		return identity{}, err
	}
	id := identity{inode: st.Ino, size: int64(st.Size), regular: uint32(st.Mode)&unix.S_IFMT == unix.S_IFREG} //nolint:gosec // sizes of files are positive
	if st.Mask&unix.STATX_BTIME != 0 {
		id.born = st.Btime.Sec*1e9 + int64(st.Btime.Nsec)
	}
	return id, nil
}
