package producer

import (
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/copyfleet/copyfleet/protocol"
)

// faultPatch says that a patch does not concern an item that it was to change.
const faultPatch = "patch_not_applicable"

// patch is what is changed of items before they run again.
type patch struct {
	Headers     map[string]*string `json:"headers"` // of both sides, where they are HTTP; null removes one
	SrcHeaders  map[string]*string `json:"src_headers"`
	DestHeaders map[string]*string `json:"dest_headers"`
	Dest        *destPatch         `json:"dest"`
}

// destPatch changes destinations: the first two members those in sandboxes, the others those in buckets.
type destPatch struct {
	Sandbox    *string `json:"sandbox"`
	PathPrefix *string `json:"path_prefix"` // is put before the path
	Bucket     *string `json:"bucket"`
	Prefix     *string `json:"prefix"` // is put before the key
}

// check adds what is wrong with the patch itself, whatever it is applied to.
func (c *patch) check(bad *problems) {
	for name, list := range map[string]map[string]*string{"headers": c.Headers, "src_headers": c.SrcHeaders, "dest_headers": c.DestHeaders} {
		for header, value := range list {
			at := pointer("/patch/"+name, header)
			if !validToken(header) {
				bad.add(at, faultHeader, "A header name is a token (RFC 9110, 5.6.2): letters, digits and a few signs.")
			}
			if value != nil && !validFieldValue(*value) {
				bad.add(at, faultHeader, "A header value must not hold control characters (RFC 9110, 5.5).")
			}
		}
	}
	if c.Dest != nil {
		c.Dest.check(bad)
	}
}

func (d *destPatch) check(bad *problems) {
	const at = "/patch/dest"
	if d.Sandbox != nil && !protocol.ValidID(*d.Sandbox) {
		bad.add(at+"/sandbox", faultChoice, "A sandbox id has 1 to 128 letters, digits, '.', '_' and '-', and begins with a letter or digit.")
	}
	if d.PathPrefix != nil {
		if !strings.HasPrefix(*d.PathPrefix, "/") {
			bad.add(at+"/path_prefix", faultPath, "A path must be absolute: it begins with '/', the root of the sandbox.")
		} else if _, code, message := sandboxPath(joinPath(*d.PathPrefix, "/x")); code != "" {
			bad.add(at+"/path_prefix", code, message)
		}
	}
	if d.Bucket != nil {
		if message := bucketFault(*d.Bucket); message != "" {
			bad.add(at+"/bucket", faultBucket, message)
		}
	}
	if d.Prefix != nil && *d.Prefix != "" {
		if message := prefixFault(*d.Prefix); message != "" {
			bad.add(at+"/prefix", faultKey, message)
		}
	}
}

func joinPath(prefix, path string) string { return strings.TrimRight(prefix, "/") + path }

// apply changes an item, which is then validated as a new one is. What speaks against it names the dead letter.
func (c *patch) apply(item *protocol.ManifestItem, name string, bad *problems) {
	src, dest := merge(item.Src.Headers, c.Headers, c.SrcHeaders), merge(item.Dest.Headers, c.Headers, c.DestHeaders)
	fits := c.SrcHeaders == nil || item.Src.URL != ""
	fits = fits && (c.DestHeaders == nil || item.Dest.URL != "")
	fits = fits && (c.Headers == nil || item.Src.URL != "" || item.Dest.URL != "")
	if item.Src.URL != "" {
		item.Src.Headers = src
		checkHeaders(&item.Src, "/patch/headers", name, bad)
	}
	if item.Dest.URL != "" {
		item.Dest.Headers = dest
		checkHeaders(&item.Dest, "/patch/headers", name, bad)
	}
	if c.Dest != nil {
		fits = c.Dest.apply(&item.Dest, name, bad) && fits
		if sameLocation(item.Src, item.Dest) {
			bad.add("/patch/dest", faultSame, name+": source and destination would be the same.")
		}
	}
	if !fits {
		bad.add("/patch", faultPatch, name+": the patch is for another kind of location than the item has; narrow the filter.")
	}
}

// apply reports whether the destination is of a kind that the patch is for.
func (d *destPatch) apply(loc *protocol.Location, name string, bad *problems) bool {
	switch {
	case loc.Type == protocol.SandboxFile && (d.Sandbox != nil || d.PathPrefix != nil):
		if d.Sandbox != nil {
			loc.Sandbox = protocol.SandboxID(*d.Sandbox)
		}
		if d.PathPrefix != nil {
			path, code, message := sandboxPath(joinPath(*d.PathPrefix, loc.Path))
			if code != "" {
				bad.add("/patch/dest/path_prefix", code, name+": "+message)
			}
			loc.Path = path
		}
	case loc.Type == protocol.Object && (d.Bucket != nil || d.Prefix != nil):
		if d.Bucket != nil {
			loc.Bucket = *d.Bucket
		}
		if d.Prefix != nil {
			loc.Key = *d.Prefix + loc.Key
			if message := keyFault(loc.Key); message != "" {
				bad.add("/patch/dest/prefix", faultKey, name+": "+message)
			}
		}
	default:
		return false
	}
	return true
}

// merge returns headers after changes; upper and lower case are the same.
func merge(headers map[string]string, changes ...map[string]*string) map[string]string {
	out := maps.Clone(headers)
	for _, change := range changes {
		for name, value := range change {
			maps.DeleteFunc(out, func(old, _ string) bool { return strings.EqualFold(old, name) })
			if value == nil {
				continue
			}
			if out == nil {
				out = map[string]string{}
			}
			out[name] = *value
		}
	}
	return out
}

// checkHeaders holds the headers of a location against what is asked of new ones.
func checkHeaders(loc *protocol.Location, at, name string, bad *problems) {
	given := value{kind: jsontext.KindBeginObject}
	for _, header := range slices.Sorted(maps.Keys(loc.Headers)) {
		given.members = append(given.members, member{header, value{kind: jsontext.KindString, text: loc.Headers[header]}})
	}
	var found problems
	headers(value{kind: jsontext.KindBeginObject, members: []member{{"headers", given}}}, "", loc.Type, &found)
	for _, fault := range found.list {
		bad.add(at+strings.TrimPrefix(fault.Pointer, "/headers"), fault.Code, name+": "+fault.Message)
	}
}
