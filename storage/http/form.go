package httpstore

import (
	"crypto/rand"
	"maps"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/copyfleet/copyfleet/storage"
)

// framing is what surrounds the content in the body of an upload.
type framing interface {
	// frame returns the bytes before and after the content and the Content-Type of the whole. If forced, the
	// caller's Content-Type does not count; "" sends none.
	frame(content storage.Content) (prefix, suffix []byte, contentType string, forced bool)
}

// plain is the body of a PUT: the content alone.
type plain struct{}

// frame surrounds the content with nothing.
func (plain) frame(content storage.Content) (prefix, suffix []byte, contentType string, forced bool) {
	return nil, nil, contentTypeOr(content, ""), false
}

// multipartForm is the body of a POST of a form (RFC 7578), with the content as its last part, which S3
// requires and which lets others decide from the fields before the bytes come.
type multipartForm struct {
	fields    map[string]string
	fileField string // "" means "file"
	fileName  string // "" means "file"; without a name it would be a field and no file
}

// frame surrounds the content with the other fields and the boundaries. The boundary is random, so that no
// content can have been made to contain it.
func (f multipartForm) frame(content storage.Content) (prefix, suffix []byte, contentType string, forced bool) {
	boundary := "copyfleet-" + rand.Text()
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(f.fields)) {
		b.WriteString("--" + boundary + "\r\n")
		b.WriteString("Content-Disposition: form-data; name=\"" + escapeName(name) + "\"\r\n\r\n")
		b.WriteString(f.fields[name] + "\r\n")
	}
	b.WriteString("--" + boundary + "\r\n")
	b.WriteString("Content-Disposition: form-data; name=\"" + escapeName(or(f.fileField, "file")) + "\"; ")
	b.WriteString("filename=\"" + escape(or(f.fileName, "file")) + "\"\r\n")
	b.WriteString("Content-Type: " + contentTypeOr(content, "application/octet-stream") + "\r\n\r\n")
	return []byte(b.String()), []byte("\r\n--" + boundary + "--\r\n"), "multipart/form-data; boundary=" + boundary, true
}

// contentTypeOr returns the type of the content, or other if it has none that a header may carry.
func contentTypeOr(content storage.Content, other string) string {
	if content.ContentType == "" || !httpguts.ValidHeaderFieldValue(content.ContentType) {
		return other
	}
	return content.ContentType
}

// or returns text, or other if text is empty.
func or(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

// newlines makes every line end in a name the CRLF that browsers make of it.
var newlines = strings.NewReplacer("\r\n", "\r\n", "\r", "\r\n", "\n", "\r\n")

// quoting is how browsers escape what would end a quoted name (WHATWG HTML, "multipart/form-data encoding
// algorithm"; RFC 7578, section 2, leaves it open). Backslashes stay.
var quoting = strings.NewReplacer("\r", "%0D", "\n", "%0A", `"`, "%22")

// escape makes a file name fit for a quoted parameter.
func escape(name string) string { return quoting.Replace(name) }

// escapeName makes the name of a field fit for a quoted parameter.
func escapeName(name string) string { return escape(newlines.Replace(name)) }
