package mixtest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/protocol"
)

// World is where the files of a test are: a peer, one sandbox on disk, one bucket.
type World struct {
	*Peer

	API     API
	Sandbox string
	Dir     string // of the sandbox
	Bucket  string
}

// NewWorld makes the sandbox's directory below the fleet's directory of sandboxes.
func NewWorld(t testing.TB, api API, sandboxes, sandbox, bucket string) *World {
	t.Helper()
	w := &World{Peer: NewPeer(t), API: api, Sandbox: sandbox, Dir: filepath.Join(sandboxes, api.Org, sandbox), Bucket: bucket}
	if err := os.MkdirAll(w.Dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return w
}

// Copy is one item with what must come of it.
type Copy struct {
	ID      string
	Src     map[string]any
	Dest    map[string]any
	Content []byte
	// Fails is the class of the failure that the item must end with; "": it must succeed.
	Fails protocol.Class
	// MayFail is the class of a failure that the item may end with instead of succeeding; "": none.
	MayFail protocol.Class
}

// Batch is a list of copies.
type Batch []Copy

// Files is the batch as the copy call takes it.
func (b Batch) Files() []map[string]any {
	files := make([]map[string]any, len(b))
	for i, c := range b {
		files[i] = map[string]any{"id": c.ID, "src": c.Src, "dest": c.Dest}
	}
	return files
}

// Mixed makes a batch of n copies with names of its own: HTTP to sandbox, sandbox to object, HTTP to object, sandbox
// to PUT and HTTP to PUT in turn, of sizes from nothing to some hundred KiB.
func (w *World) Mixed(t testing.TB, name string, n int) Batch {
	t.Helper()
	random := rand.New(rand.NewPCG(seedOf(name), uint64(n)))
	batch := make(Batch, n)
	for i := range batch {
		c := Copy{ID: fmt.Sprintf("%s-%d", name, i), Content: content(random)}
		path := fmt.Sprintf("/%s/%d.bin", name, i)
		switch i % 5 {
		case 0:
			c.Src, c.Dest = w.fromHTTP(path, c.Content), ToSandbox("/out"+path)
		case 1:
			c.Src, c.Dest = w.FromSandbox(t, "/in"+path, c.Content), w.ToObject(path[1:])
		case 2:
			c.Src, c.Dest = w.fromHTTP(path, c.Content), w.ToObject(path[1:])
		case 3:
			c.Src, c.Dest = w.FromSandbox(t, "/in"+path, c.Content), w.ToPut("/up"+path)
		case 4:
			c.Src, c.Dest = w.fromHTTP(path, c.Content), w.ToPut("/up"+path)
		}
		batch[i] = c
	}
	return batch
}

// Small makes a batch of n little files from HTTP to the sandbox.
func (w *World) Small(name string, n int) Batch {
	batch := make(Batch, n)
	for i := range batch {
		c := Copy{ID: fmt.Sprintf("%s-%d", name, i), Content: fmt.Appendf(nil, "item %d of %s", i, name)}
		path := fmt.Sprintf("/%s/%d.txt", name, i)
		c.Src, c.Dest = w.fromHTTP(path, c.Content), ToSandbox("/out"+path)
		batch[i] = c
	}
	return batch
}

func seedOf(name string) uint64 {
	sum := sha256.Sum256([]byte(name))
	return uint64(sum[0])<<8 | uint64(sum[1])
}

// content is mostly small, sometimes nothing, and sometimes more than a buffer.
func content(random *rand.Rand) []byte {
	size := random.IntN(8 << 10)
	switch random.IntN(10) {
	case 0:
		size = 0
	case 1:
		size = 300<<10 + random.IntN(200<<10)
	}
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	return data
}

func (w *World) fromHTTP(path string, content []byte) map[string]any {
	return FromURL(w.Give("/get"+path, content))
}

// FromURL is an HTTP source.
func FromURL(url string) map[string]any { return map[string]any{"type": "httpGetLocation", "url": url} }

// FromSandbox puts a file into the sandbox and makes it a source.
func (w *World) FromSandbox(t testing.TB, path string, content []byte) map[string]any {
	t.Helper()
	name := w.OnDisk(path)
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, content, 0o666); err != nil {
		t.Fatal(err)
	}
	return ToSandbox(path)
}

// ToSandbox is a file of the sandbox.
func ToSandbox(path string) map[string]any {
	return map[string]any{"type": "sandboxFileLocation", "path": path}
}

// ToObject is an object in the bucket.
func (w *World) ToObject(key string) map[string]any {
	return map[string]any{"type": "objectLocation", "bucket": w.Bucket, "key": key}
}

// ToPut is an upload to the peer.
func (w *World) ToPut(path string) map[string]any {
	return map[string]any{"type": "httpPutLocation", "url": w.URL + path}
}

// OnDisk is where a path of the sandbox lies.
func (w *World) OnDisk(path string) string { return filepath.Join(w.Dir, filepath.FromSlash(path)) }

// Arrived reads what a copy's destination holds. Of uploads to the peer it is the last whole one.
func (w *World) Arrived(ctx context.Context, c *Copy) ([]byte, error) {
	text := func(member string) string { s, _ := c.Dest[member].(string); return s }
	switch protocol.LocationType(text("type")) {
	case protocol.SandboxFile:
		return os.ReadFile(w.OnDisk(text("path")))
	case protocol.Object:
		return w.API.Object(ctx, text("bucket"), text("key"))
	case protocol.HTTPPut:
		taken := w.Taken(strings.TrimPrefix(text("url"), w.URL))
		if len(taken) == 0 {
			return nil, fmt.Errorf("nothing was uploaded to %s", text("url"))
		}
		return taken[len(taken)-1], nil
	case protocol.HTTPGet, protocol.HTTPPostForm, protocol.StagedUpload, protocol.SandboxTree:
	}
	return nil, fmt.Errorf("cannot look at a destination of type %s", text("type"))
}

// SHA256 is the digest as a receipt tells it.
func SHA256(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}
