package producer

import (
	"net/http"

	"github.com/copyfleet/copyfleet/protocol"
)

type orgList struct {
	Orgs []Org `json:"orgs"`
}

type grantList struct {
	Grants []Grant `json:"grants"`
}

// listOrgs answers GET /v1/orgs.
func (s *Server) listOrgs(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, orgList{s.registry.Orgs()})
}

// orgOf returns the org in the path, if the caller may ask about it: its own, or any for an admin.
func orgOf(r *http.Request) (protocol.OrgID, *Problem) {
	who, org := principalOf(r), r.PathValue("org")
	switch {
	case string(who.Org) != org && who.Role != RoleAdmin:
		p := newProblem(CodeWrongOrg, "The API key does not belong to the org in the path.")
		return "", &p
	case !protocol.ValidID(org):
		p := newProblem(CodeOrgNotFound, "There can be no such org: an id has 1 to 128 letters, digits, '.', '_' and '-'.")
		return "", &p
	}
	return protocol.OrgID(org), nil
}

// listGrants answers GET /v1/orgs/{org}/grants. An org that nothing is known about has none.
func (s *Server) listGrants(w http.ResponseWriter, r *http.Request) {
	org, p := orgOf(r)
	if p != nil {
		writeProblem(w, r, *p)
		return
	}
	writeJSON(w, http.StatusOK, grantList{s.registry.Grants(org)})
}

// grantOf reads the path and body that name a grant.
func (s *Server) grantOf(w http.ResponseWriter, r *http.Request) (org protocol.OrgID, bucket, prefix string, p *Problem) {
	if org, p = orgOf(r); p != nil {
		return "", "", "", p
	}
	v, p := s.readObject(w, r, "bucket", "prefix")
	if p != nil {
		return "", "", "", p
	}
	var list problems
	bucket = checked(v, "", "bucket", asFault(faultBucket, bucketFault), &list)
	prefix, ok := optionalString(v, "", "prefix", &list)
	if message := prefixFault(prefix); ok && message != "" {
		list.add("/prefix", faultKey, message)
	}
	if list.total > 0 {
		return "", "", "", list.problem(CodeInvalidRequest)
	}
	return org, bucket, prefix, nil
}

// putGrant answers PUT /v1/orgs/{org}/grants: 201 if the grant is new, 200 if it was there.
func (s *Server) putGrant(w http.ResponseWriter, r *http.Request) {
	org, bucket, prefix, p := s.grantOf(w, r)
	if p != nil {
		writeProblem(w, r, *p)
		return
	}
	grant, created, err := s.registry.PutGrant(r.Context(), org, bucket, prefix)
	if err != nil {
		writeProblem(w, r, *s.recordsFailed(r, err))
		return
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	writeJSON(w, status, grant)
}

// removeGrant answers DELETE /v1/orgs/{org}/grants.
func (s *Server) removeGrant(w http.ResponseWriter, r *http.Request) {
	org, bucket, prefix, p := s.grantOf(w, r)
	if p != nil {
		writeProblem(w, r, *p)
		return
	}
	err := s.registry.RemoveGrant(r.Context(), org, bucket, prefix)
	s.removed(w, r, err, newProblem(CodeGrantNotFound, "The org has no such grant."))
}
