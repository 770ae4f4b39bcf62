package producer

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// newCopyBundle serves the copy call up to the point where it is validated, and keeps what passed.
func newCopyBundle(t *testing.T, cfg Config) (*bundle, func() []CopyCall) {
	t.Helper()
	b := newBundle(t, cfg)
	var mu sync.Mutex
	var calls []CopyCall
	mux := http.NewServeMux()
	mux.HandleFunc("/api/orgs/{orgId}/sandboxes/{sandboxId}/file/copy", b.server.authenticated(RoleCopy, func(w http.ResponseWriter, r *http.Request) {
		call, p := b.server.copyCall(w, r)
		if p != nil {
			writeProblem(w, r, *p)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		calls = append(calls, *call)
		w.WriteHeader(http.StatusOK)
	}))
	b.serve(b.server.wrap(mux))
	return b, func() []CopyCall {
		mu.Lock()
		defer mu.Unlock()
		return calls
	}
}

const copyPath = "/api/orgs/one/sandboxes/box/file/copy"

func TestCopyCallIsHandedOver(t *testing.T) {
	t.Parallel()
	b, calls := newCopyBundle(t, Config{AutoSandboxes: true})
	body := withPath("/x")
	b.call("one/copy", "POST", copyPath, body, "Content-Type", "application/json; charset=UTF-8",
		"Prefer", "respond-async", "Prefer", `wait="10"`, "Idempotency-Key", "k-1").want(200, "")
	got := calls()[0]
	if got.Org != "one" || got.Sandbox.ID != "box" || got.Sandbox.Pool != "default" || len(got.Items) != 1 ||
		got.BodySHA256 != sha256.Sum256([]byte(body)) || got.IdempotencyKey != "k-1" || !got.Async || got.Wait == nil || *got.Wait != 10*time.Second {
		t.Errorf("call: %+v", got)
	}
	if got.Items[0].Dest.Sandbox != "box" || got.Principal.Role != RoleCopy {
		t.Errorf("call: %+v", got)
	}
	if used := b.server.budget.used; used != 0 {
		t.Errorf("%d bytes stay reserved", used)
	}
	other := got
	other.Sandbox.ID = "box2"
	if got.RequestDigest() == other.RequestDigest() {
		t.Error("the digest is the same for another sandbox")
	}
}

func TestCopyCallRefused(t *testing.T) {
	t.Parallel()
	b, calls := newCopyBundle(t, Config{MaxBody: 1 << 16, AutoSandboxes: true, MaxItems: 2})
	const withType = "application/json"
	for _, tc := range []struct {
		name, path, body string
		header           []string
		status           int
		code             Code
	}{
		{"impossible sandbox", "/api/orgs/one/sandboxes/-x/file/copy", withPath("/a"), nil, 404, CodeSandboxNotFound},
		{"sandbox with a slash", "/api/orgs/one/sandboxes/a%2Fb/file/copy", withPath("/a"), nil, 404, CodeSandboxNotFound},
		{"long sandbox", "/api/orgs/one/sandboxes/" + strings.Repeat("x", 129) + "/file/copy", withPath("/a"), nil, 404, CodeSandboxNotFound},
		{"form content type", copyPath, withPath("/a"), []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, CodeUnsupportedMedia},
		{"charset", copyPath, withPath("/a"), []string{"Content-Type", "application/json; charset=latin1"}, 415, CodeUnsupportedMedia},
		{"broken content type", copyPath, withPath("/a"), []string{"Content-Type", "application/json; ="}, 415, CodeUnsupportedMedia},
		{"compressed", copyPath, withPath("/a"), []string{"Content-Type", withType, "Content-Encoding", "gzip"}, 415, CodeUnsupportedMedia},
		{"too large", copyPath, withPath("/" + strings.Repeat("x", 1<<16)), nil, 413, CodeBodyTooLarge},
		{"empty key", copyPath, withPath("/a"), []string{"Idempotency-Key", ""}, 400, CodeInvalidHeader},
		{"two keys", copyPath, withPath("/a"), []string{"Idempotency-Key", "a", "Idempotency-Key", "a"}, 400, CodeInvalidHeader},
		{"long key", copyPath, withPath("/a"), []string{"Idempotency-Key", strings.Repeat("k", 256)}, 400, CodeInvalidHeader},
		{"no body", copyPath, "", nil, 400, CodeInvalidJSON},
		{"not valid", copyPath, withPath("a"), nil, 400, CodeInvalidRequest},
		{"too many", copyPath, files(file(goodSrc, goodDest), file(goodSrc, goodDest), file(goodSrc, goodDest)), nil, 400, CodeInvalidRequest},
		{"not granted", copyPath, withObject("abc", "k"), nil, 403, CodeBucketNotGranted},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := b.call("one/copy", "POST", tc.path, tc.body, tc.header...).want(tc.status, tc.code)
			if tc.code == CodeBucketNotGranted {
				want := []FieldError{{Pointer: "/files/0/src", Code: faultNotGranted, Message: "The org has no grant for this bucket and key."}}
				if diff := cmp.Diff(want, got.problem().Errors); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
	if len(calls()) != 0 {
		t.Errorf("%d calls passed", len(calls()))
	}
	if b.records.creates != 0 {
		t.Error("a refused call made a sandbox")
	}
	if used := b.server.budget.used; used != 0 {
		t.Errorf("%d bytes stay reserved", used)
	}
}

// TestChunkedBodyTooLarge sends a body without a length.
func TestChunkedBodyTooLarge(t *testing.T) {
	t.Parallel()
	b, _ := newCopyBundle(t, Config{MaxBody: 1 << 16, AutoSandboxes: true})
	src := io.MultiReader(strings.NewReader(strings.Repeat(" ", 1<<16)), strings.NewReader(withPath("/a")))
	req, err := http.NewRequestWithContext(t.Context(), "POST", b.url+copyPath, src)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Api-Key", b.keys["one/copy"])
	resp, err := b.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("status %d", resp.StatusCode)
	}
}

// TestBodiesShareABudget refuses a body when the others hold all the memory there is.
func TestBodiesShareABudget(t *testing.T) {
	t.Parallel()
	b, _ := newCopyBundle(t, Config{MaxBody: 1 << 20, MaxBuffered: 1 << 20, AutoSandboxes: true})
	if !b.server.budget.take("two", 1<<20) {
		t.Fatal("the budget is not free")
	}
	a := b.call("one/copy", "POST", copyPath, withPath("/a")).want(503, CodeBusy)
	if a.header.Get("Retry-After") == "" {
		t.Error("503 without Retry-After")
	}
	b.server.budget.give("two", 1<<20)
	b.call("one/copy", "POST", copyPath, withPath("/a")).want(200, "")
}

// TestLargestBodyPasses holds the accounting to the limit it enforces.
func TestLargestBodyPasses(t *testing.T) {
	t.Parallel()
	const limit = 1<<20 + 12345
	b, _ := newCopyBundle(t, Config{MaxBody: limit, MaxBuffered: limit, AutoSandboxes: true})
	body := withPath("/a")
	b.call("one/copy", "POST", copyPath, body+strings.Repeat(" ", limit-len(body))).want(200, "")
}

func TestSandboxesComeIntoBeingOnce(t *testing.T) {
	t.Parallel()
	b, calls := newCopyBundle(t, Config{AutoSandboxes: true})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if a := b.call("one/copy", "POST", copyPath, withPath("/a")); a.status != 200 {
				t.Errorf("status %d: %s", a.status, a.body)
			}
		})
	}
	wg.Wait()
	if b.records.creates != 1 {
		t.Errorf("created %d times", b.records.creates)
	}
	for _, c := range calls() {
		if c.Sandbox != calls()[0].Sandbox {
			t.Errorf("two sandboxes: %+v, %+v", c.Sandbox, calls()[0].Sandbox)
		}
	}
}

