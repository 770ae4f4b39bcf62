package producer

import (
	"net/http"
	"slices"
	"strings"
)

// route is one operation of the API. Need is the role it takes; "" leaves it open to everyone.
type route struct {
	method string
	path   string
	need   Role
	serve  http.HandlerFunc
}

// routes is the whole API. openapi.json describes exactly these.
func (s *Server) routes() []route {
	return []route{
		{"POST", "/api/orgs/{orgId}/sandboxes/{sandboxId}/file/copy", RoleCopy, s.copyFiles},

		{"GET", "/v1/batches", RoleRead, s.listBatches},
		{"POST", "/v1/batches", RoleCopy, s.submitBatch},
		{"GET", "/v1/batches/{id}", RoleRead, s.showBatch},
		{"GET", "/v1/batches/{id}/items", RoleRead, s.listItems},
		{"GET", "/v1/batches/{id}/items/{index}", RoleRead, s.showItem},
		{"GET", "/v1/batches/{id}/events", RoleRead, s.watchBatch},
		{"GET", "/v1/batches/{id}/webhook", RoleRead, s.showWebhook},
		{"GET", "/v1/batches/{id}/report.ndjson", RoleRead, s.reportNDJSON},
		{"GET", "/v1/batches/{id}/report.csv", RoleRead, s.reportCSV},
		{"POST", "/v1/batches/{id}/cancel", RoleCopy, s.cancelBatch},
		{"POST", "/v1/batches/{id}/pause", RoleCopy, s.pauseBatch},
		{"POST", "/v1/batches/{id}/resume", RoleCopy, s.resumeBatch},
		{"POST", "/v1/batches/{id}/retry", RoleCopy, s.retryBatch},

		{"GET", "/v1/dead-letters", RoleRead, s.listDead},
		{"GET", "/v1/dead-letters/{id}", RoleRead, s.showDead},
		{"POST", "/v1/dead-letters/redrive", RoleCopy, s.redrive},

		{"POST", "/v1/events/s3", RoleCopy, s.takeS3Events},
		{"POST", "/v1/events/cloudevents", RoleCopy, s.takeCloudEvents},
		{"OPTIONS", "/v1/events/cloudevents", RoleCopy, s.allowCloudEvents},

		{"GET", "/v1/rules", RoleRead, s.withRules(s.listRules)},
		{"POST", "/v1/rules", RoleAdmin, s.withRules(s.applyRules)},
		{"POST", "/v1/rules/test", RoleRead, s.withRules(s.testRules)},
		{"GET", "/v1/rules/{name}", RoleRead, s.withRules(s.showRule)},
		{"DELETE", "/v1/rules/{name}", RoleAdmin, s.withRules(s.deleteRule)},
		{"POST", "/v1/rules/{name}/sweep", RoleCopy, s.withRules(s.sweepRule)},

		{"GET", "/v1/secrets", RoleRead, s.withRules(s.listSecrets)},
		{"PUT", "/v1/secrets/{name}", RoleAdmin, s.withRules(s.putSecret)},
		{"DELETE", "/v1/secrets/{name}", RoleAdmin, s.withRules(s.deleteSecret)},

		{"POST", "/v1/presign", RoleCopy, s.presign},

		{"PUT", "/v1/sandboxes/{id}", RoleCopy, s.putSandbox},
		{"GET", "/v1/sandboxes/{id}", RoleRead, s.showSandbox},
		{"DELETE", "/v1/sandboxes/{id}", RoleCopy, s.forgetSandbox},

		{"GET", "/v1/sandboxes/{id}/uploads", RoleRead, s.listUploads},
		{"POST", "/v1/sandboxes/{id}/uploads", RoleCopy, s.createUpload},
		{"GET", "/v1/sandboxes/{id}/uploads/{upload_id}", RoleRead, s.showUpload},
		{"DELETE", "/v1/sandboxes/{id}/uploads/{upload_id}", RoleCopy, s.abortUpload},
		{"PUT", "/v1/sandboxes/{id}/uploads/{upload_id}/parts/{n}", RoleCopy, s.putPart},
		{"POST", "/v1/sandboxes/{id}/uploads/{upload_id}/complete", RoleCopy, s.completeUpload},
		{"POST", "/v1/sandboxes/{id}/upload-url", RoleCopy, s.makeUploadURL},
		{"PUT", "/v1/direct-uploads/{token}", "", s.putDirect},
		{"POST", "/v1/direct-uploads/{token}", "", s.postDirect},

		{"GET", "/v1/orgs", RoleAdmin, s.listOrgs},
		{"GET", "/v1/orgs/{org}/grants", RoleRead, s.listGrants},
		{"PUT", "/v1/orgs/{org}/grants", RoleAdmin, s.putGrant},
		{"DELETE", "/v1/orgs/{org}/grants", RoleAdmin, s.removeGrant},

		{"GET", "/v1/keys", RoleAdmin, s.listKeys},
		{"POST", "/v1/keys", RoleAdmin, s.makeKey},
		{"DELETE", "/v1/keys/{id}", RoleAdmin, s.revokeKey},

		{"GET", "/healthz", "", s.healthz},
		{"GET", "/readyz", "", s.readyz},
		{"GET", "/metrics", "", s.showMetrics},
		{"GET", "/openapi.json", "", s.describeAPI},
	}
}

// mux registers a handler a path, so that a wrong method and an unknown path get a problem from us and not
// a line of text from net/http.
func (s *Server) mux() *http.ServeMux {
	byPath := map[string]methods{}
	for _, rt := range s.routes() {
		if byPath[rt.path] == nil {
			byPath[rt.path] = methods{}
		}
		byPath[rt.path][rt.method] = s.authenticated(rt.need, rt.serve)
	}
	mux := http.NewServeMux()
	for path, m := range byPath {
		mux.Handle(path, m)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, r, newProblem(CodeNotFound, "There is no such path."))
	})
	return mux
}

// methods are the operations of one path.
type methods map[string]http.HandlerFunc

// ServeHTTP implements http.Handler. HEAD goes where GET does; net/http leaves the body out.
func (m methods) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if serve, ok := m[method]; ok {
		serve(w, r)
		return
	}
	w.Header().Set("Allow", m.allow())
	writeProblem(w, r, newProblem(CodeMethodNotAllowed, "This path takes "+m.allow()+"."))
}

func (m methods) allow() string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	if m[http.MethodGet] != nil {
		names = append(names, http.MethodHead)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}
