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
	"time"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
)

var update = flag.Bool("update", false, "write what the examples print into the documents")

// The documents whose commands are run.
const (
	cliDoc    = "../../docs/cli.md"
	eventsDoc = "../../docs/events.md"
	benchDoc  = "../../docs/bench.md"
)

// The addresses of the document: the API, the store, and the web server of the examples. The test has others, as it is not alone.
const docAPI, docS3, docServer = "127.0.0.1:7400", "127.0.0.1:7401", "127.0.0.1:17480"

// example is a command of the document with what is said to come of it.
type example struct {
	command, output string
	silent          bool // it is only run; nothing is said of what it prints
}

// codeBlock is a block with commands: console with what they print, sh without that.
var codeBlock = regexp.MustCompile("(?s)```(console|sh)\n(.*?)```\n")

var consoleBlock = regexp.MustCompile("(?s)```console\n(.*?)```\n")

// documentLimit is for all commands of a document: there are dozens, each a process of its own.
const documentLimit = 15 * time.Minute

// endOfRun stands in a document before the blocks that are for another place than this one.
const endOfRun = "<!-- what follows is not run by the tests -->"

// commandsOf returns the commands of a document: the block that starts the fleet, and all others.
func commandsOf(t *testing.T, text string) (begin string, all []example) {
	t.Helper()
	text, _, _ = strings.Cut(text, endOfRun)
	blocks := codeBlock.FindAllStringSubmatch(text, -1)
	if len(blocks) == 0 || blocks[0][1] != "sh" || !strings.Contains(blocks[0][2], "copyfleet up &") {
		t.Fatal("the document does not start a fleet")
	}
	for _, block := range blocks[1:] {
		if block[1] == "sh" {
			all = append(all, example{command: block[2], silent: true})
			continue
		}
		all = append(all, examplesOf(block[2])...)
	}
	if len(strings.Split(text, "copyfleet ")) < 20 {
		t.Fatalf("the document has %d examples", len(all))
	}
	return blocks[0][2], all
}

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
	// What takes more than a second the doctor calls slow.
	{regexp.MustCompile(`(?m)^(?:ok|warn)( +api +.* answers in )\S+(?:\n +hint: The API or the way to it is slow\.)?$`), "ok$1 LONG"},
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

// The commands of the documents run as written, and print what they say.
func TestDocument(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{"cli": cliDoc, "events": eventsDoc, "bench": benchDoc} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runDocument(t, path)
		})
	}
}

func runDocument(t *testing.T, path string) {
	t.Helper()
	f := mixtest.NewUp(t) // for its addresses: the document starts the fleet
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	begin, all := commandsOf(t, string(text))
	printed := runExamples(t, f, begin, all)
	shown := make([]string, 0, len(all))
	for i, e := range all {
		if e.silent {
			continue
		}
		shown = append(shown, "$ "+e.command+"\n"+printed[i])
		if got := steady(printed[i]); got != steady(e.output) && !*update {
			t.Errorf("$ %s\nprinted\n%s\nand the document says\n%s\n\ngo test ./integration/commandline -run Document -update writes it anew", e.command, printed[i], e.output)
		}
	}
	if *update {
		run, rest, ended := strings.Cut(string(text), endOfRun)
		fresh := consoleBlock.ReplaceAllStringFunc(run, func(block string) string {
			n := len(examplesOf(consoleBlock.FindStringSubmatch(block)[1]))
			said := strings.Join(shown[:n], "")
			shown = shown[n:]
			return "```console\n" + said + "```\n"
		})
		if ended {
			fresh += endOfRun + rest
		}
		if err := os.WriteFile(path, []byte(fresh), 0o644); err != nil {
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
		command := theirs.Replace(e.command)
		if e.silent { // what is not compared must at least go well
			command = "set -e\n" + command + "set +e"
		}
		script += fmt.Sprintf("mark %d\n%s\n", i, command)
	}
	ctx, cancel := context.WithTimeout(t.Context(), documentLimit)
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
