package commandline

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
)

var update = flag.Bool("update", false, "write what the examples print into docs/cli.md")

const cliDoc = "../../docs/cli.md"

// The server of the examples.
const docServer = "http://127.0.0.1:17480" // as many digits as the port of the test's server has

// example is a command of the document with what is said to come of it.
type example struct {
	command, output string
}

var consoleBlock = regexp.MustCompile("(?s)```console\n(.*?)```\n")

// examplesOf returns the commands of a block.
func examplesOf(block string) []example {
	var list []example
	for line := range strings.Lines(block) {
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			list = append(list, example{command: strings.TrimSpace(command)})
		} else if len(list) > 0 {
			list[len(list)-1].output += line
		}
	}
	return list
}

// varies are the parts of an output that are another at each run, and what stands for them in a comparison.
var varies = []struct {
	part *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`(?m)^bat_\w+ (queued|running): .*\n`), ""}, // how many states are seen is a matter of speed
	{regexp.MustCompile(`bat_[a-z0-9]{26}`), "BATCH"},
	{regexp.MustCompile(`key_[0-9a-f]{16}`), "KEY"},
	{regexp.MustCompile(`\d+\.\d [KMGT]iB free`), "ROOM free"},
	{regexp.MustCompile(`(just now|\d+ s ago|\d+ min \d+ s ago) \([^)]*\)`), "WHEN"},
	{regexp.MustCompile(`\b\d+(\.\d+)? (ms|s)\b`), "LONG"},
	{regexp.MustCompile(`answers in \S+`), "answers in LONG"},
	{regexp.MustCompile(`(version|API and command line are both) \S+`), "$1 VERSION"},
	{regexp.MustCompile(`open \d+ files`), "open MANY files"},
	{regexp.MustCompile(`LONG \([^)]*/s\)`), "LONG"},
	{regexp.MustCompile(`by \S+-\d+-[a-z0-9]{6}\b`), "by WORKER"},
	{regexp.MustCompile(`(trace +)[0-9a-f]{32}`), "$1 TRACE"},
	{regexp.MustCompile(`http://127\.0\.0\.1:\d+`), "http://HOST"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "HOST"},
	{regexp.MustCompile(`good until .*`), "good until TIME"},
	{regexp.MustCompile(`(lines?, |"bytes":)[\d.]+( \w+)?`), "$1 SIZE"}, // times have more digits at times
	{regexp.MustCompile(` +`), " "},
}

func steady(output string) string {
	for _, v := range varies {
		output = v.part.ReplaceAllString(output, v.with)
	}
	return strings.TrimSpace(output)
}

// The document's commands run as written, and print what it says.
func TestDocument(t *testing.T) {
	t.Parallel()
	f := up(t)
	text, err := os.ReadFile(cliDoc)
	if err != nil {
		t.Fatal(err)
	}
	var all []example
	for _, block := range consoleBlock.FindAllStringSubmatch(string(text), -1) {
		all = append(all, examplesOf(block[1])...)
	}
	if len(all) < 20 {
		t.Fatalf("the document has %d examples", len(all))
	}
	printed := runExamples(t, f, all)
	for i := range all {
		if got := steady(printed[i]); got != steady(all[i].output) && !*update {
			t.Errorf("$ %s\nprinted\n%s\nand the document says\n%s\n\ngo test ./integration/commandline -run Document -update writes it anew", all[i].command, printed[i], all[i].output)
		}
	}
	if *update {
		i := 0
		fresh := consoleBlock.ReplaceAllStringFunc(string(text), func(block string) string {
			var b strings.Builder
			for range examplesOf(consoleBlock.FindStringSubmatch(block)[1]) {
				b.WriteString("$ " + all[i].command + "\n" + printed[i])
				i++
			}
			return "```console\n" + b.String() + "```\n"
		})
		if err := os.WriteFile(cliDoc, []byte(fresh), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// runExamples runs all commands in one bash, in a directory of their own, and returns what each printed.
func runExamples(t *testing.T, f *mixtest.Fleet, all []example) []string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "files"), 0o755); err != nil {
		t.Fatal(err)
	}
	f.Give("/a.txt", []byte(seq(1000)))
	f.Give("/b.txt", []byte(seq(2000)))
	ours := f.Prepare(t.Context(), t, nil)
	script := "copyfleet() { '" + ours.Path + "' \"$@\"; }\nmark() { local code=$?; printf '\\001%s\\001' \"$1\"; return $code; }\n"
	for i, e := range all {
		if strings.Contains(e.command, "files/c.txt") { // the server of the examples gives what lies in the directory
			e.command += "; : >served; while [ ! -e given ]; do sleep 0.05; done"
		}
		script += fmt.Sprintf("mark %d\n%s\n", i, strings.ReplaceAll(e.command, docServer, f.URL))
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-c", script)
	cmd.Dir, cmd.Env = dir, ours.Env
	done := make(chan struct{})
	go func() {
		defer close(done)
		mixtest.Until(limit, func() bool {
			if _, err := os.Stat(filepath.Join(dir, "served")); err != nil {
				return false
			}
			f.Give("/c.txt", []byte(seq(3000)))
			return os.WriteFile(filepath.Join(dir, "given"), nil, 0o644) == nil
		})
	}()
	out, err := cmd.CombinedOutput()
	<-done
	if err != nil {
		t.Fatalf("bash: %v\n%s", err, out)
	}
	parts := regexp.MustCompile("\x01\\d+\x01").Split(string(out), -1)[1:]
	if len(parts) != len(all) {
		t.Fatalf("%d outputs of %d commands:\n%s", len(parts), len(all), out)
	}
	shown := strings.NewReplacer(append(places(ours.Env), strings.TrimPrefix(f.URL, "http://"), strings.TrimPrefix(docServer, "http://"))...)
	for i := range parts {
		parts[i] = secrets.ReplaceAllString(shown.Replace(parts[i]), "$1…")
	}
	return parts
}

// secrets are not shown in a document, though they open nothing any more.
var secrets = regexp.MustCompile(`(cfk_|X-Amz-Algorithm=)[^\s"]+`)

// places tells what stands for the places of the test's fleet: those of a fleet with the default settings.
func places(env []string) []string {
	var list []string
	for _, setting := range env {
		name, value, _ := strings.Cut(setting, "=")
		if place := map[string]string{
			"COPYFLEET_DATA": "/home/you/copyfleet-data", "COPYFLEET_LISTEN": "127.0.0.1:7400", "COPYFLEET_S3_LISTEN": "127.0.0.1:7401",
		}[name]; place != "" {
			list = append(list, value, place)
		}
	}
	return list
}

// seq is what the command seq prints.
func seq(n int) string {
	var b strings.Builder
	for i := 1; i <= n; i++ {
		fmt.Fprintln(&b, i)
	}
	return b.String()
}
