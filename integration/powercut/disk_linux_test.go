package powercut

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
)

// disk is an ext4 file system in an image file.
type disk struct {
	dir   string // where it is mounted
	image string
}

const (
	diskSize = 4 << 30 // bytes; the image has holes where nothing was written
	freed    = time.Minute
)

// newDisk makes and mounts a disk, where the process may; nil: it may not.
func newDisk(t *testing.T) *disk {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	d := &disk{dir: t.TempDir(), image: filepath.Join(t.TempDir(), "image")}
	file, err := os.Create(d.image)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := file.Truncate(diskSize); err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		t.Fatalf("root's tests make disks of their own: %v; install it (Debian, Ubuntu, Fedora, Alpine: package e2fsprogs)", err)
	}
	command(t, "mkfs.ext4", "-q", "-F", d.image)
	d.mount(t)
	t.Cleanup(func() { d.unmount(t) })
	return d
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
}

func (d *disk) mount(t *testing.T) {
	t.Helper()
	command(t, "mount", "-o", "loop", d.image, d.dir)
}

// unmount waits for the last one to leave the disk.
func (d *disk) unmount(t *testing.T) {
	t.Helper()
	var err error
	if !mixtest.Until(freed, func() bool { err = unix.Unmount(d.dir, 0); return err == nil }) {
		t.Errorf("unmount %s: %v", d.dir, err)
	}
}

// sub makes a directory that survives.
func (d *disk) sub(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(d.dir, name)
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

// unsynced is a file that nobody syncs: a disk that has it after a cut was copied too late, or with what was not on it yet.
const unsynced = "unsynced"

// halt copies the disk as it is, without what only memory holds. Nobody writes to it meanwhile.
func (d *disk) halt(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, unsynced), []byte("lost"), 0o666); err != nil {
		t.Fatal(err)
	}
	command(t, "cp", "--sparse=always", d.image, d.image+".cut")
}

// restart puts the copy into the disk's place.
func (d *disk) restart(t *testing.T) {
	t.Helper()
	d.unmount(t)
	if err := os.Rename(d.image+".cut", d.image); err != nil {
		t.Fatal(err)
	}
	d.mount(t)
	if text, err := os.ReadFile(filepath.Join(d.dir, unsynced)); len(text) > 0 {
		t.Fatalf("the cut spared what was in memory only: %q, %v", text, err)
	}
}
