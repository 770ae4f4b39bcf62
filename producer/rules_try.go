package producer

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/copyfleet/copyfleet/producer/events"
	"github.com/copyfleet/copyfleet/producer/rules"
	"github.com/copyfleet/copyfleet/producer/triggers"
	"github.com/copyfleet/copyfleet/protocol"
)

const (
	// maxTrial bounds the body of a trial of rules, in bytes: a notification and a file of rules, as text in JSON.
	maxTrial = events.MaxBody + 2*maxRules
	// maxTried bounds the events of a trial: each is shown with each rule.
	maxTried = 100
)

// trial is the answer of POST /v1/rules/test.
type trial struct {
	Results []tried `json:"results"`
}

// tried is what one rule would make of one event.
type tried struct {
	triggers.Tested

	Copy json.RawMessage `json:"copy,omitempty"`
}

// testRules answers POST /v1/rules/test: what the rules of the org, or those of the body, would make of events. Nothing is copied.
func (s *Server) testRules(w http.ResponseWriter, r *http.Request, org protocol.OrgID) {
	b, p := s.readBody(w, r, maxTrial)
	if p != nil {
		writeProblem(w, r, *p)
		return
	}
	defer b.Release()
	held := share{budget: s.eventMemory, org: org}
	if !held.take(min(eventExpansion*int64(len(b.bytes)), maxEventExpanded) + 2*triggers.MostTested) { // the results, and their text
		writeProblem(w, r, *busy())
		return
	}
	defer held.release()
	list, instead, p := s.readTrial(org, b.bytes)
	if p != nil {
		writeProblem(w, r, *p)
		return
	}
	s.awaitRules(r.Context())
	results, err := s.triggers.Test(r.Context(), org, instead, list)
	if err != nil {
		s.refuseRule(w, r, err)
		return
	}
	answer := trial{Results: make([]tried, len(results))}
	for i := range results {
		answer.Results[i] = tried{results[i], results[i].Copy}
	}
	writeJSON(w, http.StatusOK, answer)
}

// readTrial reads events, and the rules to try instead of those of the org; nil: none.
func (s *Server) readTrial(org protocol.OrgID, body []byte) ([]events.Event, []*rules.Rule, *Problem) {
	v, p := decodeObject(body, 1)
	if p != nil {
		return nil, nil, p
	}
	var list problems
	unknownMembers(v, "", &list, "event", "rules")
	text, _ := optionalString(v, "", "rules", &list)
	if kind := v.get("event").kind; kind != jsontext.KindBeginObject && kind != jsontext.KindBeginArray {
		list.add("/event", "event", "This must be a notification of S3, a CloudEvent, or a list of CloudEvents.")
	}
	if list.total > 0 {
		return nil, nil, list.problem(CodeInvalidRequest)
	}
	var instead []*rules.Rule
	if !v.get("rules").absent() { // an empty file has no rules either, and does not stand for those of the org
		var wrong []rules.Problem
		if instead, wrong = s.tenancy.rules(org, []byte(text)); len(wrong) > 0 {
			return nil, nil, ruleProblem(wrong)
		}
	}
	var raw struct {
		Event json.RawMessage `json:"event"`
	}
	if err := json.Unmarshal(body, &raw); err != nil {
		return nil, nil, eventProblem(err)
	}
	found, err := readEvents(raw.Event)
	if err != nil {
		return nil, nil, eventProblem(err)
	}
	if len(found) > maxTried {
		tooMany := newProblem(CodeInvalidRequest, "At most 100 events are tried at once.")
		return nil, nil, &tooMany
	}
	return found, instead, nil
}

// readEvents reads a notification of S3, a CloudEvent or a list of them, whichever it is.
func readEvents(raw []byte) ([]events.Event, error) {
	if bytes.HasPrefix(raw, []byte("[")) {
		return events.ParseCloudEvents(http.Header{"Content-Type": {"application/cloudevents-batch+json"}}, raw)
	}
	var looks struct {
		Specversion any `json:"specversion"`
	}
	if err := json.Unmarshal(raw, &looks); err == nil && looks.Specversion != nil {
		return events.ParseCloudEvents(http.Header{"Content-Type": {"application/cloudevents+json"}}, raw)
	}
	return events.ParseS3(raw)
}

// eventProblem says why a notification cannot be read.
func eventProblem(err error) *Problem {
	pointer, reason := "", "cannot be read"
	if wrong, ok := errors.AsType[*events.MalformedError](err); ok {
		pointer, reason = wrong.Pointer, wrong.Reason
	}
	var faults problems
	faults.add(pointer, "malformed", "It "+reason+".")
	return faults.problem(CodeEventMalformed)
}
