package hostile

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

// TestSandboxThatMisbehaves copies from and to what is no regular file.
func TestSandboxThatMisbehaves(t *testing.T) {
	t.Parallel()
	f, _ := up(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	secret := filepath.Join(t.TempDir(), "secret")
	must(os.WriteFile(secret, []byte("outside"), 0o600))
	f.FromSandbox(t, "/file", []byte("x"))
	must(syscall.Mkfifo(f.OnDisk("/fifo"), 0o600))
	must(os.Symlink(secret, f.OnDisk("/link")))
	must(os.Symlink(filepath.Dir(secret), f.OnDisk("/dirlink")))
	must(os.Mkdir(f.OnDisk("/dir"), 0o700))
	at := mixtest.ToSandbox
	var batch mixtest.Batch
	for i, pair := range [][2]string{
		{"/fifo", "/a"}, {"/file", "/fifo"}, {"/link", "/b"}, {"/dirlink/secret", "/c"}, {"/file", "/dirlink/written"},
		{"/dir", "/d"}, {"/file", "/dir"}, {"/file", "/file/below"}, {"/missing", "/e"},
	} {
		batch = append(batch, mixtest.Copy{ID: fmt.Sprint(i), Src: at(pair[0]), Dest: at(pair[1])})
	}
	answer, err := f.API.Copy(t.Context(), f.Sandbox, nil, batch.Files())
	if err != nil || answer.Status != http.StatusOK {
		t.Fatalf("status %d, %v", answer.Status, err)
	}
	var body struct {
		Results []struct {
			Success bool   `json:"success"`
			Error   string `json:"error"`
		} `json:"results"`
	}
	must(json.Unmarshal(answer.Body, &body))
	for i, r := range body.Results {
		if r.Success || r.Error == "" {
			t.Errorf("%v to %v: %+v", batch[i].Src, batch[i].Dest, r)
		}
	}
	for _, name := range []string{"/a", "/b", "/c", "/d", "/e"} {
		if _, err := os.Lstat(f.OnDisk(name)); err == nil {
			t.Errorf("%s came into being", name)
		}
	}
	if _, err := os.Lstat(filepath.Join(filepath.Dir(secret), "written")); err == nil {
		t.Error("a file came into being outside the sandbox")
	}
	f.CheckNothingHidden(t)
}

// TestGuardOfAWorker runs a worker without an allowance for loopback.
func TestGuardOfAWorker(t *testing.T) {
	t.Parallel()
	f, _ := up(t, "EGRESS_ALLOW=192.0.2.0/24")
	batch := mixtest.Batch{{ID: "x", Src: mixtest.FromURL(f.Give("/x", []byte("x"))), Dest: mixtest.ToSandbox("/x"), Fails: protocol.ForbiddenAddress}}
	answer, err := f.API.Copy(t.Context(), f.Sandbox, nil, batch.Files())
	if err != nil {
		t.Fatal(err)
	}
	f.Check(t, answer.Batch(), batch, limit)
	if f.Asked("/x") != 0 {
		t.Error("the forbidden address was reached")
	}
}
