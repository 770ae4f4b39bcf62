package worker

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/object"
	"github.com/copyfleet/copyfleet/storage/sandbox"
)

var _, _ TreeDriver = (*sandbox.Store)(nil), (*object.Sandboxes)(nil)

// unpacking publishes sessions of an archive, each time as a new batch, into a real sandbox.
type unpacking struct {
	*stagedKit

	dir   string // of the sandbox
	count int
}

func newUnpacking(t *testing.T, files map[string]string) *unpacking {
	t.Helper()
	root := t.TempDir()
	boxes, err := sandbox.Open(root, sandbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = boxes.Close() })
	k := &unpacking{newStagedKit(t, nil, nil), filepath.Join(root, "O", "a"), 0}
	k.data = tarOf(t, files)
	// It came in one piece: of parts there are tests elsewhere.
	k.upload.Direct, k.upload.Length, k.upload.Kind = true, int64(len(k.data)), protocol.UploadTree
	if _, err := k.place().Put(t.Context(), storage.Content{Body: bytes.NewReader(k.data), Size: k.upload.Length}); err != nil {
		t.Fatal(err)
	}
	w, err := New(t.Context(), k.config("w1"), k.conn, Drivers{Sandboxes: boxes, Staging: k.staging}, k.sealer)
	if err != nil {
		t.Fatal(err)
	}
	k.start(t, w)
	return k
}

// into publishes the session to a path.
func (k *unpacking) into(t *testing.T, path string, policy protocol.ConflictPolicy, sum string) protocol.Receipt {
	t.Helper()
	k.count++
	k.ref.Batch = protocol.BatchID("b" + strings.Repeat("x", k.count))
	k.upload.Batch = k.ref.Batch
	k.publishSession(t, func(item *protocol.ManifestItem) {
		item.Dest = protocol.Location{Type: protocol.SandboxTree, Sandbox: "a", Path: path}
		item.Conflict, item.Expect.SHA256 = policy, sum
	})
	return k.final(t)
}

// list is what is in the sandbox: files with their content, and links with where they lead.
func (k *unpacking) list(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(k.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() && path == k.dir {
			return err
		}
		name, _ := filepath.Rel(k.dir, path)
		switch {
		case e.Type()&fs.ModeSymlink != 0:
			found[name], err = os.Readlink(path)
		case !e.IsDir():
			var data []byte
			data, err = os.ReadFile(path)
			found[name] = string(data)
		case strings.Contains(name, "copyfleet"):
			found[name] = "hidden directory"
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return found
}

func (k *unpacking) has(t *testing.T, want map[string]string) {
	t.Helper()
	got := k.list(t)
	for name, content := range want {
		if got[name] != content {
			t.Errorf("%s is %q, want %q", name, got[name], content)
		}
		delete(got, name)
	}
	for name, content := range got {
		t.Errorf("%s is there: %q", name, content)
	}
}

// TestArchiveBecomesDirectory publishes an archive where nothing is, over another directory, into one, and where nothing may be.
func TestArchiveBecomesDirectory(t *testing.T) {
	t.Parallel()
	k := newUnpacking(t, map[string]string{"a": "one", "sub/b": "two"})
	if r := k.into(t, "/d/e", protocol.FailIfThere, strings.Repeat("0", 64)); r.State != protocol.ItemFailed || r.Failure.Class != protocol.Corrupt {
		t.Errorf("of a wrong digest: %+v, %+v", r, r.Failure)
	}
	k.has(t, nil)
	tree := map[string]string{"d/e/a": "one", "d/e/sub/b": "two", "d/e/sub/link": "a"}
	r := k.into(t, "/d/e", protocol.FailIfThere, hexOf(k.data))
	if r.State != protocol.ItemSucceeded || r.SHA256 != hexOf(k.data) || r.Unpacked == nil || *r.Unpacked != (protocol.Unpacked{Files: 3, Bytes: 6}) {
		t.Errorf("%+v, %+v", r, r.Failure)
	}
	k.has(t, tree)
	if r := k.into(t, "/d/e", protocol.FailIfThere, ""); r.State != protocol.ItemFailed || r.Failure.Code != storage.CodeDestinationExists {
		t.Errorf("a second time: %+v, %+v", r, r.Failure)
	}
	k.upload.Generation = 2 // the first batch came to its end, as far as anybody knows
	if r := k.into(t, "/d/e", protocol.FailIfThere, ""); r.State != protocol.ItemSucceeded || r.Unpacked == nil || r.Unpacked.Files != 3 {
		t.Errorf("of a later generation: %+v, %+v", r, r.Failure)
	}
	for name, content := range map[string]string{"more": "kept", "a": "other"} {
		if err := os.WriteFile(filepath.Join(k.dir, "d", "e", name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if r := k.into(t, "/d/e", protocol.FailIfThere, ""); r.State != protocol.ItemFailed || r.Failure.Code != storage.CodeDestinationExists {
		t.Errorf("over something else: %+v, %+v", r, r.Failure)
	}
	if r := k.into(t, "/d/e", protocol.MergeTree, ""); r.State != protocol.ItemSucceeded {
		t.Errorf("merged: %+v, %+v", r, r.Failure)
	}
	tree["d/e/more"] = "kept"
	k.has(t, tree)
	if r := k.into(t, "/d/e", protocol.Overwrite, ""); r.State != protocol.ItemSucceeded {
		t.Errorf("replaced: %+v, %+v", r, r.Failure)
	}
	delete(tree, "d/e/more")
	k.has(t, tree)
}

// TestHostileArchiveLeavesNothing: what must not be unpacked fails for good, at once, with nothing visible or hidden.
func TestHostileArchiveLeavesNothing(t *testing.T) {
	t.Parallel()
	k := newUnpacking(t, map[string]string{"a": "one", "../../out": "two"})
	r := k.into(t, "/d", protocol.MergeTree, "")
	if r.State != protocol.ItemFailed || r.Failure.Class != protocol.Invalid || len(r.Attempts) != 1 || r.Unpacked != nil {
		t.Errorf("%+v, %+v", r, r.Failure)
	}
	k.has(t, nil)
}
