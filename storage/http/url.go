package httpstore

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

const (
	maxURL     = 8 << 10 // bytes of a URL
	maxSubject = 1 << 10 // bytes of a URL that an error shows
)

// target is a URL that passed the rules, with its origin.
type target struct {
	url    *url.URL
	origin string // scheme://host:port, lower case, port always given (RFC 6454)
}

// parseURL applies the rules to a URL that came from outside and returns the first that it breaks, as a
// phrase that continues "the URL". It never quotes the URL, which is a credential.
func parseURL(raw string) (target, string) {
	if len(raw) > maxURL {
		return target{}, "is longer than 8 KiB"
	}
	u, err := url.Parse(raw)
	if err != nil {
		return target{}, "cannot be parsed" // the error quotes it
	}
	return checkURL(u)
}

// checkURL applies the rules to a parsed URL. The target has a copy without fragment.
func checkURL(u *url.URL) (target, string) {
	scheme := strings.ToLower(u.Scheme)
	switch {
	case len(u.String()) > maxURL:
		return target{}, "is longer than 8 KiB"
	case scheme != "http" && scheme != "https":
		return target{}, "is neither http nor https"
	case u.User != nil:
		return target{}, "has userinfo; credentials belong in a header"
	case u.Opaque != "" || u.Hostname() == "":
		return target{}, "names no host"
	}
	host, problem := checkHost(u.Hostname())
	if problem != "" {
		return target{}, problem
	}
	port, problem := checkPort(u, scheme)
	if problem != "" {
		return target{}, problem
	}
	clean := *u
	clean.Scheme, clean.Fragment, clean.RawFragment = scheme, "", ""
	return target{url: &clean, origin: scheme + "://" + host + ":" + port}, ""
}

// checkPort returns the port of u, which is that of its scheme if it has none.
func checkPort(u *url.URL, scheme string) (port, problem string) {
	port = u.Port()
	if port == "" {
		if strings.HasSuffix(u.Host, ":") {
			return "", "has an empty port"
		}
		return map[string]string{"http": "80", "https": "443"}[scheme], ""
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", "has a port outside 1 to 65535"
	}
	return port, ""
}

// checkHost returns host in the form that origins are compared in.
//
// An IPv4 address is accepted in its dotted form only. The other spellings (0x7f.1, 2130706433, 127.1,
// 0177.0.0.1) mean different hosts to different parsers, and no honest caller writes them.
func checkHost(host string) (canonical, problem string) {
	if strings.Contains(host, "%") {
		return "", "has a zone in its host"
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.String(), ""
	}
	if strings.Contains(host, ":") {
		return "", "has a host that is not an address"
	}
	ascii, err := idna.Lookup.ToASCII(host)
	if err != nil {
		// Names with an underscore are no host names, but they are resolved and used all the same.
		if ascii, err = idna.Punycode.ToASCII(host); err != nil || !plainName(ascii) {
			return "", "has a host that is not a name"
		}
	}
	ascii = strings.ToLower(ascii)
	if strings.HasPrefix(ascii, ".") || strings.Contains(ascii, "..") {
		return "", "has a host with an empty label"
	}
	if addr, err := netip.ParseAddr(ascii); err == nil {
		return "", "spells the address " + addr.String() + " in another form"
	}
	if endsInNumber(ascii) {
		return "", "has a numeric host that is not a dotted address"
	}
	return ascii, ""
}

// plainName reports whether name has only letters, digits, hyphens, underscores and dots.
func plainName(name string) bool {
	return name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == ""
}

// endsInNumber reports whether the last label of host is a number, decimal or hexadecimal, so that some
// parsers take the host for an IPv4 address (WHATWG URL, "ends in a number checker").
func endsInNumber(host string) bool {
	host = strings.TrimSuffix(host, ".")
	last := host[strings.LastIndexByte(host, '.')+1:]
	if strings.Trim(last, "0123456789") == "" {
		return true
	}
	hex, ok := strings.CutPrefix(strings.ToLower(last), "0x")
	return ok && strings.Trim(hex, "0123456789abcdef") == ""
}

// redacted returns what may be shown of u: scheme, host and path.
func redacted(u *url.URL) string {
	text := u.Scheme + "://" + u.Host + u.EscapedPath()
	if len(text) > maxSubject {
		text = text[:maxSubject] + "..."
	}
	return text
}
