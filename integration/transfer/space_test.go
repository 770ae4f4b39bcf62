package transfer

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

// TestDiskThatIsFullInTheMiddle copies more than there is room for, and then what there is room for.
func TestDiskThatIsFullInTheMiddle(t *testing.T) {
	t.Parallel()
	for name, env := range map[string][]string{"one after the other": alone, "spread": small} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, miniotest.Shared(t), 2, env...)
			dir := filepath.Join(f.Dir, "little")
			if err := os.Mkdir(dir, 0o777); err != nil {
				t.Fatal(err)
			}
			if !little(t, dir) {
				t.Log("no file system can be mounted here: the tests of the sandbox driver fill a disk without one")
				return
			}
			files := []item{
				{id: "too-large", src: f.from("/too-large"), dest: mixtest.ToSandbox("/little/too-large.bin"), content: content{1, 64 * mib}},
				{id: "fits", src: f.from("/fits"), dest: mixtest.ToSandbox("/little/fits.bin"), content: content{2, 12 * mib}},
			}
			for _, i := range files {
				f.give("/"+i.id, served{content: i.content, rate: 20 * mib})
			}
			id := f.submit(t, "", files[0])
			f.API.WaitFinal(t, id, settles)
			receipts, err := f.API.Receipts(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			if r := &receipts[0]; r.State != protocol.ItemFailed || r.Failure.Class != protocol.NoSpace || r.Failure.Code != "no_space" {
				t.Errorf("%s, %+v", r.State, r.Failure)
			}
			f.nothingLeft(t, files...)
			if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
				t.Errorf("%v, %v are left", entries, err)
			}
			f.check(t, f.submit(t, "", files[1]), files[1])
			t.Logf("2 items, 1 fault (disk full in the middle), 0 lost")
		})
	}
}

// little mounts a file system of 32 MiB, where the process may.
func little(t *testing.T, dir string) bool {
	t.Helper()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=33554432"); err != nil {
		if os.Geteuid() == 0 {
			t.Fatal(err)
		}
		return false
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return true
}
