// Program ranall reads the events of a test run (go test -json, or gotestsum --jsonfile) and fails if a test
// was skipped or if no test ran: go test itself calls both a success.
//
// It guarantees to name every skipped test. It does not judge failed tests; whoever ran them has.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "ranall:", err)
		os.Exit(1)
	}
}

func run(args []string) (err error) {
	if len(args) != 1 {
		return errors.New("usage: ranall EVENTS")
	}
	events, err := os.Open(args[0])
	if err != nil {
		return fmt.Errorf("open the test events: %w", err)
	}
	defer func() { err = errors.Join(err, events.Close()) }()
	return check(events)
}

// event is what this program needs of a test event. Its form is documented by `go doc test2json`.
type event struct {
	Action  string `json:"Action"`
	Package string `json:"Package"`
	Test    string `json:"Test"` // empty for an event of the package itself: "skip" there means that it has no tests
}

// check returns an error that names each skipped test, or says that none ran, or why events cannot be read.
func check(events io.Reader) error {
	ran := 0
	var skipped []error
	in := json.NewDecoder(bufio.NewReader(events))
	for {
		var e event
		err := in.Decode(&e)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read the test events: %w", err)
		}
		switch {
		case e.Test == "":
		case e.Action == "skip":
			skipped = append(skipped, fmt.Errorf("%s %s was skipped", e.Package, e.Test))
		case e.Action == "pass", e.Action == "fail":
			ran++
		}
	}
	if len(skipped) > 0 {
		slices.SortFunc(skipped, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
		return fmt.Errorf("a skipped test is a failure:\n%w", errors.Join(skipped...))
	}
	if ran == 0 {
		return errors.New("no test ran")
	}
	return nil
}
