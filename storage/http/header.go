package httpstore

import (
	"net/http"
	"strings"

	"golang.org/x/net/http/httpguts"
)

const (
	maxHeaders     = 64       // headers a caller may give
	maxHeaderBytes = 16 << 10 // bytes of their names and values
	maxTold        = 1 << 10  // bytes of a header of an answer that is passed on
)

// reserved are the headers that frame or route a message. They are ours; a caller who set them could smuggle
// a second request into the connection, or make the length lie.
var reserved = map[string]bool{
	"Connection": true, "Content-Length": true, "Expect": true, "Host": true, "Http2-Settings": true,
	"Keep-Alive": true, "Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
}

// parseHeaders turns the headers of a caller into those of a request. The problem, if any, continues "the
// headers"; it names a header only where the name is well-formed, and never a value.
func parseHeaders(given map[string]string) (header http.Header, problem string) {
	if len(given) > maxHeaders {
		return nil, "are more than 64"
	}
	header = make(http.Header, len(given)+2)
	size := 0
	for name, value := range given {
		if !httpguts.ValidHeaderFieldName(name) {
			return nil, "have a name that is not a token"
		}
		canonical := http.CanonicalHeaderKey(name)
		if reserved[canonical] || strings.HasPrefix(canonical, "Proxy-") {
			return nil, "set " + canonical + ", which is not for the caller"
		}
		if !httpguts.ValidHeaderFieldValue(value) {
			return nil, "have a value for " + canonical + " with characters that are not allowed"
		}
		if _, twice := header[canonical]; twice {
			return nil, "set " + canonical + " twice"
		}
		if size += len(name) + len(value); size > maxHeaderBytes {
			return nil, "are larger than 16 KiB"
		}
		header[canonical] = []string{value}
	}
	return header, ""
}

// setDefault sets a header unless the caller did.
func setDefault(header http.Header, name, value string) {
	if _, given := header[name]; !given {
		header[name] = []string{value}
	}
}

// told returns a header of an answer, or "" if it is too long or not fit to be sent on.
func told(header http.Header, name string) string {
	value := header.Get(name)
	if len(value) > maxTold || !httpguts.ValidHeaderFieldValue(value) {
		return ""
	}
	return value
}
