package commandline

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
)

var update = flag.Bool("update", false, "write what the examples print into docs/cli.md")

const cliDoc = "../../docs/cli.md"

// The addresses of the document: the API, the store, and the web server of the examples. The test has others, as it is not alone.
const docAPI, docS3, docServer = "127.0.0.1:7400", "127.0.0.1:7401", "127.0.0.1:17480"

// example is a command of the document with what is said to come of it.
type example struct {
	command, output string
}

var consoleBlock = regexp.MustCompile("(?s)```console\n(.*?)```\n")

// shellBlock is what is to be run without looking at what it prints. Only the first one is for here: it starts what the others use.
var shellBlock = regexp.MustCompile("(?s)```sh\n(.*?)```\n")

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
	{regexp.MustCompile(`upl_[a-z0-9]{26}`), "UPLOAD"},
	{regexp.MustCompile(`copyfleet-upload-\d+`), "SPOOL"},
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
	f := mixtest.NewUp(t) // for its addresses: the document starts the fleet
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
	first := shellBlock.FindSubmatch(text)
	if len(first) < 2 || !strings.Contains(string(first[1]), "copyfleet up &") {
		t.Fatal("the document does not start a fleet")
	}
	printed := runExamples(t, f, string(first[1]), all)
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

// runExamples runs all commands in one bash, in a directory of their own, and returns what each printed. The fleet is told other addresses, and
// what it logs goes to a file.
func runExamples(t *testing.T, f *mixtest.Fleet, begin string, all []example) []string {
	t.Helper()
	dir := t.TempDir()
	ours := f.Prepare(t.Context(), t, nil)
	env, addresses := plainEnv(ours.Env)
	web := mixtest.FreeAddress(t)
	theirs := strings.NewReplacer(
		docAPI, addresses["COPYFLEET_LISTEN"], docS3, addresses["COPYFLEET_S3_LISTEN"], docServer, web, port(docServer), port(web))
	script := "copyfleet() { if [ \"$1\" = up ]; then exec '" + ours.Path + "' \"$@\" >up.log 2>&1; fi; '" + ours.Path + "' \"$@\"; }\n" +
		"mark() { local code=$?; printf '\\001%s\\001' \"$1\"; return $code; }\n" +
		"trap 'kill $(jobs -p); wait' EXIT\n" + theirs.Replace(begin)
	for i, e := range all {
		script += fmt.Sprintf("mark %d\n%s\n", i, theirs.Replace(e.command))
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	cmd.Dir, cmd.Env = dir, env
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // it ends what it started
	cmd.WaitDelay = limit
	out, err := cmd.CombinedOutput()
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "up.log"))
		t.Fatalf("bash: %v\n%s\n%s", err, out, log)
	}
	parts := regexp.MustCompile("\x01\\d+\x01").Split(string(out), -1)[1:]
	if len(parts) != len(all) {
		t.Fatalf("%d outputs of %d commands:\n%s", len(parts), len(all), out)
	}
	shown := strings.NewReplacer(filepath.Join(dir, "copyfleet-data"), "/home/you/copyfleet-data", tmpOf(env), "/tmp",
		addresses["COPYFLEET_LISTEN"], docAPI, addresses["COPYFLEET_S3_LISTEN"], docS3, web, docServer)
	for i := range parts {
		parts[i] = secrets.ReplaceAllString(shown.Replace(parts[i]), "$1…")
	}
	return parts
}

// plainEnv is what of an environment tells where a fleet listens, and not how it behaves.
func plainEnv(all []string) (env []string, addresses map[string]string) {
	addresses = map[string]string{}
	for _, setting := range all {
		name, value, _ := strings.Cut(setting, "=")
		switch name {
		case "COPYFLEET_LISTEN", "COPYFLEET_S3_LISTEN":
			addresses[name] = value
		case "PATH", "HOME", "TMPDIR", "COPYFLEET_URL":
		default:
			continue
		}
		env = append(env, setting)
	}
	return env, addresses
}

// port is that of an address.
func port(address string) string {
	_, port, _ := strings.Cut(address, ":")
	return port
}

// secrets are not shown in a document, though they open nothing any more.
var secrets = regexp.MustCompile(`(cfk_|X-Amz-Algorithm=)[^\s"]+`)
