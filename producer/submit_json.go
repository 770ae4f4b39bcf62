package producer

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/copyfleet/copyfleet/protocol"
)

// jsonRows reads the items of a JSON document {"items":[…]} with its options, as it comes in. Options that say how items are to be
// understood stand before the items, unless the document is small; the others may stand anywhere.
type jsonRows struct {
	in        *intake
	meter     *meter
	d         *decoder
	itemsOnly bool // the document is a manifest in a bucket: the options are with the call

	given    []member // options so far
	early    value    // those of a small document, read ahead
	named    int      // bytes of the names of its members so far: the decoder keeps them, to tell what occurs twice
	items    jsontext.Kind
	index    int
	manifest *manifestRef
	options  options // once the document has been read
}

// meter lets an item, and each other member, be so long and no longer.
type meter struct {
	src  io.Reader
	left int
}

// maxNames bounds the names of the members of a document, in bytes; its options have a few hundred.
const maxNames = 64 << 10

var errLongItem = errors.New("an item is too long")

// Read implements io.Reader.
func (m *meter) Read(p []byte) (int, error) {
	if m.left <= 0 {
		return 0, errLongItem
	}
	n, err := m.src.Read(p[:min(len(p), m.left)])
	m.left -= n
	return n, err //nolint:wrapcheck // io.Reader passes on what it got
}

// another begins the next item. What the decoder has read ahead counts with the one before.
func (m *meter) another() { m.left = maxLine + lineBuffer }

func newJSONRows(in *intake, src io.Reader, given queried) *jsonRows {
	j := &jsonRows{in: in, meter: &meter{src: src}, given: given.value.members}
	return j
}

// begin reads up to the first item, or to the end of a document that names its manifest.
func (j *jsonRows) begin() *Problem {
	start := bufio.NewReader(j.meter.src)
	if p := j.in.compressed(start); p != nil {
		return p
	}
	j.meter.src = start
	if p := j.readAhead(); p != nil {
		return p
	}
	j.meter.another()
	j.d = &decoder{jsontext.NewDecoder(j.meter, jsontext.AllowDuplicateNames(false), jsontext.AllowInvalidUTF8(false))}
	if kind := j.d.PeekKind(); kind == jsontext.KindBeginArray && j.itemsOnly {
		_, err := j.d.token()
		j.items = kind
		return j.problem(err)
	} else if kind != jsontext.KindBeginObject {
		v, err := j.d.value(0)
		if err != nil {
			return j.problem(err)
		}
		j.in.check.problems.add("", faultWrongType, "The body must be an object, it is "+v.kindName()+".")
		return j.in.check.problem()
	}
	_, err := j.d.token()
	if err == nil {
		err = j.members()
	}
	if p := j.problem(err); p != nil {
		return p
	}
	if j.items == jsontext.KindBeginArray {
		return nil
	}
	return j.finish()
}

// readAhead looks for options behind the items of a document that is small enough to be held.
func (j *jsonRows) readAhead() *Problem {
	if j.itemsOnly {
		return nil
	}
	if n := j.in.source.request.ContentLength; n < 0 || n > smallUpload/2 {
		if !j.in.budget.take(smallJSON) {
			return busy()
		}
	}
	start, err := io.ReadAll(io.LimitReader(j.meter.src, smallJSON+1))
	if err != nil {
		p, _ := asProblem(j.in.unreadable(err))
		return p
	}
	if len(start) > smallJSON {
		j.meter.src = io.MultiReader(bytes.NewReader(start), j.meter.src)
		return nil
	}
	j.meter.src = bytes.NewReader(start)
	// What is wrong with it is told when it is read for good.
	d := newDecoder(start)
	if tok, err := d.token(); err != nil || tok.Kind() != jsontext.KindBeginObject {
		return nil
	}
	var found []member
	for {
		tok, err := d.token()
		if err != nil || tok.Kind() != jsontext.KindString {
			break
		}
		name, levels := tok.String(), 0
		if slices.Contains(defaultMembers, name) {
			levels = 1
		}
		v, err := d.value(levels)
		if err != nil {
			break
		}
		if levels > 0 {
			found = append(found, member{name, v})
		}
	}
	j.early = value{kind: jsontext.KindBeginObject, members: found}
	return nil
}

// members reads members of the document up to its items, or to its end.
func (j *jsonRows) members() error {
	for {
		j.meter.another()
		tok, err := j.d.token()
		if err != nil {
			return err
		}
		if tok.Kind() == jsontext.KindEndObject {
			return j.d.end()
		}
		name := tok.String()
		if name == "items" {
			if j.items = j.d.PeekKind(); j.items == jsontext.KindBeginArray {
				_, err := j.d.token()
				j.in.check.defaults = j.defaults()
				j.lane()
				return err
			}
		}
		if err := j.member(name); err != nil {
			return err
		}
		if j.named += len(name); j.named > maxNames || j.in.check.problems.full() {
			return errStuck // or a document of nothing but names would fill the memory
		}
	}
}

