package hostile

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

// TestTrapsInASandbox checks what a receipt says of each thing that is no regular file, and that none of them holds a
// copy up: all of it is over while nobody has opened the other end of the FIFO.
func TestTrapsInASandbox(t *testing.T) {
	t.Parallel()
	f, _ := up(t, "SLOTS=2")
	outside := t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("outside"), 0o644))
	f.FromSandbox(t, "/dir/file", []byte("inside"))
	must(t, syscall.Mkfifo(f.OnDisk("/fifo"), 0o666))
	must(t, os.Symlink("/etc/passwd", f.OnDisk("/absolute")))
	must(t, os.Symlink(outside, f.OnDisk("/out")))
	must(t, os.Symlink("../../../../../../../../"+outside, f.OnDisk("/dir/up")))
	must(t, os.Symlink("loop", f.OnDisk("/loop")))
	must(t, os.Symlink("dir/file", f.OnDisk("/inside")))
	must(t, os.Symlink("dir", f.OnDisk("/dirlink")))
	socket, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", shortSocket(t, f.OnDisk("/socket")))
	must(t, err)
	t.Cleanup(func() { _ = socket.Close() })

	type row struct {
		from, to string
		class    protocol.Class // "": it succeeds
		code     string
	}
	rows := []row{
		{"/fifo", "/r1", protocol.Invalid, "source_not_regular"},
		{"/socket", "/r2", protocol.Invalid, "source_not_regular"},
		{"/dir", "/r3", protocol.Invalid, "source_is_directory"},
		{"/absolute", "/r4", protocol.Denied, "path_escapes"},
		{"/out/secret", "/r5", protocol.Denied, "path_escapes"},
		{"/dir/up/secret", "/r6", protocol.Denied, "path_escapes"},
		{"/loop", "/r7", protocol.Invalid, "symlink_loop"},
		{"/dir/file/below", "/r8", protocol.NotFound, "sandbox_file_not_found"},
		{"/dir/file", "/fifo", protocol.Conflict, "destination_not_regular"},
		{"/dir/file", "/socket", protocol.Conflict, "destination_not_regular"},
		{"/dir/file", "/absolute", protocol.Conflict, "destination_not_regular"},
		{"/dir/file", "/out/w1", protocol.Denied, "path_escapes"},
		{"/dir/file", "/out/new/w2", protocol.Denied, "path_escapes"},
		{"/dir/file", "/dir/up/w3", protocol.Denied, "path_escapes"},
		{"/inside", "/r9", "", ""},
		{"/inside", "/dirlink/r10", "", ""},
	}
	var batch mixtest.Batch
	for _, r := range rows {
		batch = append(batch, mixtest.Copy{ID: r.from + " to " + r.to, Src: mixtest.ToSandbox(r.from), Dest: mixtest.ToSandbox(r.to), Content: []byte("inside"), Fails: r.class})
	}
	called, err := f.API.Copy(t.Context(), f.Sandbox, nil, batch.Files())
	if err != nil || called.Status != http.StatusOK {
		t.Fatalf("status %d, %v: %s", called.Status, err, called.Body)
	}
	for i, r := range f.Check(t, called.Batch(), batch, limit) {
		if r.Failure != nil && (r.Failure.Code != rows[i].code || len(r.Attempts) != 1) {
			t.Errorf("%s: %s after %d attempts, want %s after one", r.ID, r.Failure.Code, len(r.Attempts), rows[i].code)
		}
	}
	left, err := os.ReadDir(outside)
	if err != nil || len(left) != 1 {
		t.Errorf("outside of the sandbox there are %v, %v", left, err)
	}
	if info, err := os.Lstat(f.OnDisk("/fifo")); err != nil || info.Mode().Type() != os.ModeNamedPipe {
		t.Errorf("the FIFO became %v, %v", info, err)
	}
}

// shortSocket returns a path for a socket that then is at name: those paths may have a hundred bytes only.
func shortSocket(t *testing.T, name string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "s") //nolint:usetesting // its directories have the name of the test in them, which is too long
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	link := filepath.Join(dir, "d")
	must(t, os.Symlink(filepath.Dir(name), link))
	return filepath.Join(link, filepath.Base(name))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
