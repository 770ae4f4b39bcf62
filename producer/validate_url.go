package producer

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// maxURL bounds a URL, in bytes.
const maxURL = 8 << 10

// remoteURL checks a URL and returns it as it came, but for the fragment, which no client sends (RFC 9110,
// 4.2.5). Nothing is re-encoded: the URL may be signed. On a fault it returns its code and a message that shows
// nothing of the URL.
func remoteURL(raw string) (clean, code, message string) {
	if len(raw) > maxURL {
		return "", faultTooLong, "A URL may have 8192 bytes at most."
	}
	if strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '\\' }) || hasControl(raw) {
		return "", faultURL, "A URL must not hold spaces, control characters or backslashes."
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil: // its text repeats the URL
		return "", faultURL, "This is not a valid URL."
	case u.Scheme != "http" && u.Scheme != "https":
		return "", faultURL, "A URL must begin with http:// or https://."
	case u.User != nil:
		return "", faultUserinfo, "A URL must not hold a user or password; use an Authorization header."
	case u.Host == "" || u.Opaque != "":
		return "", faultURL, "A URL must name a host."
	}
	if message := hostFault(u); message != "" {
		return "", faultHost, message
	}
	clean, _, _ = strings.Cut(raw, "#")
	return clean, "", ""
}

// hostFault returns what is wrong with host and port, or "".
func hostFault(u *url.URL) string {
	host, port := u.Hostname(), u.Port()
	if strings.HasSuffix(u.Host, ":") {
		return "The port is missing after the colon."
	}
	if port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "The port must be a number from 1 to 65535."
		}
	}
	if strings.HasPrefix(u.Host, "[") {
		addr, err := netip.ParseAddr(host)
		if err != nil || !addr.Is6() || addr.Zone() != "" {
			return "In brackets there must be an IPv6 address, without a zone."
		}
		return ""
	}
	return nameFault(host)
}

// nameFault checks a host that is a DNS name or an IPv4 address in its one canonical form. Anything whose
// last label is a number is an address to some resolver (WHATWG URL, 3.5): 127.1, 0x7f000001, 017700000001.
func nameFault(host string) string {
	name := strings.TrimSuffix(host, ".")
	if name == "" || len(name) > 253 {
		return "A host name must have 1 to 253 characters."
	}
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if !validLabel(label) {
			return "A host name consists of labels of ASCII letters, digits, '-' and '_' (other scripts in their xn-- form)."
		}
	}
	if looksNumeric(labels[len(labels)-1]) {
		addr, err := netip.ParseAddr(host)
		if err != nil || addr.String() != host {
			return "A numeric host must be an IPv4 address of four decimal numbers."
		}
	}
	return ""
}

func validLabel(label string) bool {
	if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
		return false
	}
	for i := range len(label) {
		c := label[i]
		if !letterOrDigit(c) && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

func letterOrDigit(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

func looksNumeric(label string) bool {
	if len(label) >= 2 && label[0] == '0' && (label[1] == 'x' || label[1] == 'X') {
		return strings.Trim(label[2:], "0123456789abcdefABCDEF") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}
