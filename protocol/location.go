package protocol

import (
	"net/url"
	"strings"
)

// LocationType tells the members of the union that a [Location] is. The values are those of the published copy API.
type LocationType string

// The location types. The first four are published; [Object] is our addition.
const (
	SandboxFile  LocationType = "sandboxFileLocation"
	HTTPGet      LocationType = "httpGetLocation"
	HTTPPut      LocationType = "httpPutLocation"
	HTTPPostForm LocationType = "httpPostFormLocation"
	Object       LocationType = "objectLocation"
)

// The location types that no caller can name: the front makes them when an upload session is published.
const (
	StagedUpload LocationType = "stagedUploadLocation" // a source: what a session staged
	SandboxTree  LocationType = "sandboxTreeLocation"  // a destination: a directory that an archive is unpacked into
)

// Source reports whether a location of this type can be read.
func (t LocationType) Source() bool { return t == SandboxFile || t == HTTPGet || t == Object }

// Destination reports whether a location of this type can be written.
func (t LocationType) Destination() bool {
	return t == SandboxFile || t == HTTPPut || t == HTTPPostForm || t == Object
}

// Known reports whether the type is one of the five that callers name.
func (t LocationType) Known() bool { return t.Source() || t.Destination() }

// DefaultFileField is the form field that carries the file when a caller names none.
const DefaultFileField = "file"

// Location is where bytes come from or go to. It may hold credentials (a signed URL, headers, form fields):
// never log it, show [Location.Redacted].
type Location struct {
	Type LocationType `json:"type"`

	// Sandbox and Path belong to SandboxFile and SandboxTree. Path is absolute inside the sandbox and clean.
	Sandbox SandboxID `json:"sandbox,omitempty"`
	Path    string    `json:"path,omitempty"`

	// Upload belongs, with Sandbox, to StagedUpload.
	Upload UploadID `json:"upload,omitempty"`

	// URL and Headers belong to the three HTTP types.
	URL     string            `json:"url,omitempty"`
	Headers map[string]string `json:"headers,omitempty"`

	// Form and FileField belong to HTTPPostForm.
	Form      map[string]string `json:"form,omitempty"`
	FileField string            `json:"fileField,omitempty"`

	// Bucket and Key belong to Object.
	Bucket string `json:"bucket,omitempty"`
	Key    string `json:"key,omitempty"`
}

// String returns [Location.Redacted], so that a location that strays into a log line tells no secret.
func (l Location) String() string { return l.Redacted() }

// GoString returns [Location.Redacted], for %#v.
func (l Location) GoString() string { return l.Redacted() }

// Redacted returns a form fit for people and logs: no query, no userinfo, no headers, no form.
func (l Location) Redacted() string {
	switch l.Type {
	case SandboxFile, SandboxTree:
		return "sandbox " + string(l.Sandbox) + ":" + l.Path
	case Object:
		return "s3://" + l.Bucket + "/" + l.Key
	case StagedUpload:
		return "upload " + string(l.Upload)
	default:
		return RedactURL(l.URL)
	}
}

// Host returns the host (and port, if given) of an HTTP location, and "" for the others.
func (l Location) Host() string {
	if l.URL == "" {
		return ""
	}
	u, err := url.Parse(l.URL)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Host)
}

// RedactURL removes userinfo, query and fragment from a URL; of what does not parse it shows nothing.
func RedactURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return "(invalid URL)"
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
}
