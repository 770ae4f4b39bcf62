package producer

import (
	"bytes"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/copyfleet/copyfleet/protocol"
)

// columnOf maps the names of columns to the one that each stands for.
var columnOf = map[string]string{
	"id": "id", "url": "src_url", "src_url": "src_url", "src_bucket": "src_bucket", "src_key": "src_key",
	"src_sandbox": "src_sandbox", "src_path": "src_path", "path": "dest_path", "dest_path": "dest_path",
	"sandbox": "dest_sandbox", "dest_sandbox": "dest_sandbox", "dest_bucket": "dest_bucket", "dest_key": "dest_key", "dest_url": "dest_url",
	"size": "size", "sha256": "sha256", "md5": "md5",
	"conflict": "conflict", "digest": "digest",
}

// intakeColumns are the columns in the order of [csvIntakeRow].
var intakeColumns = []string{
	"id", "src_url", "src_bucket", "src_key", "src_sandbox", "src_path", "dest_path", "dest_sandbox", "dest_bucket", "dest_key", "dest_url",
	"size", "sha256", "md5", "conflict", "digest",
}

// plainColumns are those of a list without a header row.
var plainColumns = []string{"url", "path"}

const (
	receiptColumn    = "receipt_" // begins the names of columns of a report that are ignored
	incompleteColumn = "receipt_incomplete"
	maxColumns       = 64
)

// Places in csvIntake.columns of fields that no item has.
const (
	columnIgnored    = -1
	columnIncomplete = -2 // names what the row lacks of its item
)

// csvIntake reads an item a row (RFC 4180): url,path or as a header row says.
type csvIntake struct {
	lines   *lineReader
	columns []int // by field: its place in intakeColumns, or one of the constants above
	fields  []string
}

// next implements rows.
func (r *csvIntake) next(c *itemCheck) (protocol.ManifestItem, error) {
	for {
		line, err := r.lines.line(c)
		if line == nil {
			return protocol.ManifestItem{}, err
		}
		if !utf8.Valid(line) {
			c.problems.add(r.lines.at(), "syntax", "The row is not valid UTF-8.")
			return protocol.ManifestItem{}, nil
		}
		if !r.split(line, c) {
			return protocol.ManifestItem{}, nil
		}
		if r.columns == nil {
			isHeader, err := r.header(c)
			if err != nil {
				return protocol.ManifestItem{}, err
			}
			if isHeader {
				continue
			}
		}
		if len(r.fields) != len(r.columns) {
			if r.lines.cut && len(r.fields) < len(r.columns) {
				r.lines.tellCut(c)
			} else {
				c.problems.add(r.lines.at(), faultColumns, "The row has "+itoa(len(r.fields))+" fields, there are "+itoa(len(r.columns))+" columns.")
			}
			return protocol.ManifestItem{}, nil
		}
		at := r.lines.at()
		if v, ok := r.value(c, at); ok {
			return c.item(v, at), nil
		}
		return protocol.ManifestItem{}, nil
	}
}

// header takes the first row as the names of the columns, or finds that it is an item already.
func (r *csvIntake) header(c *itemCheck) (bool, error) {
	first := strings.TrimSpace(r.fields[0])
	names, isHeader := r.fields, !strings.Contains(first, "://")
	if !isHeader && len(r.fields) == 1 {
		c.problems.add(r.lines.at(), faultColumns,
			"The row has 1 field, there are 2 columns: url,path. If the rows are URLs only, put a header line before them: url")
		return true, errStuck
	}
	if !isHeader {
		names = plainColumns
	}
	var unknown []string
	for _, name := range names {
		name = strings.ToLower(strings.TrimSpace(name))
		column := slices.Index(intakeColumns, columnOf[name])
		switch {
		case name == incompleteColumn:
			column = columnIncomplete
		case strings.HasPrefix(name, receiptColumn):
			column = columnIgnored
		case column < 0:
			unknown = append(unknown, name)
		case slices.Contains(r.columns, column):
			c.problems.add(r.lines.at(), faultColumns, "The column "+columnOf[name]+" occurs twice.")
			return true, errStuck
		}
		r.columns = append(r.columns, column)
	}
	if len(unknown) > 0 || len(names) > maxColumns {
		c.problems.add(r.lines.at(), faultColumns,
			"The first row is neither url,path nor does it name columns that are known: "+strings.Join(intakeColumns, ", ")+".")
		return true, errStuck
	}
	return isHeader, nil
}

// split takes a row apart. It reports false if it cannot.
func (r *csvIntake) split(line []byte, c *itemCheck) bool {
	r.fields = r.fields[:0]
	for {
		if len(line) == 0 || line[0] != '"' {
			field, rest, more := bytes.Cut(line, []byte(","))
			if bytes.IndexByte(field, '"') >= 0 {
				c.problems.add(r.lines.at(), "syntax", "A field that holds a quotation mark must be quoted, with the mark doubled (RFC 4180).")
				return false
			}
			r.fields = append(r.fields, string(field))
			if !more {
				return true
			}
			line = rest
			continue
		}
		field, rest, whole := quotedField(line[1:])
		switch {
		case !whole && r.lines.cut:
			r.lines.tellCut(c)
			return false
		case !whole:
			c.problems.add(r.lines.at(), "syntax", "A quoted field does not end on its line; no field of a manifest may hold a line end.")
			return false
		}
		r.fields = append(r.fields, field)
		if len(rest) == 0 {
			return true
		}
		if rest[0] != ',' {
			c.problems.add(r.lines.at(), "syntax", "Behind a quoted field there must be a comma.")
			return false
		}
		line = rest[1:]
	}
}

