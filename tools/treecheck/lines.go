package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
)

// maxLines is how long a Go file may be; above it, a file has more than one subject.
const maxLines = 500

// generated is the line that marks a generated file (`go help generate`).
var generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

// checkLines reports the Go files with more than maxLines lines, except generated ones.
func checkLines(tree fs.FS, files []string) error {
	var problems []error
	for _, name := range withSuffix(files, ".go") {
		text, err := fs.ReadFile(tree, name)
		if err != nil {
			return fmt.Errorf("count lines: %w", err)
		}
		if n := countLines(text); n > maxLines && !generated.Match(text) {
			problems = append(problems, fmt.Errorf("%s has %d lines, more than %d: split it by verb", name, n, maxLines))
		}
	}
	return errors.Join(problems...)
}

// countLines counts a last line without a newline too.
func countLines(text []byte) int {
	n := bytes.Count(text, []byte("\n"))
	if len(text) > 0 && text[len(text)-1] != '\n' {
		n++
	}
	return n
}