func TestRecordsThatFail(t *testing.T) {
	t.Parallel()
	b, _ := newCopyBundle(t, Config{AutoSandboxes: true})
	b.records.fail = errors.New("disk on fire")
	a := b.call("one/copy", "POST", copyPath, withPath("/a")).want(503, CodeUnavailable)
	if strings.Contains(string(a.body), "fire") || !strings.Contains(b.log.String(), "disk on fire") {
		t.Errorf("the cause belongs into the log only: %s", a.body)
	}
}

func TestGrants(t *testing.T) {
	t.Parallel()
	b := newBundle(t, Config{GrantAll: true, DefaultOrg: "two"})
	put := func(body string, status int) {
		b.call("one/admin", "PUT", "/v1/orgs/one/grants", body).want(status, "")
	}
	put(`{"bucket":"abc","prefix":"team"}`, 201)
	put(`{"bucket":"abc","prefix":"team/"}`, 200)
	put(`{"bucket":"whole"}`, 201)
	put(`{"bucket":"bad..name"}`, 400)
	put(`{"bucket":"abc","prefix":"a/../b"}`, 400)
	g := b.server.grantsOf("one")
	for _, tc := range []struct {
		bucket, key string
		want        bool
	}{
		{"abc", "team/k", true}, {"abc", "team/", true}, {"abc", "team", false}, {"abc", "teamster/k", false},
		{"abc", "k", false}, {"whole", "any/k", true}, {"wholes", "k", false}, {"who", "k", false},
	} {
		if g.cover(tc.bucket, tc.key) != tc.want {
			t.Errorf("%s/%s: covered %v", tc.bucket, tc.key, !tc.want)
		}
	}
	if !b.server.grantsOf("two").cover("any", "k") || b.server.grantsOf("three").cover("whole", "k") {
		t.Error("GrantAll is for the default org, and for it alone")
	}
	list := decode[grantList](b.call("one/read", "GET", "/v1/orgs/one/grants", "")).Grants
	if len(list) != 2 || list[0].Prefix != "team/" || list[1].Bucket != "whole" {
		t.Errorf("grants %+v", list)
	}
	b.call("one/admin", "DELETE", "/v1/orgs/one/grants", `{"bucket":"whole","prefix":"x"}`).want(404, CodeGrantNotFound)
	b.call("one/admin", "DELETE", "/v1/orgs/one/grants", `{"bucket":"whole"}`).want(204, "")
	if b.server.grantsOf("one").cover("whole", "k") {
		t.Error("the grant is still in force")
	}
}

