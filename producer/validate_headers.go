package producer

import (
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/copyfleet/copyfleet/protocol"
)

const (
	maxHeaders     = 64
	maxHeaderBytes = 16 << 10 // names and values
	maxFormFields  = 100
	maxFormBytes   = 64 << 10 // names and values
	maxFieldName   = 256      // bytes
)

// Why a header may not be set. The reason is the message.
const (
	whyFraming  = "This header is set by the transfer itself."
	whyHop      = "This header is for one connection only (RFC 9110, 7.6.1)."
	whyPartial  = "This header could make a part of a file look like the whole."
	whyBoundary = "The content type of a form is set by the transfer itself, with its boundary."
	whyCoding   = "Bytes are copied as they are stored: only identity is possible here."
)

var forbiddenHeaders = map[string]string{
	"host": whyFraming, "content-length": whyFraming, "transfer-encoding": whyFraming, "expect": whyFraming,
	"connection": whyHop, "keep-alive": whyHop, "te": whyHop, "trailer": whyHop, "upgrade": whyHop, "http2-settings": whyHop,
	"range": whyPartial, "if-range": whyPartial, "content-range": whyPartial,
}

// forbiddenHeader returns why a header may not be sent to a location of this type, or "".
func forbiddenHeader(t protocol.LocationType, name, value string) string {
	name = strings.ToLower(name)
	if why := forbiddenHeaders[name]; why != "" {
		return why
	}
	switch {
	case strings.HasPrefix(name, "proxy-"):
		return whyHop
	case name == "accept-encoding" && !strings.EqualFold(strings.TrimSpace(value), "identity"):
		return whyCoding
	case t == protocol.HTTPGet && strings.HasPrefix(name, "if-"):
		// A 304 has no bytes. For a PUT they are of use: If-None-Match: * keeps what is there.
		return whyPartial
	case t == protocol.HTTPPostForm && name == "content-type":
		return whyBoundary
	}
	return ""
}

// headers validates the headers of an HTTP location.
func headers(loc value, at string, t protocol.LocationType, p *problems) map[string]string {
	at = pointer(at, "headers")
	given, ok := stringMap(loc.get("headers"), at, p)
	if !ok {
		return nil
	}
	if n := len(given.members) + given.extra; n > maxHeaders {
		p.add(at, faultTooMany, "There are "+strconv.Itoa(n)+" headers, 64 is the most.")
		return nil
	}
	out := make(map[string]string, len(given.members))
	seen := make(map[string]bool, len(given.members))
	size := 0
	for _, m := range given.members {
		size += len(m.name) + len(m.value.text)
		if header(m, pointer(at, m.name), t, seen, p) {
			out[m.name] = m.value.text
		}
	}
	if size > maxHeaderBytes {
		p.add(at, faultTooLong, "Headers may have 16384 bytes in total at most.")
	}
	return out
}

func header(m member, at string, t protocol.LocationType, seen map[string]bool, p *problems) bool {
	lower := strings.ToLower(m.name)
	switch why := forbiddenHeader(t, m.name, m.value.text); {
	case m.value.kind != jsontext.KindString: // told already
		return false
	case !validToken(m.name):
		p.add(at, faultHeader, "A header name is a token (RFC 9110, 5.6.2): letters, digits and a few signs.")
		return false
	case !validFieldValue(m.value.text):
		p.add(at, faultHeader, "A header value must not hold control characters (RFC 9110, 5.5).")
		return false
	case why != "":
		p.add(at, faultForbidden, why)
		return false
	case seen[lower]:
		p.add(at, faultDuplicate, "This header is given twice; upper and lower case are the same.")
		return false
	}
	seen[lower] = true
	return true
}

// validToken reports a token of RFC 9110, 5.6.2.
func validToken(s string) bool {
	for i := range len(s) {
		if !letterOrDigit(s[i]) && strings.IndexByte("!#$%&'*+-.^_`|~", s[i]) < 0 {
			return false
		}
	}
	return s != ""
}

// validFieldValue reports a field value of RFC 9110, 5.5: no control characters but the tab.
func validFieldValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// form validates the fields of a form. Values go into a multipart body (RFC 7578) and may be any text.
func form(loc value, at string, p *problems) map[string]string {
	at = pointer(at, "form")
	if loc.get("form").absent() {
		p.add(at, faultMissing, "This member is required; it may be an empty object.")
		return nil
	}
	given, ok := stringMap(loc.get("form"), at, p)
	if !ok {
		return nil
	}
	if n := len(given.members) + given.extra; n > maxFormFields {
		p.add(at, faultTooMany, "There are "+strconv.Itoa(n)+" form fields, 100 is the most.")
		return nil
	}
	out := make(map[string]string, len(given.members))
	size := 0
	for _, m := range given.members {
		size += len(m.name) + len(m.value.text)
		if fieldNameFault(m.name, pointer(at, m.name), p) && m.value.kind == jsontext.KindString {
			out[m.name] = m.value.text
		}
	}
	if size > maxFormBytes {
		p.add(at, faultTooLong, "A form may have 65536 bytes in total at most.")
	}
	return out
}

// fieldNameFault adds what is wrong with the name of a form field and reports whether it is fine.
func fieldNameFault(name, at string, p *problems) bool {
	switch {
	case name == "":
		p.add(at, faultForm, "A form field must have a name.")
	case len(name) > maxFieldName:
		p.add(at, faultTooLong, "The name of a form field may have 256 bytes at most.")
	case hasControl(name):
		p.add(at, faultControl, "The name of a form field must not hold control characters.")
	default:
		return true
	}
	return false
}

// fileField returns the field that carries the file.
func fileField(loc value, at string, form map[string]string, p *problems) string {
	name, ok := optionalString(loc, at, "fileField", p)
	if !ok {
		return ""
	}
	if loc.get("fileField").absent() {
		name = protocol.DefaultFileField
	}
	at = pointer(at, "fileField")
	if !fieldNameFault(name, at, p) {
		return ""
	}
	if _, taken := form[name]; taken {
		p.add(at, faultFileField, "The form has a field of the same name as the one for the file.")
	}
	return name
}

// stringMap checks that v is an object of strings, or absent.
func stringMap(v value, at string, p *problems) (value, bool) {
	if v.absent() {
		return v, false
	}
	if v.kind != jsontext.KindBeginObject {
		p.add(at, faultWrongType, "This must be an object of strings, it is "+v.kindName()+".")
		return v, false
	}
	for _, m := range v.members {
		if m.value.kind != jsontext.KindString {
			p.add(pointer(at, m.name), faultWrongType, "This must be a string, it is "+m.value.kindName()+".")
		}
	}
	return v, true
}