func (j *jsonRows) member(name string) error {
	p := &j.in.check.problems
	v, err := j.d.value(itemLevels)
	if err != nil {
		return err
	}
	switch {
	case name == "items":
		if !v.absent() {
			p.add("/items", faultWrongType, "This must be an array, it is "+v.kindName()+".")
		}
	case j.itemsOnly:
		p.add(pointer("", name), faultUnknown, "A manifest in a bucket has items only; options stand in the request.")
	case name == "manifest" || name == "format" || slices.Contains(optionMembers, name) || slices.Contains(defaultMembers, name):
		if j.index > 0 && slices.Contains(defaultMembers, name) && j.early.get(name).absent() && !v.absent() {
			p.add(pointer("", name), faultOutOfOrder, "In a document of more than 1 MiB this member must stand before items.")
		}
		if slices.ContainsFunc(j.given, func(m member) bool { return m.name == name }) {
			p.add(pointer("", name), faultUnexpected, "This option is given in the query and in the body.")
		}
		j.given = append(j.given, member{name, v})
	default:
		p.add(pointer("", name), faultUnknown, "There is no such member here; known are items, manifest, format, "+
			strings.Join(slices.Concat(optionMembers, defaultMembers), ", ")+".")
	}
	return nil
}

// defaults are those that are known when the items begin.
func (j *jsonRows) defaults() defaults {
	if j.itemsOnly {
		return j.in.check.defaults
	}
	var ignored problems // told when all options are validated
	return parseDefaults(value{kind: jsontext.KindBeginObject, members: slices.Concat(j.early.members, j.given)}, &ignored)
}

// lane tells the intake the lane as soon as it is known.
func (j *jsonRows) lane() {
	if j.itemsOnly {
		return
	}
	var ignored problems // told when all options are validated
	j.in.options.lane = parseOptions(value{kind: jsontext.KindBeginObject, members: j.given}, &ignored).lane
}

// next implements rows.
func (j *jsonRows) next(c *itemCheck) (protocol.ManifestItem, error) {
	if j.items != jsontext.KindBeginArray { // they have been read
		return protocol.ManifestItem{}, io.EOF
	}
	j.meter.another()
	if j.d.PeekKind() != jsontext.KindEndArray {
		v, err := j.d.value(itemLevels)
		if err != nil {
			return protocol.ManifestItem{}, j.asError(err)
		}
		at := "/items/" + itoa(j.index)
		j.index++
		return c.item(v, at), nil
	}
	_, err := j.d.token() // the closing bracket
	j.items = jsontext.KindEndArray
	if err == nil && j.itemsOnly && j.d.StackDepth() == 0 {
		err = j.d.end()
	} else if err == nil {
		err = j.members()
	}
	if err != nil {
		return protocol.ManifestItem{}, j.asError(err)
	}
	if p := j.finish(); p != nil {
		return protocol.ManifestItem{}, &refusal{p}
	}
	return protocol.ManifestItem{}, io.EOF
}

// finish validates the options, once the whole document has been read.
func (j *jsonRows) finish() *Problem {
	p := &j.in.check.problems
	if j.itemsOnly {
		if j.items == jsontext.KindInvalid || j.items == jsontext.KindNull {
			p.add("/items", faultMissing, "This array is required, with one entry at least.")
			return j.in.check.problem()
		}
		return nil
	}
	doc := value{kind: jsontext.KindBeginObject, members: j.given}
	j.options = parseOptions(doc, p)
	ref := j.reference(doc, p)
	switch {
	case ref != nil && j.index > 0:
		p.add("/manifest", faultUnexpected, "A batch has items or a manifest, not both.")
	case ref == nil && (j.items == jsontext.KindInvalid || j.items == jsontext.KindNull):
		p.add("/items", faultMissing, "This array is required, with one entry at least, or a manifest in its place.")
	}
	if p.total > 0 {
		return j.in.check.problem()
	}
	j.manifest, j.in.options = ref, j.options
	return nil
}

// reference returns the object that holds the manifest, nil if none is named.
func (j *jsonRows) reference(doc value, p *problems) *manifestRef {
	kind, _ := optionalString(doc, "", "format", p)
	if kind != "" && kind != string(formatNDJSON) && kind != string(formatCSV) && kind != string(formatTSV) && kind != string(formatJSON) {
		p.add("/format", faultChoice, "The format is ndjson, csv, tsv or json.")
	}
	if doc.get("manifest").absent() {
		if kind != "" {
			p.add("/format", faultUnexpected, "A format belongs to a manifest, which is not given.")
		}
		return nil
	}
	before := p.total
	loc := location(doc, "", side{"manifest", faultNotSource, func(t protocol.LocationType) bool { return t == protocol.Object }, "objectLocation"}, home{}, p)
	if p.total == before && !j.in.check.grants.cover(loc.Bucket, loc.Key) {
		p.add("/manifest", faultNotGranted, "The org has no grant for this bucket and key.")
	}
	return &manifestRef{at: loc, format: kind}
}

// asError tells of an error of the decoder: of what is wrong with the document, or of its reader.
func (j *jsonRows) asError(err error) error {
	p := &j.in.check.problems
	if errors.Is(err, errLongItem) {
		at := ""
		if j.items == jsontext.KindBeginArray {
			at = "/items/" + itoa(j.index)
		}
		p.add(at, faultTooLong, "An item, or an option, may have "+itoa(maxLine)+" bytes at most.")
		return errStuck
	}
	if failed := j.in.source.failed; failed != nil {
		return failed
	}
	if _, syntactic := errors.AsType[*jsontext.SyntacticError](err); !syntactic && !errors.Is(err, io.ErrUnexpectedEOF) && !errIsEOF(err) {
		return err
	}
	return &refusal{syntaxProblem(err)}
}

func (j *jsonRows) problem(err error) *Problem {
	if err == nil {
		return nil
	}
	err = j.asError(err)
	if errors.Is(err, errStuck) {
		return j.in.check.problem()
	}
	p, _ := asProblem(j.in.unreadable(err))
	return p
}
