package producer

import (
	"net/http"
	"strings"
	"testing"
)

// operation is a call on every route, with a body that passes where one is needed.
type operation struct {
	method, route, path, body string
	need                      Role
	ok                        int // status for a key that may
}

func operations() []operation {
	return []operation{
		{"POST", "/api/orgs/{orgId}/sandboxes/{sandboxId}/file/copy", "/api/orgs/one/sandboxes/none/file/copy", withPath("/a"), RoleCopy, 404},
		{"GET", "/v1/batches/{id}", "/v1/batches/bat_0", "", RoleRead, 404},
		{"GET", "/v1/batches/{id}/items", "/v1/batches/bat_0/items", "", RoleRead, 404},
		{"GET", "/v1/batches", "/v1/batches?limit=0", "", RoleRead, 400},
		{"POST", "/v1/batches", "/v1/batches", "[]", RoleCopy, 400},
		{"GET", "/v1/batches/{id}/items/{index}", "/v1/batches/bat_0/items/0", "", RoleRead, 404},
		{"GET", "/v1/batches/{id}/events", "/v1/batches/bat_0/events", "", RoleRead, 404},
		{"GET", "/v1/batches/{id}/webhook", "/v1/batches/bat_0/webhook", "", RoleRead, 404},
		{"GET", "/v1/batches/{id}/report.ndjson", "/v1/batches/bat_0/report.ndjson", "", RoleRead, 404},
		{"GET", "/v1/batches/{id}/report.csv", "/v1/batches/bat_0/report.csv", "", RoleRead, 404},
		{"POST", "/v1/batches/{id}/cancel", "/v1/batches/bat_0/cancel", "", RoleCopy, 404},
		{"POST", "/v1/batches/{id}/pause", "/v1/batches/bat_0/pause", "", RoleCopy, 404},
		{"POST", "/v1/batches/{id}/resume", "/v1/batches/bat_0/resume", "", RoleCopy, 404},
		{"POST", "/v1/batches/{id}/retry", "/v1/batches/bat_0/retry", "", RoleCopy, 404},
		{"GET", "/v1/dead-letters", "/v1/dead-letters?limit=0", "", RoleRead, 400},
		{"GET", "/v1/dead-letters/{id}", "/v1/dead-letters/bat_0.0", "", RoleRead, 404},
		{"POST", "/v1/dead-letters/redrive", "/v1/dead-letters/redrive", "{}", RoleCopy, 400},
		{"POST", "/v1/events/s3", "/v1/events/s3", "{}", RoleCopy, 404},
		{"POST", "/v1/events/cloudevents", "/v1/events/cloudevents", "{}", RoleCopy, 404},
		{"OPTIONS", "/v1/events/cloudevents", "/v1/events/cloudevents", "", RoleCopy, 404},
		{"GET", "/v1/rules", "/v1/rules", "", RoleRead, 404},
		{"POST", "/v1/rules", "/v1/rules", "", RoleAdmin, 404},
		{"POST", "/v1/rules/test", "/v1/rules/test", "{}", RoleRead, 404},
		{"GET", "/v1/rules/{name}", "/v1/rules/none", "", RoleRead, 404},
		{"DELETE", "/v1/rules/{name}", "/v1/rules/none", "", RoleAdmin, 404},
		{"POST", "/v1/rules/{name}/sweep", "/v1/rules/none/sweep", "", RoleCopy, 404},
		{"GET", "/v1/secrets", "/v1/secrets", "", RoleRead, 404},
		{"PUT", "/v1/secrets/{name}", "/v1/secrets/none", "{}", RoleAdmin, 404},
		{"DELETE", "/v1/secrets/{name}", "/v1/secrets/none", "", RoleAdmin, 404},
		{"POST", "/v1/presign", "/v1/presign", `{"method":"GET","bucket":"open","key":"k"}`, RoleCopy, 200},
		{"PUT", "/v1/sandboxes/{id}", "/v1/sandboxes/box", "", RoleCopy, 201},
		{"GET", "/v1/sandboxes/{id}", "/v1/sandboxes/box", "", RoleRead, 200},
		{"DELETE", "/v1/sandboxes/{id}", "/v1/sandboxes/box", "", RoleCopy, 204},
		{"GET", routeUploads, "/v1/sandboxes/none/uploads", "", RoleRead, 404},
		{"POST", routeUploads, "/v1/sandboxes/none/uploads", "{}", RoleCopy, 404},
		{"GET", routeUpload, "/v1/sandboxes/box/uploads/upl_0", "", RoleRead, 404},
		{"DELETE", routeUpload, "/v1/sandboxes/box/uploads/upl_0", "", RoleCopy, 404},
		{"PUT", routePart, "/v1/sandboxes/box/uploads/upl_0/parts/0", "x", RoleCopy, 404},
		{"POST", routeComplete, "/v1/sandboxes/box/uploads/upl_0/complete", "", RoleCopy, 404},
		{"POST", routeURL, "/v1/sandboxes/none/upload-url", "{}", RoleCopy, 404},
		{"GET", "/v1/orgs", "/v1/orgs", "", RoleAdmin, 200},
		{"GET", "/v1/orgs/{org}/grants", "/v1/orgs/one/grants", "", RoleRead, 200},
		{"PUT", "/v1/orgs/{org}/grants", "/v1/orgs/one/grants", `{"bucket":"other"}`, RoleAdmin, 201},
		{"DELETE", "/v1/orgs/{org}/grants", "/v1/orgs/one/grants", `{"bucket":"other"}`, RoleAdmin, 204},
		{"GET", "/v1/keys", "/v1/keys", "", RoleAdmin, 200},
		{"POST", "/v1/keys", "/v1/keys", `{"org":"three","role":"read"}`, RoleAdmin, 201},
		{"DELETE", "/v1/keys/{id}", "/v1/keys/key_none", "", RoleAdmin, 404},
	}
}

