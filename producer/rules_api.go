package producer

import (
	"context"
	"errors"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/producer/rules"
	"github.com/copyfleet/copyfleet/producer/triggers"
	"github.com/copyfleet/copyfleet/protocol"
)

// maxRules bounds a body with rules, in bytes.
const maxRules = 256 << 10

// faultRule is the code of each mistake in a document of rules.
const faultRule = "rule"

// ruleList is the answer of GET /v1/rules.
type ruleList struct {
	Rules []triggers.View `json:"rules"`
}

// appliedRules is the answer of POST /v1/rules.
type appliedRules struct {
	Rules []triggers.Applied `json:"rules"`
}

// withRules serves if there are rules, and else says that there are none.
func (s *Server) withRules(serve func(w http.ResponseWriter, r *http.Request, org protocol.OrgID)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if s.triggers == nil {
			writeProblem(w, r, newProblem(CodeNotFound, "This server has no rules."))
			return
		}
		serve(w, r, principalOf(r).Org)
	}
}

// awaitRules gives a front that has just started a moment to load the rules: what needs them says so if they are not there then.
func (s *Server) awaitRules(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, listPatience)
	defer cancel()
	_ = s.triggers.Loaded(ctx) // told by what needs them
}

// applyRules answers POST /v1/rules: all rules of the body take effect, or none.
func (s *Server) applyRules(w http.ResponseWriter, r *http.Request, org protocol.OrgID) {
	if p := checkRuleType(r.Header); p != nil {
		writeProblem(w, r, *p)
		return
	}
	b, p := s.readBytes(w, r, maxRules)
	if p != nil {
		writeProblem(w, r, *p)
		return
	}
	defer b.Release()
	list, wrong := s.tenancy.rules(org, b.bytes)
	if len(wrong) > 0 {
		writeProblem(w, r, *ruleProblem(wrong))
		return
	}
	applied, err := s.triggers.Apply(r.Context(), org, list)
	if err != nil {
		s.refuseRule(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, appliedRules{applied})
}

// ruleTypes are the types of a body with rules. JSON is YAML, too.
var ruleTypes = []string{"application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml", "application/json"}

func checkRuleType(h http.Header) *Problem {
	if p := checkEncoding(h); p != nil {
		return p
	}
	given := h.Get("Content-Type")
	media, params, err := mime.ParseMediaType(given)
	charset, has := params["charset"]
	if given != "" && (err != nil || !slices.Contains(ruleTypes, media) || has && !strings.EqualFold(charset, "utf-8")) {
		p := newProblem(CodeUnsupportedMedia, "The body must be application/yaml or application/json in UTF-8.")
		return &p
	}
	return nil
}

// ruleProblem tells all that is wrong with rules, each with its line in the body.
func ruleProblem(wrong []rules.Problem) *Problem {
	var list problems
	for i := range wrong {
		pointer := ""
		if wrong[i].Field != "" {
			pointer = "/" + strings.ReplaceAll(wrong[i].Field, ".", "/")
		}
		list.line = wrong[i].Line
		list.add(pointer, faultRule, wrong[i].Message)
	}
	return list.problem(CodeRuleInvalid)
}

// listRules answers GET /v1/rules.
func (s *Server) listRules(w http.ResponseWriter, r *http.Request, org protocol.OrgID) {
	views, err := s.triggers.Rules(r.Context(), org)
	if err != nil {
		s.refuseRule(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, ruleList{views})
}

// showRule answers GET /v1/rules/{name}.
func (s *Server) showRule(w http.ResponseWriter, r *http.Request, org protocol.OrgID) {
	version := 0
	if given := r.URL.Query().Get("version"); given != "" {
		var err error
		if version, err = strconv.Atoi(given); err != nil || version < 1 {
			writeProblem(w, r, newProblem(CodeInvalidRequest, "version must be a whole number, 1 or more."))
			return
		}
	}
	view, err := s.triggers.Rule(r.Context(), org, r.PathValue("name"), version)
	if err != nil {
		s.refuseRule(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, view)
}

// deleteRule answers DELETE /v1/rules/{name}.
func (s *Server) deleteRule(w http.ResponseWriter, r *http.Request, org protocol.OrgID) {
	if err := s.triggers.Delete(r.Context(), org, r.PathValue("name")); err != nil {
		s.refuseRule(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// sweepRule answers POST /v1/rules/{name}/sweep when all that was found is decided on. A caller that hangs up breaks it off.
func (s *Server) sweepRule(w http.ResponseWriter, r *http.Request, org protocol.OrgID) {
	all := false
	switch given := r.URL.Query().Get("all"); given {
	case "", "false":
	case "true":
		all = true
	default:
		writeProblem(w, r, newProblem(CodeInvalidRequest, "all must be true or false."))
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer s.waits.join(cancel)()
	s.awaitRules(ctx)
	swept, err := s.triggers.Sweep(ctx, org, r.PathValue("name"), all)
	if err != nil && ctx.Err() != nil && s.waits.over() {
		writeProblem(w, r, newProblem(CodeShuttingDown, "The server is shutting down; sweep again."))
		return
	}
	if err != nil {
		s.refuseRule(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, swept)
}

const tooMuchTried = "Fewer events and rules are tried at once: the copies that these make have more than 8 MiB, or take more than 30 s."

var tooManyRules = "An org has " + strconv.Itoa(triggers.MostRules) + " rules and " + strconv.Itoa(triggers.MostSecrets) + " secrets at most."

// refuseRule answers when something could not be done with rules or secrets.
func (s *Server) refuseRule(w http.ResponseWriter, r *http.Request, err error) {
	for _, refusal := range []struct {
		err     error
		code    Code
		message string
	}{
		{triggers.ErrNoRule, CodeRuleNotFound, "There is no such rule, or not in this version."},
		{triggers.ErrNoSecret, CodeSecretNotFound, "There is no such secret."},
		{triggers.ErrNoBucket, CodeBucketNotFound, "The bucket of the rule does not exist."},
		{triggers.ErrTooMany, CodeTooManyRules, tooManyRules},
		{triggers.ErrNoSweep, CodeNotSweepable, "The rule is about no bucket, so that there is nothing to sweep."},
		{triggers.ErrTestTooLarge, CodeInvalidRequest, tooMuchTried},
		{triggers.ErrNoGrant, CodeBucketNotGranted, "The org has no grant for the bucket of the rule, or not for all keys with its prefix."},
		{triggers.ErrNotReady, CodeNotReady, "The rules are still being loaded. Try again later."},
		{triggers.ErrEventFull, CodeEventsFull, "Too many events wait to be dealt with. Try again later."},
		{broker.ErrConflict, CodeBusy, "Somebody else is changing the same. Try again later."},
	} {
		if errors.Is(err, refusal.err) {
			p := newProblem(refusal.code, refusal.message)
			if refusal.code == CodeEventsFull {
				p.retryAfter = eventsFullRetry
			}
			writeProblem(w, r, p)
			return
		}
	}
	s.fault(r, "deal with rules", err)
	writeProblem(w, r, newProblem(CodeUnavailable, "The rules cannot be reached or changed at the moment. Try again later."))
}
