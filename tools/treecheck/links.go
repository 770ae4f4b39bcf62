package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path"
	"regexp"
	"strings"
)

var (
	// link is an inline link or image of CommonMark: [text](target) or [text](target "title").
	link = regexp.MustCompile(`\]\(<?([^)\s>]+)>?(?:\s+"[^"]*")?\)`)
	// code is what is shown, not meant: fenced blocks and spans.
	code = regexp.MustCompile("(?s)```.*?```|`[^`\n]*`")
)

// checkLinks reports the relative links in Markdown files whose target is not in the tree. Anchors within a target are
// not checked.
func checkLinks(tree fs.FS, files []string) error {
	var problems []error
	for _, name := range withSuffix(files, ".md") {
		text, err := fs.ReadFile(tree, name)
		if err != nil {
			return fmt.Errorf("check links: %w", err)
		}
		for _, match := range link.FindAllSubmatch(code.ReplaceAll(text, nil), -1) {
			if target := string(match[1]); dead(tree, name, target) {
				problems = append(problems, fmt.Errorf("%s links to %s, which is not there", name, target))
			}
		}
	}
	return errors.Join(problems...)
}

// dead reports whether a link in file leads to nothing in the tree. A link that leaves the tree by its scheme is
// not dead; one that leaves it by "..", or starts at the root of who knows what, is.
func dead(tree fs.FS, file, target string) bool {
	u, err := url.Parse(target)
	if err != nil {
		return true
	}
	if u.Scheme != "" || u.Host != "" || u.Path == "" {
		return false
	}
	if strings.HasPrefix(u.Path, "/") {
		return true
	}
	_, err = fs.Stat(tree, path.Join(path.Dir(file), u.Path))
	return err != nil
}
