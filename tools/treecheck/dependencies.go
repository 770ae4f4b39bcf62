package main

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"golang.org/x/mod/modfile"
)

// table is the document that gives each dependency its reason.
const table = "docs/dependencies.md"

var (
	// row is a row of the table: a module and its version, both in backquotes, in the first two columns.
	row = regexp.MustCompile("(?m)^\\| `([^`]+)` +\\| `(v[^`]+)` +\\|")
	// peer is a program that the Makefile installs as a module build of its own.
	peer = regexp.MustCompile(`MODULE := ([^@\s]+)@\$\((\w+)\)`)
	// setting is a version in the Makefile.
	setting = regexp.MustCompile(`(?m)^(\w+_VERSION)\s*:=\s*(\S+)$`)
)

// checkDependencies compares the table with the module files and with the programs that the Makefile
// installs: each direct requirement has its row, each row its requirement, and the versions are the same.
func checkDependencies(tree fs.FS) error {
	rows, err := readTable(tree)
	if err != nil {
		return err
	}
	required, err := readRequired(tree)
	if err != nil {
		return err
	}
	var problems []error
	for module, want := range required {
		version, ok := rows[module]
		switch {
		case !ok && want.direct:
			problems = append(problems, fmt.Errorf("%s requires %s, which has no row in %s: say why it and not another", want.by, module, table))
		case ok && version != want.version:
			problems = append(problems, fmt.Errorf("%s says %s %s, but %s requires %s", table, module, version, want.by, want.version))
		}
	}
	for module := range rows {
		if _, ok := required[module]; !ok {
			problems = append(problems, fmt.Errorf("%s has a row for %s, which nothing requires", table, module))
		}
	}
	return errors.Join(sorted(problems)...)
}

// readTable returns the version that the table gives for each module.
func readTable(tree fs.FS) (map[string]string, error) {
	text, err := fs.ReadFile(tree, table)
	if err != nil {
		return nil, fmt.Errorf("read the table of dependencies: %w", err)
	}
	rows := map[string]string{}
	for _, match := range row.FindAllStringSubmatch(string(text), -1) {
		if _, twice := rows[match[1]]; twice {
			return nil, fmt.Errorf("%s has two rows for %s", table, match[1])
		}
		rows[match[1]] = match[2]
	}
	return rows, nil
}

// requirement is a version that somebody requires of a module.
type requirement struct {
	version string
	by      string // the file that requires it
	direct  bool
}

// readRequired returns what the module files and the Makefile require. The product's requirement of a module
// counts before that of its tools, and the direct ones before the others.
func readRequired(tree fs.FS) (map[string]requirement, error) {
	required := map[string]requirement{}
	for _, name := range []string{"go.mod", "tools/go.mod"} {
		text, err := fs.ReadFile(tree, name)
		if err != nil {
			return nil, fmt.Errorf("read requirements: %w", err)
		}
		file, err := modfile.ParseLax(name, text, nil)
		if err != nil {
			return nil, fmt.Errorf("read requirements: %w", err)
		}
		for _, r := range file.Require {
			known, ok := required[r.Mod.Path]
			if !ok || !r.Indirect && !known.direct {
				required[r.Mod.Path] = requirement{version: r.Mod.Version, by: name, direct: !r.Indirect}
			}
		}
	}
	return required, readPeers(tree, required)
}

// readPeers adds the programs that the Makefile installs.
func readPeers(tree fs.FS, required map[string]requirement) error {
	text, err := fs.ReadFile(tree, "Makefile")
	if err != nil {
		return fmt.Errorf("read requirements: %w", err)
	}
	versions := map[string]string{}
	for _, match := range setting.FindAllStringSubmatch(string(text), -1) {
		versions[match[1]] = match[2]
	}
	for _, match := range peer.FindAllStringSubmatch(string(text), -1) {
		version, ok := versions[match[2]]
		if !ok {
			return fmt.Errorf("the Makefile installs %s in the version %s, which it does not set", match[1], strings.TrimSpace(match[2]))
		}
		required[match[1]] = requirement{version: version, by: "Makefile", direct: true}
	}
	return nil
}
