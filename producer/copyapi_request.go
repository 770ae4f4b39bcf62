package producer

import (
	"crypto/sha256"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/copyfleet/copyfleet/protocol"
)

// CopyCall is a copy call that passed validation.
type CopyCall struct {
	Principal Principal
	Org       protocol.OrgID
	Sandbox   Sandbox
	Items     []protocol.Item // in request order; Index is set

	BodySHA256     [sha256.Size]byte // of the body as it came
	IdempotencyKey string            // "" if none was sent

	Async bool           // Prefer: respond-async
	Wait  *time.Duration // Prefer: wait=N, 0 to [Config.MaxWait]; nil if not given
}

// RequestDigest tells a repeated request from another use of its idempotency key. The sandbox is part of it: the same
// body sent to another sandbox asks for other copies.
func (c *CopyCall) RequestDigest() [sha256.Size]byte {
	h := sha256.New()
	h.Write([]byte("copy\x00" + string(c.Org) + "\x00" + string(c.Sandbox.ID) + "\x00"))
	h.Write(c.BodySHA256[:])
	return [sha256.Size]byte(h.Sum(nil))
}

// copyFiles validates a copy call and hands it to runCopy. Up to there nothing has happened, but that an unknown
// sandbox came into being if the configuration says so.
func (s *Server) copyFiles(w http.ResponseWriter, r *http.Request) {
	call, problem := s.copyCall(w, r)
	if problem != nil {
		writeProblem(w, r, *problem)
		return
	}
	s.runCopy(w, r, *call)
}

func (s *Server) copyCall(w http.ResponseWriter, r *http.Request) (*CopyCall, *Problem) {
	who := principalOf(r)
	if r.PathValue("orgId") != string(who.Org) {
		p := newProblem(CodeWrongOrg, "The API key does not belong to the org in the path.")
		return nil, &p
	}
	id := protocol.SandboxID(r.PathValue("sandboxId"))
	if p := s.sandboxMayBe(who.Org, id); p != nil {
		return nil, p
	}
	key, p := idempotencyKey(r.Header)
	if p != nil {
		return nil, p
	}
	call := &CopyCall{Principal: who, Org: who.Org, IdempotencyKey: key}
	if p := s.readCopyBody(w, r, id, call); p != nil {
		return nil, p
	}
	prefer := parsePrefer(r.Header)
	call.Async, call.Wait = prefer.async, prefer.wait
	if call.Wait != nil {
		*call.Wait = min(*call.Wait, s.cfg.MaxWait)
	}
	// Last of all, because it is the only step that leaves something behind.
	if call.Sandbox, p = s.sandboxForUse(r, who.Org, id); p != nil {
		return nil, p
	}
	return call, nil
}

// readCopyBody fills in what comes from the body, and gives its memory back.
func (s *Server) readCopyBody(w http.ResponseWriter, r *http.Request, id protocol.SandboxID, call *CopyCall) *Problem {
	b, p := s.readBody(w, r, s.cfg.MaxBody)
	if p != nil {
		return p
	}
	defer b.Release()
	call.BodySHA256 = sha256.Sum256(b.bytes)
	if call.Items, p = decodeCopyRequest(b.bytes, id, min(s.cfg.MaxItems, MaxCopyItems)); p != nil {
		return p
	}
	return checkGrants(call.Items, s.grantsOf(call.Org))
}

func (s *Server) sandboxForUse(r *http.Request, org protocol.OrgID, id protocol.SandboxID) (Sandbox, *Problem) {
	if known, ok := s.registry.Sandbox(org, id); ok {
		return known, nil
	}
	if p := s.sandboxMayBe(org, id); p != nil {
		return Sandbox{}, p
	}
	sandbox, err := s.registry.EnsureSandbox(r.Context(), org, id)
	if err != nil {
		return Sandbox{}, s.recordsFailed(r, err)
	}
	return sandbox, nil
}

// recordsFailed logs why a change could not be stored, and returns the answer.
func (s *Server) recordsFailed(r *http.Request, err error) *Problem {
	s.fault(r, "store a registry record", err)
	p := newProblem(CodeUnavailable, "The change could not be stored; try again.")
	return &p
}

// copyRequest is a copy request while it is decoded: a file at a time, so that only the items stay in memory.
type copyRequest struct {
	sandbox  protocol.SandboxID
	maxItems int
	items    []protocol.Item
	ids      map[string]int // by id: the index that has it
	problems problems
	files    jsontext.Kind // what the member "files" was
}

