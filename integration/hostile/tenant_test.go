package hostile

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
)

// newKey makes a key, as an admin would.
func newKey(t *testing.T, f *mixtest.Fleet, org, role string) (id string, api mixtest.API) {
	t.Helper()
	a, err := f.API.Call(t.Context(), http.MethodPost, "/v1/keys", nil, map[string]any{"org": org, "role": role, "name": "a test"})
	if err != nil || a.Status != http.StatusCreated {
		t.Fatalf("a key for %s: %d, %v: %s", org, a.Status, err, a.Body)
	}
	var key struct {
		ID  string `json:"id"`
		Key string `json:"key"`
	}
	if err := json.Unmarshal(a.Body, &key); err != nil {
		t.Fatal(err)
	}
	return key.ID, mixtest.API{URL: f.API.URL, Key: key.Key, Org: org}
}

// answers fails the test unless a call is answered with a status and, if it is refused, a code.
func answers(t *testing.T, api mixtest.API, method, path string, body any, status int, code string) {
	t.Helper()
	a, err := api.Call(t.Context(), method, path, nil, body)
	if err != nil || a.Status != status || code != "" && refusal(t, a).Code != code {
		t.Errorf("%s %s: %d, %v, want %d %s: %s", method, path, a.Status, err, status, code, a.Body)
	}
}

// TestOrgsDoNotSeeEachOther gives two orgs, one of whose names begins with the other's, the same sandbox, the same
// idempotency key and the same item.
func TestOrgsDoNotSeeEachOther(t *testing.T) {
	t.Parallel()
	f, _ := up(t)
	_, other := newKey(t, f, f.API.Org+".2", "copy")
	header := map[string]string{"Idempotency-Key": "the-same"}
	files := func(content string) []map[string]any {
		return mixtest.Batch{{ID: "x", Src: mixtest.FromURL(f.Give("/"+content, []byte(content))), Dest: mixtest.ToSandbox("/x")}}.Files()
	}
	batches := map[string]string{}
	for org, api := range map[string]mixtest.API{"mine": f.API, "theirs": other} {
		a, err := api.Copy(t.Context(), f.Sandbox, header, files(org))
		if err != nil || a.Status != http.StatusOK || !strings.Contains(string(a.Body), `"success":true`) {
			t.Fatalf("%s: %d, %v: %s", org, a.Status, err, a.Body)
		}
		batches[org] = a.Batch()
	}
	for org, api := range map[string]mixtest.API{"mine": other, "theirs": f.API} {
		answers(t, api, http.MethodGet, "/v1/batches/"+batches[org], nil, http.StatusNotFound, "batch_not_found")
		answers(t, api, http.MethodGet, "/v1/batches/"+batches[org]+"/items", nil, http.StatusNotFound, "batch_not_found")
	}
	orgs := filepath.Dir(filepath.Dir(f.Dir))
	for org, content := range map[string]string{f.API.Org: "mine", other.Org: "theirs"} {
		if got, err := os.ReadFile(filepath.Join(orgs, org, f.Sandbox, "x")); string(got) != content {
			t.Errorf("the file of %s holds %q, %v", org, got, err)
		}
	}
	answers(t, other, http.MethodPost, copyPath(f), map[string]any{"files": files("theirs")}, http.StatusForbidden, "wrong_org")
	// In up the default org may use every bucket, another one none.
	object := map[string]any{"type": "objectLocation", "bucket": f.Bucket, "key": "k"}
	a, err := other.Copy(t.Context(), f.Sandbox, nil, mixtest.Batch{{ID: "x", Src: mixtest.FromURL(f.URL), Dest: object}}.Files())
	if err != nil || a.Status != http.StatusForbidden || refusal(t, a).Code != "bucket_not_granted" {
		t.Errorf("a bucket that was not granted: %d, %v: %s", a.Status, err, a.Body)
	}
	answers(t, other, http.MethodPost, "/v1/presign", map[string]any{"method": "GET", "bucket": f.Bucket, "key": "k"}, http.StatusForbidden, "bucket_not_granted")
}

// TestRolesOfKeys checks what each role may not do, and that a revoked key may do nothing.
func TestRolesOfKeys(t *testing.T) {
	t.Parallel()
	f, _ := up(t)
	readID, reader := newKey(t, f, f.API.Org, "read")
	_, copier := newKey(t, f, f.API.Org, "copy")
	f.FromSandbox(t, "/a", []byte("a"))
	var call any
	if err := json.Unmarshal([]byte(good), &call); err != nil {
		t.Fatal(err)
	}
	a, err := copier.Call(t.Context(), http.MethodPost, copyPath(f), nil, call)
	if err != nil || a.Status != http.StatusOK {
		t.Fatalf("%d, %v: %s", a.Status, err, a.Body)
	}
	answers(t, reader, http.MethodGet, "/v1/batches/"+a.Batch(), nil, http.StatusOK, "")
	for path, body := range map[string]any{copyPath(f): call, "/v1/presign": map[string]any{"method": "GET", "bucket": f.Bucket, "key": "k"}} {
		answers(t, reader, http.MethodPost, path, body, http.StatusForbidden, "forbidden")
	}
	for _, api := range []mixtest.API{reader, copier} {
		answers(t, api, http.MethodGet, "/v1/keys", nil, http.StatusForbidden, "forbidden")
		answers(t, api, http.MethodPost, "/v1/keys", map[string]any{"org": f.API.Org, "role": "admin"}, http.StatusForbidden, "forbidden")
		answers(t, api, http.MethodPut, "/v1/orgs/"+f.API.Org+"/grants", map[string]any{"bucket": "another"}, http.StatusForbidden, "forbidden")
	}
	answers(t, f.API, http.MethodDelete, "/v1/keys/"+readID, nil, http.StatusNoContent, "")
	answers(t, reader, http.MethodGet, "/v1/batches/"+a.Batch(), nil, http.StatusUnauthorized, "unauthorized")
	answers(t, f.API, http.MethodDelete, "/v1/keys/"+readID, nil, http.StatusNotFound, "key_not_found")
}
