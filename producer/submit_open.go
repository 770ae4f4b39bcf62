package producer

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"mime"
	"net/http"
	"path"
	"strings"

	"github.com/copyfleet/copyfleet/protocol"
)

// Manifests reads the manifests that callers keep in buckets.
type Manifests interface {
	// Open returns the content of an object. The error is [ErrNoBucket], [ErrNoObject], or says that the storage does not answer.
	Open(ctx context.Context, bucket, key string) (io.ReadCloser, error)
}

// ErrNoObject is what [Manifests] returns for an object that does not exist.
var ErrNoObject = errors.New("object does not exist")

// format is a form in which items are sent.
type format string

const (
	formatJSON   format = "json"
	formatNDJSON format = "ndjson"
	formatCSV    format = "csv"
	formatTSV    format = "tsv"
	formatText   format = "text" // not known until its first line is
)

var formatOfMedia = map[string]format{
	"":                          formatJSON,
	"application/json":          formatJSON,
	"application/x-ndjson":      formatNDJSON,
	"application/ndjson":        formatNDJSON,
	"application/jsonl":         formatNDJSON,
	"application/x-jsonlines":   formatNDJSON,
	"text/csv":                  formatCSV,
	"text/tab-separated-values": formatTSV,
}

var formatOfName = map[string]format{
	".json": formatJSON, ".ndjson": formatNDJSON, ".jsonl": formatNDJSON, ".csv": formatCSV, ".tsv": formatTSV, ".txt": formatText,
}

const (
	acceptedMedia = "application/json, application/x-ndjson, text/csv, text/tab-separated-values, or another text that begins with TsvHttpData-1.0"

	tsvFirstLine = "TsvHttpData-1.0"
	// sniffed is how much of a text is looked at to learn what it is.
	sniffed = 64
	// smallJSON is the size of a JSON body up to which its options may stand behind its items.
	smallJSON = 1 << 20
)

// openIntake begins to read a body: JSON, NDJSON (an item a line), CSV (RFC 4180, an item a row), or a TsvHttpData-1.0 list. It may name an
// object that holds the manifest instead. Nothing has happened yet.
func (s *Server) openIntake(w http.ResponseWriter, r *http.Request) (*intake, *Problem) {
	kind, p := formatOf(r.Header)
	if p != nil {
		return nil, p
	}
	org := principalOf(r).Org
	in := &intake{
		server: s, source: newUpload(w, r, s.uploadPatience), limit: s.cfg.MaxItems, budget: &share{budget: s.budget, org: org}, room: smallUpload,
	}
	if !in.budget.take(smallUpload) {
		return nil, busy()
	}
	in.check = newItemCheck(s.tenancy, org, in.budget)
	p = in.begin(r, kind)
	if p != nil {
		in.drain()
		in.close()
		return nil, p
	}
	return in, nil
}

func busy() *Problem {
	p := newProblem(CodeBusy, "Too many large requests are being read; try again soon.")
	return &p
}

// begin reads as far as is needed to know the options and where the items are.
func (in *intake) begin(r *http.Request, kind format) *Problem {
	given, p := queryOptions(r.URL.Query(), r.Header)
	if p != nil {
		return p
	}
	in.plan = given.plan
	in.known = sha256.Sum256([]byte("batch\x00" + string(in.check.org) + "\x00" + string(kind) + "\x00" + given.canonical))
	if kind == formatJSON {
		return in.beginJSON(given)
	}
	var list problems
	in.options = parseOptions(given.value, &list)
	if list.total > 0 {
		return list.problem(CodeInvalidRequest)
	}
	return in.beginRows(kind, in.source)
}

// beginRows begins to read a manifest that is not a JSON document.
func (in *intake) beginRows(kind format, src io.Reader) *Problem {
	in.check.defaults = in.options.defaults
	buffered := bufio.NewReaderSize(src, lineBuffer)
	if p := in.compressed(buffered); p != nil {
		return p
	}
	if kind == formatText || kind == formatTSV {
		start, err := buffered.Peek(sniffed)
		if err != nil && !errors.Is(err, io.EOF) {
			p, _ := asProblem(in.unreadable(err))
			return p
		}
		first, _, _ := strings.Cut(strings.TrimPrefix(string(start), utf8BOM), "\n")
		if is := strings.TrimSuffix(first, "\r") == tsvFirstLine; !is && kind == formatText {
			p := newProblem(CodeUnsupportedMedia, "The body must be "+acceptedMedia+".")
			return &p
		}
	}
	lines := newLineReader(buffered)
	switch kind {
	case formatCSV:
		in.rows = &csvIntake{lines: lines}
	case formatTSV, formatText:
		in.rows = &tsvRows{lines: lines}
	default:
		in.rows = newNDJSONRows(lines)
	}
	return nil
}