// quotedField returns the field whose opening mark has been taken off, and what follows its closing mark.
func quotedField(line []byte) (field string, rest []byte, whole bool) {
	var b []byte
	for {
		i := bytes.IndexByte(line, '"')
		if i < 0 {
			return "", nil, false
		}
		b = append(b, line[:i]...)
		if i+1 < len(line) && line[i+1] == '"' {
			b, line = append(b, '"'), line[i+2:]
			continue
		}
		return string(b), line[i+1:], true
	}
}

// csvIntakeRow are the fields of a row by column.
type csvIntakeRow struct {
	id, srcURL, srcBucket, srcKey, srcSandbox, srcPath, destPath, destSandbox, destBucket, destKey, destURL, size, sha256, md5 string
	conflict, digest                                                                                                           string
}

func (r *csvIntake) row() csvIntakeRow {
	var row csvIntakeRow
	places := [...]*string{
		&row.id, &row.srcURL, &row.srcBucket, &row.srcKey, &row.srcSandbox, &row.srcPath, &row.destPath, &row.destSandbox, &row.destBucket,
		&row.destKey, &row.destURL, &row.size, &row.sha256, &row.md5, &row.conflict, &row.digest,
	}
	for i, column := range r.columns {
		if column >= 0 {
			*places[column] = r.fields[i]
		}
	}
	return row
}

// value is the row as the item that it stands for. It reports false after having told that it is none.
func (r *csvIntake) value(c *itemCheck, at string) (value, bool) {
	if i := slices.Index(r.columns, columnIncomplete); i >= 0 && r.fields[i] != "" {
		c.problems.add(at, faultRedacted, notWhole)
		return value{}, false
	}
	row := r.row()
	src, ok := row.src(c, at)
	if !ok {
		return value{}, false
	}
	dest, ok := row.dest(c, at)
	if !ok {
		return value{}, false
	}
	return objectValue(
		member{"id", textValue(row.id)}, member{"src", src}, member{"dest", dest}, member{"size", numberValue(row.size)},
		member{"sha256", textValue(row.sha256)}, member{"md5", textValue(row.md5)},
		member{"conflict", textValue(row.conflict)}, member{"digest", textValue(row.digest)},
	), true
}

func (row *csvIntakeRow) src(c *itemCheck, at string) (value, bool) {
	url, object, file := row.srcURL != "", row.srcBucket != "" || row.srcKey != "", row.srcPath != "" || row.srcSandbox != ""
	if !one(url, object, file) {
		c.problems.add(at+"/src", faultColumns, "A row has one source: src_url, or src_bucket and src_key, or src_path (and src_sandbox).")
		return value{}, false
	}
	switch {
	case url:
		return objectValue(member{"type", textValue(string(protocol.HTTPGet))}, member{"url", textValue(row.srcURL)}), true
	case object:
		return objectValue(member{"type", textValue(string(protocol.Object))},
			member{"bucket", textValue(row.srcBucket)}, member{"key", textValue(row.srcKey)}), true
	}
	return fileValue(row.srcSandbox, c.defaults.relative(row.srcPath)), true
}

// dest returns the destination of a row, absent if it names none.
func (row *csvIntakeRow) dest(c *itemCheck, at string) (value, bool) {
	url, object, file := row.destURL != "", row.destBucket != "" || row.destKey != "", row.destPath != "" || row.destSandbox != ""
	if !url && !object && !file {
		return value{}, true
	}
	if !one(url, object, file) {
		c.problems.add(at+"/dest", faultColumns, "A row has one destination: dest_path (and dest_sandbox), or dest_bucket and dest_key, or dest_url.")
		return value{}, false
	}
	d := c.defaults
	switch {
	case url:
		return objectValue(member{"type", textValue(string(protocol.HTTPPut))}, member{"url", textValue(row.destURL)}), true
	case object:
		if row.destBucket == "" {
			row.destBucket = d.bucket
		}
		return objectValue(member{"type", textValue(string(protocol.Object))},
			member{"bucket", textValue(row.destBucket)}, member{"key", textValue(row.destKey)}), true
	case row.destSandbox == "" && d.sandbox == "" && d.bucket != "": // a path below the default bucket
		return objectValue(member{"type", textValue(string(protocol.Object))}, member{"bucket", textValue(d.bucket)},
			member{"key", textValue(d.prefix + strings.TrimLeft(row.destPath, "/"))}), true
	}
	return fileValue(row.destSandbox, d.relative(row.destPath)), true
}

func fileValue(sandbox, path string) value {
	return objectValue(member{"type", textValue(string(protocol.SandboxFile))},
		member{"sandbox", textValue(sandbox)}, member{"path", textValue(path)})
}

// one reports whether exactly one of several is true.
func one(of ...bool) bool {
	n := 0
	for _, is := range of {
		if is {
			n++
		}
	}
	return n == 1
}
