package hostile

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/hostilehttp"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
)

// classNames are the classes as receipts have them.
var classNames = map[storage.Class]protocol.Class{
	storage.NotFound: protocol.NotFound, storage.Denied: protocol.Denied, storage.Invalid: protocol.Invalid, storage.Conflict: protocol.Conflict,
	storage.TooLarge: protocol.TooLarge, storage.NoSpace: protocol.NoSpace, storage.ForbiddenAddress: protocol.ForbiddenAddress,
	storage.Corrupt: protocol.Corrupt, storage.Throttled: protocol.Throttled, storage.Unavailable: protocol.Unavailable,
	storage.Timeout: protocol.Timeout, storage.Interrupted: protocol.Interrupted,
}

// most is how often each item is tried.
const most = 2

// TestAllHostilePeersAtOnce copies from and to every peer that does not keep the rules, in one batch, with healthy items between them. Each
// item comes to what the table says, and the healthy ones succeed.
func TestAllHostilePeersAtOnce(t *testing.T) {
	t.Parallel()
	f := mixtest.NewUp(t, "HEADER_TIMEOUT=10s", "IDLE_TIMEOUT=10s", mixtest.Steady) // shorter, and a busy machine is taken for a slow peer
	roots := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(roots, hostilehttp.RootsPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	f.Setenv("SSL_CERT_FILE=" + roots)
	process := f.Start(t, "up")
	for _, size := range []int64{hostilehttp.Upload, hostilehttp.Bulk} {
		f.FromSandbox(t, uploadOf(size), make([]byte, size))
	}
	const secret = "X-Amz-Signature=hunter2"
	var batch mixtest.Batch
	met := map[string]*hostilehttp.Behavior{}
	healthy := f.Mixed(t, "healthy", 60)
	all := hostilehttp.All()
	for i := range all {
		b := &all[i]
		if b.Alone {
			continue
		}
		met[b.Name] = b
		url := b.URL(t) + "?" + secret
		c := mixtest.Copy{ID: b.Name, Src: mixtest.FromURL(url), Dest: mixtest.ToSandbox("/out/" + b.Name)}
		if b.Side == hostilehttp.Target {
			c.Src, c.Dest = mixtest.ToSandbox(uploadOf(b.Bytes())), map[string]any{"type": "httpPutLocation", "url": url}
		}
		batch = append(batch, c)
		if i%3 == 0 && len(healthy) > 0 {
			batch, healthy = append(batch, healthy[0]), healthy[1:]
		}
	}
	id := f.SubmitJSON(t, batch, map[string]any{"attempts": most})
	f.API.WaitFinal(t, id, limit)
	receipts, err := f.API.Receipts(t.Context(), id)
	if err != nil || len(receipts) != len(batch) || len(met) < 40 {
		t.Fatalf("%d receipts of %d items, %d of hostile peers: %v", len(receipts), len(batch), len(met), err)
	}
	for i := range receipts {
		r := &receipts[i]
		if b := met[r.ID]; b != nil {
			checkBehavior(t, f, b, r)
		} else if r.State != protocol.ItemSucceeded || len(r.Attempts) != 1 || r.SHA256 != mixtest.SHA256(batch[i].Content) {
			t.Errorf("the healthy %s: %s in %d attempts, %+v", r.ID, r.State, len(r.Attempts), r.Failure)
		}
	}
	if text, err := json.Marshal(receipts); err != nil || strings.Contains(string(text), "hunter2") {
		t.Errorf("a receipt shows the signature: %v", err)
	}
	if log := process.Log(); strings.Contains(log, "Unsolicited") || strings.Contains(log, hostilehttp.Content[hostilehttp.Broken:]) {
		t.Error("the log shows what a peer sent")
	}
	f.CheckNothingHidden(t)
	t.Logf("%d hostile peers, %d healthy items", len(met), len(batch)-len(met))
}

func uploadOf(size int64) string { return fmt.Sprintf("/src-%d", size) }

// checkBehavior holds the receipt of an item to the table.
func checkBehavior(t *testing.T, f *mixtest.Fleet, b *hostilehttp.Behavior, r *protocol.Receipt) {
	t.Helper()
	want := b.InItem()
	written, err := os.ReadFile(f.OnDisk("/out/" + b.Name))
	if want.Code == "" {
		if r.State != protocol.ItemSucceeded || b.Side != hostilehttp.Target && (err != nil || string(written) != b.Body) {
			t.Errorf("%s: %s with %q, %+v; must succeed with %q", b.Name, r.State, written, r.Failure, b.Body)
		}
		if r.Verified == b.Unsized {
			t.Errorf("%s: verified is %v", b.Name, r.Verified)
		}
		if b.Name == "range-short" && r.Attempts[0].Resumes != 3 {
			t.Errorf("%s: it went on %d times, want 3", b.Name, r.Attempts[0].Resumes)
		}
		return
	}
	if err == nil {
		t.Errorf("%s: %q came into being", b.Name, written)
	}
	if r.State != protocol.ItemFailed || r.Failure == nil {
		t.Errorf("%s: %s, want a failure", b.Name, r.State)
		return
	}
	if !asWanted(b, want, r.Failure) {
		t.Errorf("%s: %+v, want %s, %s, %q, %d", b.Name, *r.Failure, classNames[want.Class], want.Code, want.Message, want.Status)
	}
	attempts := most
	if want.Class < storage.Throttled { // permanent
		attempts = 1
	}
	if len(r.Attempts) != attempts {
		t.Errorf("%s: %d attempts at %s, want %d", b.Name, len(r.Attempts), r.Failure.Class, attempts)
	}
}

// asWanted compares class, code and text.
func asWanted(b *hostilehttp.Behavior, want hostilehttp.Want, got *protocol.Failure) bool {
	prefix := "Failed to download file: "
	if b.Side == hostilehttp.Target {
		prefix = "Failed to upload file: "
	}
	var text bool
	switch {
	case want.Status != 0:
		text = strings.HasPrefix(got.Message, prefix+strconv.Itoa(want.Status))
	case want.Class == storage.Timeout:
		text = strings.HasPrefix(got.Message, want.Message)
	default:
		text = strings.HasPrefix(got.Message, prefix) && strings.Contains(got.Message, want.Message)
	}
	return text && got.Class == classNames[want.Class] && got.Status == want.Status && strings.Contains("|"+want.Code+"|", "|"+got.Code+"|")
}
