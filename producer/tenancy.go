package producer

import "github.com/copyfleet/copyfleet/protocol"

// tenancy tells which sandboxes and buckets an org may use.
type tenancy struct {
	cfg      Config
	registry *Registry
}

// grantsOf returns the buckets that an org may use now.
func (t *tenancy) grantsOf(org protocol.OrgID) grants {
	if t.cfg.GrantAll && org == t.cfg.DefaultOrg {
		return grants{all: true}
	}
	g := grants{prefixes: map[string][]string{}}
	for _, one := range t.registry.Grants(org) {
		g.prefixes[one.Bucket] = append(g.prefixes[one.Bucket], one.Prefix)
	}
	return g
}

// sandboxMayBe refuses a sandbox that is not there and will not come into being. An id that cannot exist is
// one that is not there.
func (t *tenancy) sandboxMayBe(org protocol.OrgID, id protocol.SandboxID) *Problem {
	if protocol.ValidID(string(id)) {
		if _, known := t.registry.Sandbox(org, id); known || t.cfg.AutoSandboxes {
			return nil
		}
	}
	message := "There is no such sandbox; register it with PUT /v1/sandboxes/{id}."
	if !protocol.ValidID(string(id)) {
		message = noSuchSandbox
	}
	p := newProblem(CodeSandboxNotFound, message)
	return &p
}
