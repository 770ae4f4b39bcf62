package producer

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/copyfleet/copyfleet/protocol"
)

// access is what a route does for an org with its own resources, with those of another, and with what is not there. {own}, {one} and
// {gone} in a path stand for a batch of org two, which calls, one of org one, and none.
type access struct {
	method, route string
	need          Role
	body          string
	header        []string // pairs

	own     string
	ok      int      // status for the own resource
	others  []string // of org one; none: the route names no resource
	refused int      // status for them, whatever the role; 0: 404, the same as for what is missing
	missing string
	// operator says that an admin may do this for every org: then there are no others.
	operator bool
}

func accesses() []access {
	batch := func(method, rest string, need Role, ok int) access {
		const path = "/v1/batches/"
		return access{
			method: method, route: path + "{id}" + strings.ReplaceAll(rest, "/0", "/{index}"), need: need, own: path + "{own}" + rest, ok: ok,
			others: []string{path + "{one}" + rest}, missing: path + "{gone}" + rest,
		}
	}
	const sandbox, grants = "/v1/sandboxes/", "/v1/orgs/two/grants"
	return slices.Concat(uploadAccesses(), ruleAccesses(), []access{
		{
			method: "POST", route: "/api/orgs/{orgId}/sandboxes/{sandboxId}/file/copy", need: RoleCopy, body: withPath("/a"),
			header: []string{"Prefer", "respond-async"}, own: "/api/orgs/two/sandboxes/mine/file/copy", ok: 202,
			others: []string{"/api/orgs/two/sandboxes/box/file/copy"}, missing: "/api/orgs/two/sandboxes/none/file/copy",
		},
		{
			method: "POST", route: "/api/orgs/{orgId}/sandboxes/{sandboxId}/file/copy", need: RoleCopy, body: withPath("/a"),
			header: []string{"Prefer", "respond-async"}, own: "/api/orgs/two/sandboxes/mine/file/copy", ok: 202,
			others: []string{"/api/orgs/one/sandboxes/box/file/copy", "/api/orgs/one/sandboxes/mine/file/copy"}, refused: 403,
		},
		{method: "GET", route: "/v1/batches", need: RoleRead, own: "/v1/batches", ok: 200},
		{method: "POST", route: "/v1/batches", need: RoleCopy, body: intoSandbox("mine"), own: "/v1/batches", ok: 202},
		{method: "POST", route: "/v1/batches", need: RoleCopy, body: intoSandbox("box"), own: "/v1/batches", ok: 404}, // org one's
		{method: "POST", route: "/v1/batches", need: RoleCopy, body: intoSandbox("none"), own: "/v1/batches", ok: 404},
		batch("GET", "", RoleRead, 200),
		batch("GET", "/items", RoleRead, 200),
		batch("GET", "/items/0", RoleRead, 200),
		batch("GET", "/events", RoleRead, 200),
		batch("GET", "/webhook", RoleRead, 200),
		batch("GET", "/report.ndjson", RoleRead, 200),
		batch("GET", "/report.csv", RoleRead, 200),
		batch("POST", "/cancel", RoleCopy, 200),
		batch("POST", "/pause", RoleCopy, 409), // it has ended
		batch("POST", "/resume", RoleCopy, 409),
		batch("POST", "/retry", RoleCopy, 202),

		{method: "GET", route: "/v1/dead-letters", need: RoleRead, own: "/v1/dead-letters", ok: 200},
		{
			method: "GET", route: "/v1/dead-letters/{id}", need: RoleRead, own: "/v1/dead-letters/{own}.0", ok: 200,
			others: []string{"/v1/dead-letters/{one}.0"}, missing: "/v1/dead-letters/{gone}.0",
		},
		{
			method: "POST", route: "/v1/dead-letters/redrive", need: RoleCopy, body: `{"filter":{},"preview":true}`, own: "/v1/dead-letters/redrive", ok: 200,
		},

		{
			method: "POST", route: "/v1/presign", need: RoleCopy, body: `{"method":"GET","bucket":"twos","key":"k"}`, own: "/v1/presign", ok: 200,
		},
		{
			method: "POST", route: "/v1/presign", need: RoleCopy, body: `{"method":"GET","bucket":"ones","key":"k"}`, own: "/v1/presign", ok: 403,
		},

		{method: "GET", route: sandbox + "{id}", need: RoleRead, own: sandbox + "mine", ok: 200, others: []string{sandbox + "box"}, missing: sandbox + "none"},
		{method: "PUT", route: sandbox + "{id}", need: RoleCopy, own: sandbox + "new", ok: 201}, // an id is the org's own, whoever else has it
		{method: "DELETE", route: sandbox + "{id}", need: RoleCopy, own: sandbox + "mine", ok: 204, others: []string{sandbox + "box"}, missing: sandbox + "none"},

		{method: "GET", route: "/v1/orgs", need: RoleAdmin, own: "/v1/orgs", ok: 200, operator: true},
		{method: "GET", route: "/v1/orgs/{org}/grants", need: RoleRead, own: grants, ok: 200, others: []string{"/v1/orgs/one/grants"}, refused: 403, operator: true},
		{method: "PUT", route: "/v1/orgs/{org}/grants", need: RoleAdmin, body: `{"bucket":"more"}`, own: grants, ok: 201, operator: true},
		{method: "DELETE", route: "/v1/orgs/{org}/grants", need: RoleAdmin, body: `{"bucket":"more"}`, own: grants, ok: 204, operator: true},
		{method: "GET", route: "/v1/keys", need: RoleAdmin, own: "/v1/keys", ok: 200, operator: true},
		{method: "POST", route: "/v1/keys", need: RoleAdmin, body: `{"org":"two","role":"read"}`, own: "/v1/keys", ok: 201, operator: true},
		{method: "DELETE", route: "/v1/keys/{id}", need: RoleAdmin, own: "/v1/keys/key_none", ok: 404, operator: true},

		{method: "GET", route: "/healthz", own: "/healthz", ok: 200},
		{method: "GET", route: "/readyz", own: "/readyz", ok: 200},
		{method: "GET", route: "/metrics", own: "/metrics", ok: 404}, // none are collected here
		{method: "GET", route: "/openapi.json", own: "/openapi.json", ok: 200},
	})
}

