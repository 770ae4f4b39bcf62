package producer

import (
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/copyfleet/copyfleet/protocol"
)

// side is an end of a copy.
type side struct {
	name  string // the member
	fault string
	takes func(protocol.LocationType) bool
	types string // for messages
}

var (
	sourceSide = side{"src", faultNotSource, protocol.LocationType.Source,
		"sandboxFileLocation, httpGetLocation, objectLocation"}
	destSide = side{"dest", faultNotDest, protocol.LocationType.Destination,
		"sandboxFileLocation, httpPutLocation, httpPostFormLocation, objectLocation"}
)

// locationMembers are the members of each type, beside "type".
var locationMembers = map[protocol.LocationType][]string{
	protocol.SandboxFile:  {"path"},
	protocol.HTTPGet:      {"url", "headers"},
	protocol.HTTPPut:      {"url", "headers"},
	protocol.HTTPPostForm: {"url", "form", "fileField", "headers"},
	protocol.Object:       {"bucket", "key"},
}

// home says where the sandbox locations of a request are.
type home struct {
	sandbox protocol.SandboxID // of those that name none; "": each must name one
	named   bool               // a location may name its sandbox
}

const noSuchSandbox = "There can be no such sandbox: an id has 1 to 128 letters, digits, '.', '_' and '-', and begins with a letter or digit."

// anyLocationMember lists the members of all types: as null they are absent, wherever they stand, because
// some encoders write every member of a union.
var anyLocationMember = []string{"path", "url", "headers", "form", "fileField", "bucket", "key"}

// location validates one end of a copy. What it returns is of use only if nothing was added to p.
func location(file value, at string, end side, home home, p *problems) protocol.Location {
	v, at := file.get(end.name), pointer(at, end.name)
	switch {
	case v.absent():
		p.add(at, faultMissing, "This location is required.")
		return protocol.Location{}
	case v.kind != jsontext.KindBeginObject:
		p.add(at, faultWrongType, "A location must be an object, it is "+v.kindName()+".")
		return protocol.Location{}
	}
	t, ok := locationType(v, at, end, p)
	if !ok {
		return protocol.Location{}
	}
	foreignMembers(v, at, t, home, p)
	loc := protocol.Location{Type: t}
	switch t {
	case protocol.SandboxFile:
		loc.Sandbox = home.of(v, at, p)
		loc.Path = checked(v, at, "path", sandboxPath, p)
	case protocol.HTTPGet, protocol.HTTPPut:
		loc.URL = checked(v, at, "url", remoteURL, p)
		loc.Headers = headers(v, at, t, p)
	case protocol.HTTPPostForm:
		loc.URL = checked(v, at, "url", remoteURL, p)
		loc.Headers = headers(v, at, t, p)
		loc.Form = form(v, at, p)
		loc.FileField = fileField(v, at, loc.Form, p)
	case protocol.Object:
		loc.Bucket = checked(v, at, "bucket", asFault(faultBucket, bucketFault), p)
		loc.Key = checked(v, at, "key", asFault(faultKey, keyFault), p)
	case protocol.StagedUpload, protocol.SandboxTree: // are not known to callers: locationType refused them
	}
	return loc
}

// of returns the sandbox of a location.
func (h home) of(v value, at string, p *problems) protocol.SandboxID {
	if !h.named {
		return h.sandbox
	}
	name, ok := optionalString(v, at, "sandbox", p)
	switch {
	case !ok:
	case name == "" && h.sandbox == "":
		p.add(pointer(at, "sandbox"), faultMissing, "The location must name its sandbox, or the batch one for all.")
	case name == "":
		return h.sandbox
	case !protocol.ValidID(name):
		p.add(pointer(at, "sandbox"), faultNoSandbox, noSuchSandbox)
	default:
		return protocol.SandboxID(name)
	}
	return ""
}

// locationType returns the type if it exists and belongs on this side. The two are told apart.
func locationType(v value, at string, end side, p *problems) (protocol.LocationType, bool) {
	name, ok := requiredString(v, at, "type", p)
	if !ok {
		return "", false
	}
	t := protocol.LocationType(name)
	switch {
	case !t.Known():
		p.add(pointer(at, "type"), faultUnknownType, "There is no such location type; allowed here are "+end.types+".")
	case !end.takes(t):
		p.add(pointer(at, "type"), end.fault, "A "+name+" cannot stand here; allowed are "+end.types+".")
	default:
		return t, true
	}
	return "", false
}

// foreignMembers refuses members that the type does not have.
func foreignMembers(v value, at string, t protocol.LocationType, home home, p *problems) {
	own := locationMembers[t]
	for _, m := range v.members {
		switch {
		case m.name == "type" || slices.Contains(own, m.name):
		case m.name == "sandbox" && t == protocol.SandboxFile && home.named:
		case !slices.Contains(anyLocationMember, m.name) && !(home.named && m.name == "sandbox"):
			p.add(pointer(at, m.name), faultUnknown, "A "+string(t)+" has no such member; it has type, "+strings.Join(own, ", ")+".")
		case !m.value.absent():
			p.add(pointer(at, m.name), faultUnexpected, "A "+string(t)+" has no such member; it has type, "+strings.Join(own, ", ")+".")
		}
	}
	tooManyMembers(v, at, p)
}

// checked returns a required string member after its check.
func checked(v value, at, name string, check func(string) (clean, code, message string), p *problems) string {
	raw, ok := requiredString(v, at, name, p)
	if !ok {
		return ""
	}
	clean, code, message := check(raw)
	if code != "" {
		p.add(pointer(at, name), code, message)
	}
	return clean
}

func asFault(code string, fault func(string) string) func(string) (string, string, string) {
	return func(s string) (string, string, string) {
		if message := fault(s); message != "" {
			return "", code, message
		}
		return s, "", ""
	}
}

// sameLocation reports whether a copy would replace a file by itself. URLs are not compared: one URL may well
// answer a GET and take a PUT.
func sameLocation(a, b protocol.Location) bool {
	if a.Type != b.Type {
		return false
	}
	switch a.Type {
	case protocol.SandboxFile:
		return a.Sandbox == b.Sandbox && a.Path == b.Path
	case protocol.Object:
		return a.Bucket == b.Bucket && a.Key == b.Key
	default:
		return false
	}
}