// TestEveryOperationAsksForItsRole calls every route with no key, a wrong one, and one of each role, and holds
// every answer against the description.
func TestEveryOperationAsksForItsRole(t *testing.T) {
	t.Parallel()
	b := newBundle(t, Config{})
	d := newDescription(t, apiDescription)
	if _, _, err := b.registry.PutGrant(t.Context(), "one", "open", ""); err != nil {
		t.Fatal(err)
	}
	b.keys["nobody/none"] = NewAPIKey()
	asked := map[string]bool{}
	for _, op := range operations() {
		asked[op.method+" "+op.route] = true
		for _, who := range []string{"", "nobody/none", "one/read", "one/copy", "one/admin"} {
			a := b.call(who, op.method, op.path, op.body)
			d.check(t, op.method, op.route, a)
			_, role, _ := strings.Cut(who, "/")
			switch {
			case who == "" || who == "nobody/none":
				if a.want(401, CodeUnauthorized).header.Get("WWW-Authenticate") == "" {
					t.Errorf("%s %s: 401 without a challenge", op.method, op.path)
				}
			case !Role(role).Includes(op.need):
				a.want(403, CodeForbidden)
			case a.status != op.ok && !(op.ok == 201 && a.status == 200) && !(op.ok == 204 && a.status == 404):
				t.Errorf("%s %s as %s: %d, want %d: %s", op.method, op.path, who, a.status, op.ok, a.body)
			}
		}
	}
	for _, rt := range b.server.routes() {
		if rt.need != "" && !asked[rt.method+" "+rt.path] {
			t.Errorf("%s %s is not asked", rt.method, rt.path)
		}
	}
}

// TestOtherOrgsAreOutOfReach calls what belongs to org one with keys of org two.
func TestOtherOrgsAreOutOfReach(t *testing.T) {
	t.Parallel()
	b := newBundle(t, Config{})
	b.call("one/copy", "PUT", "/v1/sandboxes/box", "").want(201, "")
	if _, _, err := b.registry.PutGrant(t.Context(), "one", "open", ""); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		who, method, path, body string
		status                  int
		code                    Code
	}{
		{"two/copy", "POST", "/api/orgs/one/sandboxes/box/file/copy", withPath("/a"), 403, CodeWrongOrg},
		{"two/admin", "POST", "/api/orgs/one/sandboxes/box/file/copy", withPath("/a"), 403, CodeWrongOrg},
		{"two/copy", "POST", "/api/orgs/two/sandboxes/box/file/copy", withPath("/a"), 404, CodeSandboxNotFound},
		{"two/copy", "POST", "/v1/presign", `{"method":"GET","bucket":"open","key":"k"}`, 403, CodeBucketNotGranted},
		{"two/read", "GET", "/v1/sandboxes/box", "", 404, CodeSandboxNotFound},
		{"two/admin", "GET", "/v1/sandboxes/box", "", 404, CodeSandboxNotFound},
		{"two/copy", "DELETE", "/v1/sandboxes/box", "", 404, CodeSandboxNotFound},
		{"two/read", "GET", "/v1/orgs/one/grants", "", 403, CodeWrongOrg},
		{"two/admin", "GET", "/v1/orgs/one/grants", "", 200, ""},
		{"two/admin", "GET", "/v1/orgs/-/grants", "", 404, CodeOrgNotFound},
	} {
		b.call(tc.who, tc.method, tc.path, tc.body).want(tc.status, tc.code)
	}
	b.call("one/read", "GET", "/v1/sandboxes/box", "").want(200, "")
}