func intoSandbox(id string) string {
	return `{"items":[{"src":{"type":"httpGetLocation","url":"https://src.test/a"},"dest":{"type":"sandboxFileLocation","sandbox":"` + id + `","path":"/a"}}]}`
}

// tenants is a stage with resources of org one that tell their secret wherever they are shown, and resources of org two.
type tenants struct {
	*stage

	one, two protocol.Acceptance
	places   *strings.Replacer
}

const marker = "of-org-one-only"

func newTenants(t *testing.T) *tenants {
	t.Helper()
	s := newStage(t)
	s.open(func(p *Pipeline) { p.views.patience = 10 * time.Millisecond })
	s.client.Timeout = 180 * time.Second // the stream of org one's batch would have no end
	s.call("one/copy", "PUT", "/v1/sandboxes/box", "").want(201, "")
	s.call("two/copy", "PUT", "/v1/sandboxes/mine", "").want(201, "")
	for bucket, org := range map[string]protocol.OrgID{"ones": "one", "twos": "two", "results": "two"} {
		if _, _, err := s.registry.PutGrant(t.Context(), org, bucket, ""); err != nil {
			t.Fatal(err)
		}
	}
	x := &tenants{stage: s}
	hook := func(a *protocol.Acceptance) *protocol.Webhook {
		return &protocol.Webhook{Shown: "https://hook.test/x", Sealed: s.sealer.SealText(a.Org, a.Batch, `{"url":"https://hook.test/x"}`)}
	}
	x.one = s.accept(3, func(a *protocol.Acceptance) {
		a.Label, a.IDs, a.Options.Webhook = marker, []string{marker, "", ""}, hook(a)
	})
	x.two = s.accept(3, func(a *protocol.Acceptance) { a.Org = "two"; a.Options.Webhook = hook(a) })
	s.tell(&x.one, receiptsOf(protocol.ItemFailed, 0))
	s.tell(&x.two, append(receiptsOf(protocol.ItemFailed, 0), receiptsOf(protocol.ItemSucceeded, 1, 2)...))
	s.knows("one", 1)
	s.knows("two", 1)
	x.takeRules()
	x.places = strings.NewReplacer(append(x.takeUploads(), "{own}", string(x.two.Batch), "{one}", string(x.one.Batch), "{gone}", string(protocol.NewBatchID()))...)
	return x
}

func (x *tenants) ask(who string, row *access, path string) answer {
	x.Helper()
	got := x.call(who, row.method, x.places.Replace(path), row.body, row.header...)
	if strings.Contains(string(got.body), marker) {
		x.Errorf("%s %s as %q shows what is org one's: %s", row.method, path, who, got.body)
	}
	return got
}

