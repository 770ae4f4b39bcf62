package producer

import (
	"encoding/hex"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/copyfleet/copyfleet/protocol"
)

// Codes of problems that only batches have.
const (
	faultTruncated     = "truncated"
	faultMixedPools    = "mixed_pools"
	faultNoSandbox     = "sandbox_not_found"
	faultColumns       = "invalid_columns"
	faultDigest        = "invalid_digest"
	faultOutOfOrder    = "out_of_order"
	faultSecretInQuery = "secret_in_query"
	faultRedacted      = "redacted"
	faultCompressed    = "compressed"
)

// notWhole refuses a row of a report that would run as another item than it was: a signed URL without its query may well answer.
const notWhole = "This row was taken from a report without secrets, and lacks some of them; take the report with secrets=true " +
	"(as NDJSON, if there are headers or forms)."

// maxFresh bounds the sandboxes that one batch may let come into being.
const maxFresh = 1000

// itemMembers are the members of an item. A row of a report is an item, too: of its receipt only whether the row is whole is looked at.
var itemMembers = []string{"id", "src", "dest", "size", "sha256", "md5", "conflict", "digest", "receipt"}

// itemCheck validates the items of one batch, as a copy call is validated, with bounded memory however many there are.
type itemCheck struct {
	tenancy  *tenancy
	org      protocol.OrgID
	grants   grants
	defaults defaults
	problems problems
	count    int
	ids      *idSet
	crowded  bool // there was no memory for more ids

	pool    string                      // of the sandboxes so far; "": none yet
	last    [2]protocol.SandboxID       // looked up last, a side each: most batches have one or two
	fresh   map[protocol.SandboxID]bool // unknown, and to come into being
	refused map[protocol.SandboxID]bool // unknown, told of already
}

// defaults stand in for what the items of a manifest leave out.
type defaults struct {
	sandbox protocol.SandboxID // of sandbox locations that name none
	path    string             // directory in it, below which relative paths and those of URLs are put
	bucket  string             // of destinations that name none
	prefix  string             // of the keys made for it

	conflict protocol.ConflictPolicy
	digest   protocol.Digest
}

func newItemCheck(t *tenancy, org protocol.OrgID, budget *share) *itemCheck {
	return &itemCheck{
		tenancy: t, org: org, grants: t.grantsOf(org), ids: newIDSet(budget),
		fresh: map[protocol.SandboxID]bool{}, refused: map[protocol.SandboxID]bool{},
	}
}

// item validates one item. It is of use only if nothing was added to the problems.
func (c *itemCheck) item(v value, at string) protocol.ManifestItem {
	p := &c.problems
	var item protocol.ManifestItem
	if !object(v, at, p, itemMembers...) {
		return item
	}
	if v.get("receipt").get("redacted").kind == jsontext.KindTrue {
		p.add(at, faultRedacted, notWhole)
		return item
	}
	before := p.total
	item.ID = itemID(v, at, p)
	home := home{sandbox: c.defaults.sandbox, named: true}
	item.Src = location(v, at, sourceSide, home, p)
	if v.get("dest").absent() && p.total == before && c.defaults.given() {
		item.Dest = c.derived(item.Src, at)
	} else {
		item.Dest = location(v, at, destSide, home, p)
	}
	item.Expect = expectation(v, at, p)
	c.policies(&item, v, at)
	if p.total > before {
		return item
	}
	c.place(&item, at)
	return item
}

// place checks what an item of valid form asks for.
func (c *itemCheck) place(item *protocol.ManifestItem, at string) {
	if sameLocation(item.Src, item.Dest) {
		c.problems.add(at+"/dest", faultSame, "Source and destination are the same.")
	}
	for i, loc := range [2]*protocol.Location{&item.Src, &item.Dest} {
		end := [2]string{"/src", "/dest"}[i]
		if loc.Type == protocol.SandboxFile && loc.Sandbox != c.last[i] {
			c.sandbox(loc.Sandbox, at+end)
			c.last[i] = loc.Sandbox
		}
		if loc.Type == protocol.Object && !c.grants.cover(loc.Bucket, loc.Key) {
			c.problems.add(at+end, faultNotGranted, "The org has no grant for this bucket and key.")
		}
	}
	if item.ID == "" {
		return
	}
	switch known, room := c.ids.add(item.ID); {
	case known:
		c.problems.add(at+"/id", faultDuplicateID, "An earlier item has the same id.")
	case !room:
		c.crowded = true
	}
}

// sandbox checks a sandbox that an item names: it is there or may come into being, and the workers that reach the others reach it.
func (c *itemCheck) sandbox(id protocol.SandboxID, at string) {
	known, ok := c.tenancy.registry.Sandbox(c.org, id)
	switch {
	case ok:
	case !c.tenancy.cfg.AutoSandboxes:
		c.problems.add(at, faultNoSandbox, "There is no such sandbox; register it with PUT /v1/sandboxes/{id}.")
		return
	case !c.fresh[id] && len(c.fresh) == maxFresh:
		c.problems.add(at, faultTooMany, "One batch lets at most "+itoa(maxFresh)+" sandboxes come into being; register them before.")
		return
	default:
		c.fresh[id], known.Pool = true, protocol.DefaultPool
	}
	if pool := c.poolOr(known.Pool); pool != known.Pool {
		c.problems.add(at, faultMixedPools, "This sandbox is reached by other workers than those of the items before; make a batch for each pool.")
		return
	}
	c.pool = known.Pool
}

