package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// format is how a manifest is written.
type format string

// The formats.
const (
	formatNDJSON format = "ndjson"
	formatCSV    format = "csv"
	formatTSV    format = "tsv"
	formatJSON   format = "json"
)

var mediaTypes = map[format]string{
	formatNDJSON: "application/x-ndjson", formatCSV: "text/csv", formatTSV: "text/tab-separated-values", formatJSON: "application/json",
}

// tsvMark begins a list in the format of URL lists of Storage Transfer Service.
const tsvMark = "TsvHttpData-1.0"

// peeked is how much of a manifest is looked at to tell its format.
const peeked = 64 << 10

var byteOrderMark = []byte("\xef\xbb\xbf")

// extensions tell the format of a file by its name.
var extensions = map[string]format{
	".ndjson": formatNDJSON, ".jsonl": formatNDJSON, ".csv": formatCSV, ".tsv": formatTSV, ".json": formatJSON,
}

// formatOf tells the format of a manifest by its name, else by how it begins.
func formatOf(name string, head []byte) format {
	if f, ok := extensions[strings.ToLower(filepath.Ext(name))]; ok {
		return f
	}
	head = bytes.TrimLeft(bytes.TrimPrefix(head, byteOrderMark), " \t\r\n")
	switch {
	case bytes.HasPrefix(head, []byte(tsvMark)):
		return formatTSV
	case bytes.HasPrefix(head, []byte("[")):
		return formatJSON
	case !bytes.HasPrefix(head, []byte("{")):
		return formatCSV
	}
	return formatOfObject(head)
}

// formatOfObject tells an item, the first of many lines, from one object that holds all items, by the name of its first member that
// says it.
func formatOfObject(head []byte) format {
	in := json.NewDecoder(bytes.NewReader(head))
	if _, err := in.Token(); err != nil {
		return formatNDJSON
	}
	for {
		name, err := in.Token()
		var value json.RawMessage
		switch {
		case err != nil || name == json.Delim('}'):
			return formatNDJSON
		case name == "id" || name == "src" || name == "dest" || name == "receipt":
			return formatNDJSON
		case name == "items" || name == "manifest":
			return formatJSON
		case in.Decode(&value) != nil:
			return formatNDJSON
		}
	}
}

// manifest is what is sent: from a file that can be read again, or from a stream, which can only if all of it was in its beginning.
type manifest struct {
	name   string
	format format
	file   *os.File // nil: a stream, or nothing to read
	size   int64    // of the file; -1: not known
	head   []byte   // the beginning of a stream
	rest   io.Reader
	whole  bool // head is all of it
	read   bool // rest has been read from
}

// openManifest opens a file, or "-" for the standard input.
func openManifest(name string, asked format, stdin io.Reader) (*manifest, error) {
	m := &manifest{name: name, format: asked, size: -1}
	in := stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, exitWith(exitUsage, "the manifest: %w", err)
		}
		info, err := file.Stat()
		if err == nil && info.IsDir() {
			err = fmt.Errorf("%s is a directory", name)
		}
		if err != nil {
			return nil, errors.Join(exitWith(exitUsage, "the manifest: %w", err), file.Close())
		}
		m.file, in = file, file
		if info.Mode().IsRegular() {
			m.size = info.Size()
		}
	}
	head := make([]byte, peeked)
	n, err := io.ReadFull(in, head)
	m.head, m.rest, m.whole = head[:n], in, errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	if err != nil && !m.whole {
		return nil, errors.Join(exitWith(exitUsage, "the manifest %s: %w", name, err), m.close())
	}
	if m.format == "" {
		m.format = formatOf(name, m.head)
	}
	return m, nil
}

func (m *manifest) close() error {
	if m.file == nil {
		return nil
	}
	return m.file.Close() //nolint:wrapcheck // names the file
}

// again reports whether the manifest can be sent once more.
func (m *manifest) again() bool { return m.size >= 0 || m.whole || !m.read }

// body returns the manifest from its beginning.
func (m *manifest) body() io.Reader {
	switch {
	case m.size >= 0:
		return io.NewSectionReader(m.file, 0, m.size)
	case m.whole:
		return bytes.NewReader(m.head)
	}
	return io.MultiReader(bytes.NewReader(m.head), readMarker{m})
}

// readMarker remembers that a stream was read from, past what is kept of it.
type readMarker struct{ m *manifest }

// Read implements io.Reader.
func (r readMarker) Read(p []byte) (int, error) {
	r.m.read = true
	return r.m.rest.Read(p) //nolint:wrapcheck // an io.Reader
}

// length is the size of the body, -1 if it is not known.
func (m *manifest) length() int64 {
	if m.size < 0 && m.whole {
		return int64(len(m.head))
	}
	return m.size
}

// submission is a request with a manifest.
type submission struct {
	query    url.Values
	header   http.Header
	manifest *manifest
	prefix   []byte // of a JSON body: the options, in front of what the file has
	skip     int    // bytes of the manifest that the prefix stands for
	suffix   []byte
}

// newSubmission joins a manifest and its options: a JSON body has them in it, others beside it.
func newSubmission(m *manifest, options *batchOptions, defaults map[string]string) (*submission, error) {
	u := &submission{query: url.Values{}, header: http.Header{}, manifest: m}
	u.header.Set("Content-Type", mediaTypes[m.format])
	if m.format != formatJSON {
		for name, value := range defaults {
			u.query.Set(name, value)
		}
		return u, options.query(u.query, u.header)
	}
	members := map[string]any{}
	for name, value := range defaults {
		members[name] = value
	}
	if err := options.members(members); err != nil {
		return nil, err
	}
	if err := u.splice(members); err != nil {
		return nil, err
	}
	return u, nil
}

// splice puts the options at the beginning of a JSON object, and makes an object of a bare array of items. A member that stands in
// the file as well is refused by the API.
func (u *submission) splice(members map[string]any) error {
	head := u.manifest.head
	u.skip = len(head) - len(bytes.TrimLeft(bytes.TrimPrefix(head, byteOrderMark), " \t\r\n"))
	if u.skip == len(head) {
		return exitWith(exitUsage, "the manifest %s is empty", u.manifest.name)
	}
	object := head[u.skip] == '{'
	options, err := json.Marshal(members)
	if err != nil {
		return fmt.Errorf("the options: %w", err)
	}
	options = bytes.TrimSuffix(options, []byte("}"))
	switch {
	case object && len(members) == 0:
		return nil
	case object:
		u.skip++
		rest := bytes.TrimLeft(head[u.skip:], " \t\r\n")
		if len(rest) > 0 && rest[0] != '}' {
			options = append(options, ',')
		}
		u.prefix = options
	case head[u.skip] == '[':
		if len(members) > 0 {
			options = append(options, ',')
		}
		options = append(options, `"items":`...)
		u.prefix, u.suffix = options, []byte("}")
	default:
		u.skip = 0
	}
	return nil
}

// remoteManifest is the body that names a manifest in a bucket.
func remoteManifest(location string, asked format, options *batchOptions, defaults map[string]string) (map[string]any, error) {
	bucket, key, ok := strings.Cut(strings.TrimPrefix(location, remoteScheme), "/")
	if !ok || bucket == "" || key == "" {
		return nil, exitWith(exitUsage, "%s: must be s3://BUCKET/KEY", location)
	}
	body := map[string]any{"manifest": map[string]string{"type": "objectLocation", "bucket": bucket, "key": key}}
	if asked != "" {
		body["format"] = string(asked)
	}
	for name, value := range defaults {
		body[name] = value
	}
	return body, options.members(body)
}

const remoteScheme = "s3://"