// TestTenants calls every route of the API for the own resource, another org's and a missing one, without a key, with a key that is
// none, with each role that is too low, and with the roles that suffice. A route without a row fails.
func TestTenants(t *testing.T) {
	t.Parallel()
	x := newTenants(t)
	x.keys["nobody"] = NewAPIKey()
	rows := map[string]bool{}
	for _, row := range accesses() {
		rows[row.method+" "+row.route] = true
		all := append([]string{row.own}, row.others...)
		if row.missing != "" {
			all = append(all, row.missing)
		}
		if row.need == "" {
			if got := x.ask("", &row, row.own); got.status != row.ok {
				t.Errorf("%s %s: %d, want %d", row.method, row.own, got.status, row.ok)
			}
			continue
		}
		for _, path := range all {
			for _, who := range []string{"", "nobody"} {
				x.ask(who, &row, path).want(401, CodeUnauthorized)
			}
			for _, role := range []Role{RoleRead, RoleCopy} {
				if !role.Includes(row.need) {
					x.ask("two/"+string(role), &row, path).want(403, CodeForbidden)
				}
			}
		}
		x.outOfReach(&row)
		if got := x.ask("two/"+string(row.need), &row, row.own); got.status != row.ok {
			t.Errorf("%s %s: %d, want %d: %s", row.method, row.own, got.status, row.ok, got.body)
		}
	}
	var registered []string
	for _, rt := range x.server.routes() {
		registered = append(registered, rt.method+" "+rt.path)
		for _, row := range accesses() {
			if row.method == rt.method && row.route == rt.path && row.need != rt.need {
				t.Errorf("%s %s takes the role %q, its row says %q", rt.method, rt.path, rt.need, row.need)
			}
		}
	}
	for _, name := range registered {
		if !rows[name] {
			t.Errorf("%s has no row in accesses: say what it does for the resources of other orgs", name)
		}
		delete(rows, name)
	}
	for name := range rows {
		t.Errorf("%s has a row in accesses and is no route", name)
	}
	x.unharmed()
	if t.Failed() {
		t.Log(x.log.String())
	}
}

// outOfReach calls for what is not the own, with every role that suffices for the own. What is another's looks as if it were missing.
func (x *tenants) outOfReach(row *access) {
	x.Helper()
	for _, role := range []Role{RoleRead, RoleCopy, RoleAdmin} {
		if !role.Includes(row.need) || row.operator && role == RoleAdmin {
			continue
		}
		who := "two/" + string(role)
		for _, path := range row.others {
			got := x.ask(who, row, path)
			if row.refused != 0 {
				if got.status != row.refused {
					x.Errorf("%s %s as %s: %d, want %d", row.method, path, who, got.status, row.refused)
				}
				continue
			}
			missing := x.ask(who, row, row.missing)
			if got.status != http.StatusNotFound || missing.status != http.StatusNotFound {
				x.Errorf("%s %s as %s: %d, and %d for what is missing", row.method, path, who, got.status, missing.status)
			}
			if diff := cmp.Diff(withoutInstance(x.T, missing), withoutInstance(x.T, got)); diff != "" {
				x.Errorf("%s %s as %s can be told from what is missing:\n%s", row.method, path, who, diff)
			}
		}
	}
}

// withoutInstance is an answer without what repeats the request. The names of sandboxes are the caller's own words.
func withoutInstance(t *testing.T, a answer) map[string]any {
	t.Helper()
	text := strings.NewReplacer(`sandbox box`, `sandbox X`, `sandbox none`, `sandbox X`, `"box"`, `"X"`, `"none"`, `"X"`).Replace(string(a.body))
	var v map[string]any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%s: %v", a.body, err)
	}
	delete(v, "instance")
	headers := map[string][]string{}
	for name, values := range a.header {
		if !slices.Contains([]string{"Date", requestIDHeader, "Content-Length"}, name) {
			headers[name] = values
		}
	}
	v["headers"] = headers
	return v
}

// unharmed looks at what is org one's as org one.
func (x *tenants) unharmed() {
	x.Helper()
	v := decode[batchView](x.call("one/read", "GET", "/v1/batches/"+string(x.one.Batch), "").want(200, ""))
	if v.State != protocol.BatchRunning || v.Label != marker || v.Counts != (countsView{Queued: 2, Failed: 1}) || v.Reruns != nil {
		x.Errorf("the batch of org one is %+v", v)
	}
	if c := x.control(&x.one); c.Wanted != "" {
		x.Errorf("the batch of org one is wanted to %s", c.Wanted)
	}
	x.uploadUnharmed()
	x.rulesUnharmed()
	x.call("one/read", "GET", "/v1/sandboxes/box", "").want(200, "")
	if got := decode[batchesView](x.call("one/read", "GET", "/v1/batches", "").want(200, "")); len(got.Items) != 1 {
		x.Errorf("org one has %d batches", len(got.Items))
	}
}