// FuzzDecodeCopyRequest never panics, and what it accepts is JSON without duplicate names, by another decoder's word.
func FuzzDecodeCopyRequest(f *testing.F) {
	for _, tc := range hostile {
		if len(tc.body) < 4096 {
			f.Add([]byte(tc.body))
		}
	}
	f.Add([]byte(withForm(`,"form":{"a":"b"}`)))
	f.Fuzz(func(t *testing.T, body []byte) {
		items, p := decodeCopyRequest(body, "box", 100)
		if p != nil {
			if p.Total == 0 || len(p.Errors) == 0 || len(p.Errors) > MaxProblems || p.Status != 400 {
				t.Fatalf("refused without a reason: %+v", p)
			}
			return
		}
		if len(items) == 0 {
			t.Fatal("accepted without an item")
		}
		d := json.NewDecoder(bytes.NewReader(body))
		if err := walkJSON(d); err != nil {
			t.Fatalf("accepted, but %v: %q", err, body)
		}
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			t.Fatalf("accepted with something behind it: %q", body)
		}
		for _, item := range items {
			if !item.Src.Type.Source() || !item.Dest.Type.Destination() {
				t.Fatalf("accepted %v to %v", item.Src.Type, item.Dest.Type)
			}
			if path := item.Dest.Path; path != "" && strings.Contains(path+"/", "/../") {
				t.Fatalf("accepted the path %q", path)
			}
		}
	})
}

// walkJSON reads a value and complains about a name that occurs twice in one object.
func walkJSON(d *json.Decoder) error {
	tok, err := d.Token()
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	switch tok {
	case json.Delim('{'):
		for d.More() {
			name, err := d.Token()
			if err != nil {
				return err
			}
			if seen[name.(string)] {
				return errors.New("a name occurs twice")
			}
			seen[name.(string)] = true
			if err := walkJSON(d); err != nil {
				return err
			}
		}
	case json.Delim('['):
		for d.More() {
			if err := walkJSON(d); err != nil {
				return err
			}
		}
	default:
		return nil
	}
	_, err = d.Token()
	return err
}