// TestPresentedKeys says which forms of a key are taken.
func TestPresentedKeys(t *testing.T) {
	t.Parallel()
	b := newBundle(t, Config{})
	good, other := b.keys["one/admin"], b.keys["two/admin"]
	for _, tc := range []struct {
		name   string
		header []string
		status int
	}{
		{"bearer", []string{"Authorization", "Bearer " + good}, 200},
		{"bearer in lower case", []string{"Authorization", "bearer " + good}, 200},
		{"two spaces", []string{"Authorization", "Bearer  " + good}, 200},
		{"x-api-key", []string{"x-api-key", good}, 200},
		{"both the same", []string{"x-api-key", good, "Authorization", "Bearer " + good}, 200},
		{"another scheme beside", []string{"x-api-key", good, "Authorization", "Basic eDp5"}, 200},
		{"both, different", []string{"x-api-key", good, "Authorization", "Bearer " + other}, 401},
		{"both, one empty", []string{"x-api-key", good, "Authorization", "Bearer "}, 401},
		{"two x-api-key", []string{"x-api-key", good, "x-api-key", other}, 401},
		{"no scheme", []string{"Authorization", good}, 401},
		{"basic", []string{"Authorization", "Basic " + good}, 401},
		{"empty", []string{"x-api-key", ""}, 401},
		{"longer", []string{"x-api-key", good + "x"}, 401},
		{"shorter", []string{"x-api-key", good[:len(good)-1]}, 401},
		{"two in one", []string{"x-api-key", good + "," + good}, 401},
		{"very long", []string{"x-api-key", strings.Repeat("x", 2000)}, 401},
	} {
		if got := b.call("", "GET", "/v1/keys", "", tc.header...); got.status != tc.status {
			t.Errorf("%s: %d, want %d", tc.name, got.status, tc.status)
		}
	}
	for _, query := range []string{"?key=", "?api_key=", "?x-api-key=", "?access_token="} {
		b.call("", "GET", "/v1/keys"+query+good, "").want(401, CodeUnauthorized)
	}
	if strings.Contains(b.log.String(), good) {
		t.Error("the log tells a key")
	}
}

// TestRevokedKey works from the next call on.
func TestRevokedKey(t *testing.T) {
	t.Parallel()
	b := newBundle(t, Config{})
	made := decode[newKey](b.call("one/admin", "POST", "/v1/keys", `{"org":"one","role":"read","name":"n"}`).want(201, ""))
	b.keys["made"] = made.Secret
	b.call("made", "GET", "/v1/orgs/one/grants", "").want(200, "")
	list := b.call("one/admin", "GET", "/v1/keys?org=one", "").want(200, "")
	if strings.Contains(string(list.body), made.Secret) || len(decode[keyList](list).Keys) != 4 {
		t.Errorf("the list of keys: %s", list.body)
	}
	for key, value := range b.records.values {
		if strings.Contains(key+string(value), made.Secret) {
			t.Errorf("the key itself is stored under %s", key)
		}
	}
	b.call("one/admin", "DELETE", "/v1/keys/"+made.ID, "").want(204, "")
	b.call("made", "GET", "/v1/orgs/one/grants", "").want(401, CodeUnauthorized)
	b.call("one/admin", "DELETE", "/v1/keys/"+made.ID, "").want(404, CodeKeyNotFound)
	me, _ := b.registry.Authenticate(b.keys["one/admin"])
	b.call("one/admin", "DELETE", "/v1/keys/"+me.KeyID, "").want(409, CodeOwnKey)
}

// TestRoutesOutsideTheAPI get problems too.
func TestRoutesOutsideTheAPI(t *testing.T) {
	t.Parallel()
	b := newBundle(t, Config{})
	for _, tc := range []struct {
		method, path string
		status       int
		code         Code
		allow        string
	}{
		{"GET", "/", 404, CodeNotFound, ""},
		{"GET", "/v1", 404, CodeNotFound, ""},
		{"GET", "/v1/keys/", 404, CodeNotFound, ""},
		{"GET", "//v1/keys", 404, CodeNotFound, ""},
		{"GET", "/v1/../v1/keys", 404, CodeNotFound, ""},
		{"GET", "/v1/sandboxes/a%2Fb", 401, CodeUnauthorized, ""},
		{"PATCH", "/v1/keys", 405, CodeMethodNotAllowed, "GET, HEAD, POST"},
		{"GET", "/v1/presign", 405, CodeMethodNotAllowed, "POST"},
		{"OPTIONS", "/v1/sandboxes/a", 405, CodeMethodNotAllowed, "DELETE, GET, HEAD, PUT"},
		{"POST", "/healthz", 405, CodeMethodNotAllowed, "GET, HEAD"},
	} {
		a := b.call("", tc.method, tc.path, "").want(tc.status, tc.code)
		if got := a.header.Get("Allow"); got != tc.allow {
			t.Errorf("%s %s: Allow %q, want %q", tc.method, tc.path, got, tc.allow)
		}
	}
	for _, path := range []string{"/healthz", "/readyz", "/openapi.json"} {
		get, head := b.call("", "GET", path, "").want(200, ""), b.call("", http.MethodHead, path, "").want(200, "")
		if len(head.body) != 0 || head.header.Get("Content-Length") != get.header.Get("Content-Length") {
			t.Errorf("HEAD %s: %d bytes, Content-Length %q, for GET %q", path, len(head.body), head.header.Get("Content-Length"), get.header.Get("Content-Length"))
		}
	}
}
