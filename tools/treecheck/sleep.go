package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"slices"
	"strconv"
)

// checkSleeps reports the test files that call time.Sleep and do not import testing/synctest: under its fake
// clock a sleep costs nothing and is exact, everywhere else it is a guess. The linter forbids the rest.
func checkSleeps(tree fs.FS, files []string) error {
	var problems []error
	for _, name := range withSuffix(files, "_test.go") {
		text, err := fs.ReadFile(tree, name)
		if err != nil {
			return fmt.Errorf("look for sleeps: %w", err)
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, text, parser.SkipObjectResolution)
		if err != nil {
			return fmt.Errorf("look for sleeps: %w", err)
		}
		if imports(file, "testing/synctest") {
			continue
		}
		for _, at := range sleeps(file) {
			problems = append(problems, fmt.Errorf("%s waits with time.Sleep: wait for the thing itself, or use testing/synctest", set.Position(at)))
		}
	}
	return errors.Join(problems...)
}

func imports(file *ast.File, path string) bool {
	return slices.ContainsFunc(file.Imports, func(spec *ast.ImportSpec) bool { return spec.Path.Value == strconv.Quote(path) })
}

// sleeps returns where a file names time.Sleep. It goes by the name of the package, as imported everywhere.
func sleeps(file *ast.File) []token.Pos {
	var found []token.Pos
	ast.Inspect(file, func(node ast.Node) bool {
		if selector, ok := node.(*ast.SelectorExpr); ok && selector.Sel.Name == "Sleep" {
			if pkg, ok := selector.X.(*ast.Ident); ok && pkg.Name == "time" {
				found = append(found, node.Pos())
			}
		}
		return true
	})
	return found
}
