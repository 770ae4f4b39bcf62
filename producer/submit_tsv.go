package producer

import (
	"encoding/base64"
	"encoding/hex"
	"strings"
	"unicode/utf8"

	"github.com/copyfleet/copyfleet/protocol"
)

// tsvRows reads a list as the Storage Transfer Service of Google takes it: the first line is TsvHttpData-1.0, then a URL a line, with
// its size in bytes and the base64 of its MD5 where they are known. Source: "Create a URL list", cloud.google.com/storage-transfer.
type tsvRows struct {
	lines *lineReader
	begun bool
}

// next implements rows.
func (r *tsvRows) next(c *itemCheck) (protocol.ManifestItem, error) {
	line, err := r.lines.line(c)
	if err == nil && line != nil && !r.begun {
		if r.begun = string(line) == tsvFirstLine; !r.begun {
			c.problems.add(r.lines.at(), "syntax", "The first line must be "+tsvFirstLine+".")
			return protocol.ManifestItem{}, errStuck
		}
		line, err = r.lines.line(c)
	}
	if line == nil {
		return protocol.ManifestItem{}, err
	}
	at, p := r.lines.at(), &c.problems
	if !utf8.Valid(line) {
		p.add(at, "syntax", "The line is not valid UTF-8.")
		return protocol.ManifestItem{}, nil
	}
	fields := strings.Split(string(line), "\t")
	if len(fields) > 3 {
		p.add(at, faultColumns, "A line has a URL, its size and its MD5 in base64, separated by tabs; here is more.")
		return protocol.ManifestItem{}, nil
	}
	fields = append(fields, "", "")
	md5, ok := tsvMD5(fields[2])
	switch {
	case !ok && r.lines.cut:
		r.lines.tellCut(c)
	case !ok:
		p.add(at+"/md5", faultDigest, "The MD5 of a list is given as the base64 of its 16 bytes.")
		md5 = "" // the rest of the line is looked at as if there were none
	}
	v := objectValue(
		member{"src", objectValue(member{"type", textValue(string(protocol.HTTPGet))}, member{"url", textValue(fields[0])})},
		member{"size", numberValue(fields[1])}, member{"md5", textValue(md5)},
	)
	if !c.defaults.given() {
		p.add(at+"/dest", faultMissing, "A list of URLs names no destinations: give sandbox (and path), or bucket (and prefix), in the query.")
		return protocol.ManifestItem{}, errStuck
	}
	return c.item(v, at), nil
}

// tsvMD5 returns an MD5 that came in base64 as hex.
func tsvMD5(text string) (string, bool) {
	raw, err := base64.StdEncoding.DecodeString(text)
	return hex.EncodeToString(raw), err == nil && (text == "" || len(raw) == 16)
}
