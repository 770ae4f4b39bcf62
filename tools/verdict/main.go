// Program verdict reads the events of a test run (go test -json, or gotestsum --jsonfile), says in few lines why which test failed, and
// fails itself if one did, if one was skipped, or if none ran: go test calls the last two a success, and what it says of a failure may
// stand far above the logs of the processes that the test had.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "verdict:", err)
		os.Exit(1)
	}
}

func run(args []string) (err error) {
	if len(args) != 1 {
		return errors.New("usage: verdict EVENTS")
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
	Output  string `json:"Output"`
}

// output is what a test, or a package, wrote: what it said itself, and the end of all.
type output struct {
	said, last []string
}

const (
	saidMost  = 8
	lastMost  = 6
	lineBytes = 400
)

// saidLine begins a line that testing.T wrote: file and line, and what the test says.
var saidLine = regexp.MustCompile(`^\s+\w+\.go:\d+: `)

func (o *output) add(line string) {
	line = strings.TrimRight(line, "\n")
	switch {
	case strings.TrimSpace(line) == "":
		return
	case len(line) > lineBytes:
		line = line[:lineBytes] + "…"
	}
	if len(o.said) < saidMost && saidLine.MatchString(line) && !strings.HasSuffix(line, " ends:") {
		o.said = append(o.said, line)
	}
	o.last = append(o.last, line)
	if len(o.last) > lastMost {
		o.last = o.last[1:]
	}
}

// why is what explains a failure best.
func (o *output) why() string {
	switch {
	case o == nil:
		return ""
	case len(o.said) > 0:
		return "\n" + strings.Join(o.said, "\n")
	default:
		return "\n" + strings.Join(o.last, "\n")
	}
}

// check returns an error that names each failed and each skipped test, or says that none ran, or why events cannot be read.
func check(events io.Reader) error {
	ran := 0
	var skipped, failed []error
	outputs := map[[2]string]*output{}
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
		if e.Test != "" && (e.Action == "pass" || e.Action == "fail") {
			ran++
		}
		name := [2]string{e.Package, e.Test}
		switch e.Action {
		case "output":
			if outputs[name] == nil {
				outputs[name] = &output{}
			}
			outputs[name].add(e.Output)
		case "skip":
			if e.Test != "" {
				skipped = append(skipped, fmt.Errorf("%s %s was skipped", e.Package, e.Test))
			}
		case "fail":
			failed = append(failed, fmt.Errorf("%s failed%s", strings.TrimSpace(e.Package+" "+e.Test), outputs[name].why()))
			delete(outputs, name)
		case "pass":
			delete(outputs, name)
		}
	}
	var problems []error
	if len(skipped) > 0 {
		slices.SortFunc(skipped, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
		problems = append(problems, fmt.Errorf("a skipped test is a failure:\n%w", errors.Join(skipped...)))
	}
	if ran == 0 {
		problems = append(problems, errors.New("no test ran"))
	}
	return errors.Join(append(problems, failed...)...)
}