// gzipMagic begins every gzip file (RFC 1952, 2.3.1).
const gzipMagic = "\x1f\x8b"

// compressed refuses a manifest in gzip. What cannot be read is told by the next who reads.
func (in *intake) compressed(src *bufio.Reader) *Problem {
	if start, err := src.Peek(len(gzipMagic)); err != nil || string(start) != gzipMagic {
		return nil
	}
	at := ""
	if in.source.object {
		at = "/manifest"
	}
	in.check.problems.add(at, faultCompressed, "The manifest is compressed; send it plain.")
	return in.check.problem()
}

// beginJSON reads a JSON document up to its items, or the object that it names in their place.
func (in *intake) beginJSON(given queried) *Problem {
	doc := newJSONRows(in, in.source, given)
	if p := doc.begin(); p != nil {
		return p
	}
	if doc.manifest == nil {
		in.rows = doc
		return nil
	}
	in.options = doc.options
	return in.openObject(doc.manifest)
}

// manifestRef names an object that holds a manifest.
type manifestRef struct {
	at     protocol.Location
	format string
}

// openObject begins to read a manifest from a bucket.
func (in *intake) openObject(ref *manifestRef) *Problem {
	kind := format(ref.format)
	if ref.format == "" {
		kind = formatOfName[strings.ToLower(path.Ext(ref.at.Key))]
	}
	if kind == "" {
		var list problems
		list.add("/format", faultMissing, "The key does not end in .ndjson, .csv, .tsv or .json: format must say what the manifest is.")
		return list.problem(CodeInvalidRequest)
	}
	if in.server.manifests == nil {
		p := newProblem(CodeStorageUnavailable, "This server reads no manifests from buckets.")
		return &p
	}
	body, err := in.server.manifests.Open(in.source.request.Context(), ref.at.Bucket, ref.at.Key)
	switch {
	case errors.Is(err, ErrNoBucket), errors.Is(err, ErrNoObject):
		p := newProblem(CodeManifestNotFound, "There is no such object to read the manifest from.")
		return &p
	case err != nil:
		in.server.fault(in.source.request, "open a manifest in its bucket", err)
		p := newProblem(CodeStorageUnavailable, "The manifest could not be opened; nothing was accepted.")
		return &p
	}
	in.source.takeObject(body)
	if kind != formatJSON {
		return in.beginRows(kind, body)
	}
	in.check.defaults = in.options.defaults
	doc := newJSONRows(in, body, queried{})
	doc.itemsOnly = true
	in.rows = doc
	return doc.begin()
}

// digest tells a repeated request from another use of its idempotency key: the body, and the options beside it. It is known once
// the body has been read to its end.
func (in *intake) digest() [32]byte {
	h := sha256.New()
	h.Write(in.known[:])
	h.Write(in.source.sum())
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(in.source.read))) //nolint:gosec // never negative
	return [32]byte(h.Sum(nil))
}

// formatOf returns the format of a body.
func formatOf(h http.Header) (format, *Problem) {
	refuse := func(message string) (format, *Problem) {
		p := newProblem(CodeUnsupportedMedia, message)
		return "", &p
	}
	if enc := strings.TrimSpace(h.Get("Content-Encoding")); enc != "" && !strings.EqualFold(enc, "identity") {
		return refuse("The body must not be compressed (Content-Encoding).")
	}
	media, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if h.Get("Content-Type") != "" && err != nil {
		return refuse("The Content-Type cannot be read; it must be " + acceptedMedia + ".")
	}
	if charset, ok := params["charset"]; ok && !strings.EqualFold(charset, "utf-8") && !strings.EqualFold(charset, "us-ascii") {
		return refuse("The body must be in UTF-8.")
	}
	kind, known := formatOfMedia[media]
	switch {
	case known:
		return kind, nil
	case strings.HasPrefix(media, "application/") && strings.HasSuffix(media, "+json"):
		return formatJSON, nil
	case strings.HasPrefix(media, "text/"):
		return formatText, nil
	}
	return refuse("The body must be " + acceptedMedia + ".")
}
