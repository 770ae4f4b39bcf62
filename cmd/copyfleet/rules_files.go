package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// maxRulesFile is how much of a file of rules is read. The API takes less, and says so.
const maxRulesFile = 1 << 20

// ruleFiles are files of rules as one text: the API applies all or none of what one request has.
type ruleFiles struct {
	text  []byte
	begin []int // line of the text on which each file begins, from 1
	names []string
}

// readRules reads files; "-" is the standard input.
func readRules(names []string, stdin io.Reader) (*ruleFiles, error) {
	files := &ruleFiles{}
	for i, name := range names {
		if name == "-" && slices.Contains(names[:i], name) {
			return nil, errStdinTwice
		}
		data, err := readInput("the rules", name, stdin, maxRulesFile)
		if err != nil {
			return nil, err
		}
		files.add(name, data)
	}
	return files, nil
}

// errStdinTwice says that the standard input cannot be two things: the second would be empty, and be taken for something else.
var errStdinTwice = exitWith(exitUsage, "the standard input (-) can be read once only")

// readInput reads a small file, or the standard input for "-".
func readInput(what, name string, stdin io.Reader, limit int64) ([]byte, error) {
	in := stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, exitWith(exitUsage, "%s: %w", what, err)
		}
		defer func() { _ = file.Close() }() // only read
		in = file
	}
	data, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = errors.New("too large: at most " + size(limit))
	}
	if err != nil {
		return nil, exitWith(exitUsage, "%s: %s: %w", what, name, err)
	}
	return data, nil
}

func (f *ruleFiles) add(name string, data []byte) {
	data = bytes.TrimPrefix(data, byteOrderMark)
	if len(f.text) > 0 {
		if !bytes.HasSuffix(f.text, []byte("\n")) {
			f.text = append(f.text, '\n')
		}
		if !beginsDocument(data) {
			f.text = append(f.text, "---\n"...)
		}
	}
	f.begin = append(f.begin, bytes.Count(f.text, []byte("\n"))+1)
	f.names = append(f.names, name)
	f.text = append(f.text, data...)
}

// beginsDocument reports whether a file begins its first document itself, as YAML does: another mark before it would be an empty document.
func beginsDocument(data []byte) bool {
	for line := range bytes.Lines(data) {
		text := strings.TrimSpace(string(line))
		if text != "" && !strings.HasPrefix(text, "#") {
			return bytes.HasPrefix(line, []byte("---"))
		}
	}
	return false
}

// explain says of mistakes in which file they are.
func (f *ruleFiles) explain(err error) error {
	p := refused(err)
	if p == nil {
		return err
	}
	for i := range p.Errors {
		m := &p.Errors[i]
		switch {
		case m.Line > 0:
			at := f.at(m.Line)
			m.Pointer = strings.TrimPrefix(m.Pointer, fmt.Sprintf("/line/%d/", m.Line))
			m.File, m.Line = shownFile(f.names[at]), m.Line-f.begin[at]+1
		case len(f.names) == 1:
			m.File = shownFile(f.names[0])
		}
	}
	return err
}

// at is the index of the file that a line is of.
func (f *ruleFiles) at(line int) int {
	at := 0
	for i, begin := range f.begin {
		if begin <= line {
			at = i
		}
	}
	return at
}

func shownFile(name string) string {
	if name == "-" {
		return "stdin"
	}
	return name
}
