package producer

import (
	"crypto/sha256"
	"errors"
	"net/http"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/copyfleet/copyfleet/protocol"
)

const (
	// rerunBody bounds the body of a call that names items, in bytes.
	rerunBody = 4 << 20
	// maxNamed bounds the items that one call names.
	maxNamed = 100_000
)

// retryRequest is the body of a retry. Every member may be left out.
type retryRequest struct {
	Filter retryFilter `json:"filter"`
	rerunOptions
}

// retryFilter says which items of a batch are to run again.
type retryFilter struct {
	Class protocol.Class   `json:"class"`
	Code  string           `json:"code"`
	Host  string           `json:"host"`
	State string           `json:"state"`
	Items []jsontext.Value `json:"items"` // ids are strings, indexes are numbers
}

// rerunOptions are what a new batch may have otherwise than the one whose items it runs again. What is absent stays as there; null stands
// for what a new batch has that says nothing.
type rerunOptions struct {
	Label     jsontext.Value `json:"label"`
	Lane      jsontext.Value `json:"lane"`
	Attempts  jsontext.Value `json:"attempts"`
	Rate      jsontext.Value `json:"rate"`
	Canary    jsontext.Value `json:"canary"`
	MaxFailed jsontext.Value `json:"max_failed"`
	Webhook   jsontext.Value `json:"webhook"`

	parsed options
}

// check parses the options and adds what is wrong with them.
func (o *rerunOptions) check(p *problems) {
	var given []member
	for i, raw := range []jsontext.Value{o.Label, o.Lane, o.Attempts, o.Rate, o.Canary, o.MaxFailed, o.Webhook} {
		if raw == nil {
			continue
		}
		v, err := newDecoder(raw).value(2)
		if err != nil { // it was decoded once
			p.add(pointer("", optionMembers[i]), faultWrongType, "This cannot be read.")
		}
		given = append(given, member{optionMembers[i], v})
	}
	o.parsed = parseOptions(objectValue(given...), p)
}

// apply puts what was given in place of what the terms say. The webhook is sealed for the new batch.
func (o *rerunOptions) apply(t *terms, sealer *protocol.Sealer, org protocol.OrgID, id protocol.BatchID) error {
	run, err := o.parsed.seal(sealer, org, id)
	if err != nil {
		return err
	}
	if o.Label != nil {
		t.label = o.parsed.label
	}
	if o.Lane != nil {
		t.lane = o.parsed.lane
	}
	if o.Attempts != nil {
		t.options.Attempts = run.Attempts
	}
	if o.Rate != nil {
		t.options.Rate = run.Rate
	}
	if o.Canary != nil {
		t.options.Canary = run.Canary
	}
	if o.MaxFailed != nil {
		t.options.MaxFailed = run.MaxFailed
	}
	if o.Webhook != nil {
		t.options.Webhook = run.Webhook
	}
	return nil
}

// filter checks what a retry asks for.
func (q *retryFilter) filter(p *problems) rerunFilter {
	f := rerunFilter{class: q.Class, code: q.Code, host: q.Host}
	switch q.State {
	case "", string(protocol.ItemFailed):
	case string(protocol.ItemCanceled):
		f.canceled = true
	default:
		p.add("/filter/state", faultChoice, "state must be failed, or canceled for the failed and the canceled items.")
	}
	if q.Items == nil {
		return f
	}
	if len(q.Items) > maxNamed {
		p.add("/filter/items", faultTooMany, "A call names 100000 items at most.")
		return f
	}
	f.named, f.ids, f.indexes = true, map[string]bool{}, map[int]bool{}
	for i, item := range q.Items {
		at := "/filter/items/" + strconv.Itoa(i)
		switch item.Kind() {
		case jsontext.KindString:
			var id string
			if json.Unmarshal(item, &id) != nil || id == "" {
				p.add(at, faultEmpty, "An id must not be empty.")
			}
			f.ids[id] = true
		case jsontext.KindNumber:
			index, err := strconv.Atoi(string(item))
			if err != nil || index < 0 {
				p.add(at, faultOutOfRange, "An index is a whole number from 0 on.")
			}
			f.indexes[index] = true
		default:
			p.add(at, faultWrongType, "An item is named by its id, a string, or by its index, a number.")
		}
	}
	return f
}

// readRequest decodes a body of known members only; an empty one leaves everything out. sum is its digest.
func (s *Server) readRequest(w http.ResponseWriter, r *http.Request, into any) (sum [sha256.Size]byte, problem *Problem) {
	if r.Body == http.NoBody || r.ContentLength == 0 {
		return sha256.Sum256(nil), nil
	}
	b, p := s.readBody(w, r, rerunBody)
	if p != nil {
		return sum, p
	}
	defer b.Release()
	return sha256.Sum256(b.bytes), decodeRequest(b.bytes, into)
}

// decodeRequest decodes a body. What it says of a fault shows nothing of the body: that may hold credentials.
func decodeRequest(body []byte, into any) *Problem {
	err := json.Unmarshal(body, into, json.RejectUnknownMembers(true))
	if err == nil {
		return nil
	}
	fault, ok := errors.AsType[*json.SemanticError](err)
	if !ok {
		return syntaxProblem(err)
	}
	var p problems
	at := ""
	for name := range fault.JSONPointer.Tokens() {
		at = pointer(at, name)
	}
	if errors.Is(err, json.ErrUnknownName) {
		p.add(at, faultUnknown, "There is no such member here.")
	} else {
		p.add(at, faultWrongType, "This value has the wrong type, or is out of range.")
	}
	return p.problem(CodeInvalidRequest)
}