// decodeCopyRequest decodes and validates the body of a copy request. It finds every problem that a body of
// valid JSON has; in what is not valid JSON it finds the first one.
func decodeCopyRequest(body []byte, sandbox protocol.SandboxID, maxItems int) ([]protocol.Item, *Problem) {
	d := newDecoder(body)
	req := copyRequest{sandbox: sandbox, maxItems: maxItems, ids: map[string]int{}}
	if err := req.decode(d); err != nil {
		return nil, syntaxProblem(err)
	}
	if req.problems.total > 0 {
		return nil, req.problems.problem(CodeInvalidRequest)
	}
	return req.items, nil
}

func (c *copyRequest) decode(d *decoder) error {
	if d.PeekKind() != jsontext.KindBeginObject {
		v, err := d.value(0)
		if err != nil {
			return err
		}
		c.problems.add("", faultWrongType, "The body must be an object, it is "+v.kindName()+".")
		return d.end()
	}
	if _, err := d.token(); err != nil {
		return err
	}
	for {
		tok, err := d.token()
		if err != nil {
			return err
		}
		if tok.Kind() == jsontext.KindEndObject {
			break
		}
		if err := c.member(d, tok.String()); err != nil {
			return err
		}
	}
	if c.files == jsontext.KindInvalid || c.files == jsontext.KindNull {
		c.problems.add("/files", faultMissing, "This array is required, with one entry at least.")
	}
	return d.end()
}

func (c *copyRequest) member(d *decoder, name string) error {
	if name != "files" {
		c.problems.add(pointer("", name), faultUnknown, "There is no such member here; known is files.")
		_, err := d.value(0)
		return err
	}
	c.files = d.PeekKind()
	if c.files == jsontext.KindBeginArray {
		return c.array(d)
	}
	v, err := d.value(0)
	if err == nil && !v.absent() {
		c.problems.add("/files", faultWrongType, "This must be an array, it is "+v.kindName()+".")
	}
	return err
}

func (c *copyRequest) array(d *decoder) error {
	if _, err := d.token(); err != nil {
		return err
	}
	n := 0
	for ; d.PeekKind() != jsontext.KindEndArray; n++ {
		// Beyond the limit the rest is only checked for being JSON, and counted.
		levels := 0
		if n < c.maxItems {
			levels = 3 // a file, its locations, their headers and forms
		}
		file, err := d.value(levels)
		if err != nil {
			return err
		}
		if n < c.maxItems {
			c.file(n, file)
		}
	}
	switch {
	case n == 0:
		c.problems.add("/files", faultEmpty, "There must be one file at least.")
	case n > c.maxItems:
		c.problems.add("/files", faultTooMany, "There are "+strconv.Itoa(n)+" files, "+strconv.Itoa(c.maxItems)+" is the most for one call.")
	}
	_, err := d.token() // the closing bracket
	return err
}

func (c *copyRequest) file(index int, file value) {
	at := "/files/" + strconv.Itoa(index)
	p := &c.problems
	if !object(file, at, p, "id", "src", "dest") {
		return
	}
	before := p.total
	item := protocol.Item{Index: index, ID: itemID(file, at, p)}
	if first, taken := c.ids[item.ID]; taken && item.ID != "" {
		p.add(at+"/id", faultDuplicateID, "The file at index "+strconv.Itoa(first)+" has the same id.")
	}
	c.ids[item.ID] = index
	item.Src = location(file, at, sourceSide, home{sandbox: c.sandbox}, p)
	item.Dest = location(file, at, destSide, home{sandbox: c.sandbox}, p)
	if p.total == before && sameLocation(item.Src, item.Dest) {
		p.add(at+"/dest", faultSame, "Source and destination are the same.")
	}
	if p.total == 0 { // after a problem nothing is kept: the request is refused
		c.items = append(c.items, item)
	} else {
		c.items = nil
	}
}

// checkGrants refuses the request if it names a bucket that the org may not use. A bucket that is not granted and one
// that does not exist look the same.
func checkGrants(items []protocol.Item, g grants) *Problem {
	if g.all {
		return nil
	}
	var p problems
	for _, item := range items {
		for i, loc := range [2]protocol.Location{item.Src, item.Dest} {
			if loc.Type == protocol.Object && !g.cover(loc.Bucket, loc.Key) {
				end := [2]string{"src", "dest"}[i]
				p.add("/files/"+strconv.Itoa(item.Index)+"/"+end, faultNotGranted, "The org has no grant for this bucket and key.")
			}
		}
	}
	if p.total == 0 {
		return nil
	}
	return p.problem(CodeBucketNotGranted)
}