// poolOr is the pool of the batch, as far as its sandboxes tell.
func (c *itemCheck) poolOr(pool string) string {
	if c.pool != "" {
		return c.pool
	}
	return pool
}

// problem is the answer for all that is wrong. What is wrong with every problem in the same way has a code of its own.
func (c *itemCheck) problem() *Problem {
	code := CodeInvalidRequest
	for i, e := range c.problems.list {
		of := CodeInvalidRequest
		switch e.Code {
		case faultNotGranted:
			of = CodeBucketNotGranted
		case faultNoSandbox:
			of = CodeSandboxNotFound
		case faultMixedPools:
			of = CodeMixedPools
		}
		if i > 0 && of != code {
			of = CodeInvalidRequest
		}
		if code = of; code == CodeInvalidRequest {
			break
		}
	}
	return c.problems.problem(code)
}

func (d defaults) given() bool { return d.sandbox != "" || d.bucket != "" }

// derived is where the file of a URL goes that names no destination: below the default directory or prefix, under its host and path.
func (c *itemCheck) derived(src protocol.Location, at string) protocol.Location {
	p := &c.problems
	if src.Type != protocol.HTTPGet {
		p.add(at+"/dest", faultMissing, "This location is required.")
		return protocol.Location{}
	}
	u, err := url.Parse(src.URL)
	if err != nil || u.Path == "" || strings.HasSuffix(u.Path, "/") {
		p.add(at+"/dest", faultMissing, "This location is required: the path of the URL names no file to call it after.")
		return protocol.Location{}
	}
	if slices.ContainsFunc(strings.Split(u.Path, "/"), func(name string) bool { return name == "." || name == ".." }) {
		p.add(at+"/dest", faultPathEscapes, "This location is required: the path of the URL climbs, and its file would not be below the default.")
		return protocol.Location{}
	}
	return c.within(strings.ToLower(u.Host)+u.Path, at+"/dest")
}

// within is the place of a relative name below the defaults: an object if there is a default bucket, else a file.
func (c *itemCheck) within(name, at string) protocol.Location {
	if d := c.defaults; d.bucket != "" {
		key := d.prefix + name
		if message := keyFault(key); message != "" {
			c.problems.add(at, faultKey, message)
		}
		return protocol.Location{Type: protocol.Object, Bucket: d.bucket, Key: key}
	}
	clean, code, message := sandboxPath(strings.TrimSuffix("/"+strings.Trim(c.defaults.path, "/"), "/") + "/" + name)
	if code != "" {
		c.problems.add(at, code, message)
	}
	return protocol.Location{Type: protocol.SandboxFile, Sandbox: c.defaults.sandbox, Path: clean}
}

// relative puts a path that a row gives below the defaults, as a value of a location.
func (d defaults) relative(given string) string {
	if strings.HasPrefix(given, "/") {
		return given
	}
	return strings.TrimSuffix("/"+strings.Trim(d.path, "/"), "/") + "/" + given
}

// expectation returns what an item promises about its bytes.
func expectation(v value, at string, p *problems) protocol.Expect {
	var e protocol.Expect
	if size := optionalInt(v, at, "size", -1, 0, 1<<62, p); size >= 0 {
		e.Size = &size
	}
	e.SHA256 = hexDigest(v, at, "sha256", 32, p)
	e.MD5 = hexDigest(v, at, "md5", 16, p)
	return e
}

// hexDigest returns a digest of so many bytes in lowercase hex, or "".
func hexDigest(v value, at, name string, size int, p *problems) string {
	text, ok := optionalString(v, at, name, p)
	if !ok || text == "" {
		return ""
	}
	if raw, err := hex.DecodeString(text); err != nil || len(raw) != size {
		p.add(pointer(at, name), faultDigest, "This digest has "+itoa(2*size)+" hexadecimal digits.")
		return ""
	}
	return strings.ToLower(text)
}

// textValue is a JSON string as validation sees it; absent if it is empty.
func textValue(s string) value {
	if s == "" {
		return value{}
	}
	return value{kind: jsontext.KindString, text: s}
}

// numberValue is a number that came as text; what is none stays a string, and is refused as such.
func numberValue(s string) value {
	v := textValue(s)
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		v.kind = jsontext.KindNumber
	}
	return v
}

// objectValue is a JSON object of the members that are present.
func objectValue(members ...member) value {
	kept := members[:0]
	for _, m := range members {
		if !m.value.absent() {
			kept = append(kept, m)
		}
	}
	return value{kind: jsontext.KindBeginObject, members: kept}
}

// directory cleans the default directory in a sandbox.
func directory(raw string) (clean, message string) {
	if raw == "" {
		return "", ""
	}
	probe, _, message := sandboxPath(strings.TrimSuffix("/"+strings.TrimLeft(raw, "/"), "/") + "/x")
	return path.Dir(probe), message
}
