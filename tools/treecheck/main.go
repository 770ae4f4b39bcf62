// Program treecheck checks what no linter sees: that no Go file grows beyond 500 lines, that no
// test sleeps on a real clock, that docs/dependencies.md tells the truth about the dependencies, and that links between documents lead somewhere.
//
// It guarantees to report every problem of a run, not only the first. It reads the files of the tree,
// whether committed or not, and reaches no network: links to elsewhere are not followed.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: treecheck DIRECTORY")
		os.Exit(2)
	}
	if err := check(os.DirFS(os.Args[1])); err != nil {
		fmt.Fprintln(os.Stderr, "treecheck:", err)
		os.Exit(1)
	}
}

// check returns all problems of a tree, joined.
func check(tree fs.FS) error {
	files, err := list(tree)
	if err != nil {
		return err
	}
	return errors.Join(checkLines(tree, files), checkSleeps(tree, files), checkDependencies(tree), checkLinks(tree, files))
}

// list returns the slash-separated paths of the regular files of a tree that people write: nothing that
// is built or copied, and nothing under testdata, where files are input.
func list(tree fs.FS) ([]string, error) {
	built := []string{".git", ".tools", "bin", "data", "copyfleet-data", "testdata", "node_modules"}
	var files []string
	err := fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains(built, path.Base(name)):
			return fs.SkipDir
		case entry.Type().IsRegular():
			files = append(files, name)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the tree: %w", err)
	}
	return files, nil
}

// withSuffix returns the names that end in suffix.
func withSuffix(names []string, suffix string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !strings.HasSuffix(name, suffix) })
}

// sorted orders errors by their text, so that a run's report does not depend on the order of maps.
func sorted(errs []error) []error {
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errs
}
