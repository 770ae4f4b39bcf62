package commandline

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
)

// The exit codes, as documented.
const (
	allSucceeded = 0
	someFailed   = 1
	usage        = 2
	notFound     = 3
	notAllowed   = 4
	tryAgain     = 5
	canceled     = 6
	fatal        = 7
)

func TestExitCodes(t *testing.T) {
	t.Parallel()
	f := up(t)
	good := file(t, "good.ndjson", small(f, "good", 3))
	missing := item(f, "x", f.URL+"/nothing/here", "/x.txt")
	mixed := file(t, "mixed.ndjson", small(f, "mixed", 2)+missing)
	wrong := file(t, "wrong.ndjson", small(f, "wrong", 20)+"{\n"+strings.Repeat(`{"src":{"type":"odd"},"dest":{}}`+"\n", 30))
	reader := strings.TrimSpace(expect(t, f, allSucceeded, "keys", "create", f.API.Org, "--role", "read").Stdout)
	ended := detached(t, f, small(f, "ended", 1))
	expect(t, f, allSucceeded, "watch", ended)
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>\x1b[2J")) }))
	defer page.Close()
	const nobody = "URL=http://127.0.0.1:1"
	for _, row := range []struct {
		exit int
		env  []string
		args []string
		says string
	}{
		{allSucceeded, nil, []string{"submit", good}, ""},
		{allSucceeded, nil, []string{"submit", good, "--json"}, ""},
		{allSucceeded, nil, []string{"submit", good, "--detach"}, ""},
		{allSucceeded, nil, []string{"submit", good, "--plan"}, ""},
		{allSucceeded, nil, []string{"show", ended, "--items"}, ""},
		{allSucceeded, nil, []string{"list"}, ""},
		{allSucceeded, nil, []string{"cancel", ended}, ""},
		{someFailed, nil, []string{"submit", mixed}, "1 of 3 items failed"},
		{someFailed, nil, []string{"submit", file(t, "all.ndjson", missing)}, "1 of 1 item failed"},
		{someFailed, nil, []string{"submit", mixed, "--json"}, `"exit":1`},
		{someFailed, nil, []string{"submit", mixed, "--plan"}, "1 of 3 items would fail"},
		{usage, nil, []string{"submit"}, "file"},
		{usage, nil, []string{"submit", "/no/such/manifest"}, "/no/such/manifest"},
		{usage, nil, []string{"submit", file(t, "empty.ndjson", "")}, "hint"},
		{usage, nil, []string{"submit", wrong}, "line 21"},
		{usage, nil, []string{"pause", ended}, "batch_ended"},
		{usage, []string{"URL=nonsense"}, []string{"list"}, "--url"},
		{usage, []string{"API_KEY="}, []string{"list"}, "COPYFLEET_API_KEY"},
		{notFound, nil, []string{"show", "bat_00000000000000000000000000"}, "batch_not_found"},
		{notFound, nil, []string{"watch", "../keys"}, "hint"},
		{notFound, nil, []string{"report", "bat_00000000000000000000000000"}, "batch_not_found"},
		{notFound, nil, []string{"keys", "revoke", "key_x"}, "key_not_found"},
		{notAllowed, []string{"API_KEY=wrong"}, []string{"list"}, "unauthorized"},
		{notAllowed, []string{"API_KEY=wrong"}, []string{"submit", good}, "unauthorized"},
		{notAllowed, []string{"API_KEY=" + reader}, []string{"submit", good}, "forbidden"},
		{notAllowed, []string{"API_KEY=" + reader}, []string{"keys", "list"}, "forbidden"},
		{tryAgain, []string{nobody}, []string{"list"}, "copyfleet up"},
		{tryAgain, []string{nobody}, []string{"submit", good}, "copyfleet up"},
		{tryAgain, []string{nobody}, []string{"doctor"}, "not ready"},
		{tryAgain, nil, []string{"submit", good, "--canary", "1"}, "copyfleet resume"},
		{fatal, []string{"URL=" + page.URL}, []string{"list"}, "not what the API promises"},
		{fatal, []string{"URL=" + page.URL}, []string{"show", ended}, "not what the API promises"},
	} {
		out := f.Command(t, row.env, row.args...)
		told := out.Stderr
		if out.Exit != row.exit || row.says != "" && !strings.Contains(told, row.says) && !(row.says == "hint" && told != "") {
			t.Errorf("copyfleet %q with %q ended with %d, want %d and %q\n%s%s", row.args, row.env, out.Exit, row.exit, row.says, out.Stdout, told)
		}
		if strings.ContainsRune(out.Stdout+told, '\x1b') {
			t.Errorf("copyfleet %q printed an escape into a pipe: %q", row.args, out.Stdout+told)
		}
	}
}

// A manifest with many mistakes: the first twenty are told with their lines, and how many there are.
func TestManyMistakes(t *testing.T) {
	t.Parallel()
	f := up(t)
	wrong := file(t, "wrong.ndjson", strings.Repeat(`{"src":{"type":"odd"},"dest":{"type":"sandboxFileLocation","sandbox":"s","path":"/x"}}`+"\n", 60))
	out := expect(t, f, usage, "submit", wrong)
	if n := strings.Count(out.Stderr, "\n  line "); n != 20 || !strings.Contains(out.Stderr, "line 1, /src") || !strings.Contains(out.Stderr, " more\n") {
		t.Errorf("%d lines were told:\n%s", n, out.Stderr)
	}
	if list := objects(t, expect(t, f, allSucceeded, "list", "--json").Stdout); len(list) != 1 || list[0]["count"] != 0.0 {
		t.Errorf("a refused manifest left something behind: %v", list)
	}
}

// A batch that somebody cancels while its caller waits.
func TestCanceled(t *testing.T) {
	t.Parallel()
	f := up(t)
	gate := make(chan struct{})
	defer close(gate)
	slow := item(f, "slow", f.GiveHalf("/slow", []byte("never whole"), gate), "/slow.bin")
	wait := started(t, f, nil, "submit", file(t, "m.ndjson", slow), "--label", "slow one", "--json")
	wait.says(t, `"state":"running"`)
	id, _ := objects(t, wait.stdout.String())[0]["id"].(string)
	out := expect(t, f, allSucceeded, "cancel", id, "--json")
	if answer := objects(t, out.Stdout)[0]; answer["stopped_midway"] != 1.0 {
		t.Errorf("the answer to the cancel: %v", answer)
	}
	if code := wait.exit(t); code != canceled {
		t.Errorf("the wait ended with %d\n%s%s", code, wait.stdout.String(), wait.stderr.String())
	}
	lines := objects(t, wait.stdout.String())
	if last := lines[len(lines)-1]; last["state"] != "canceled" {
		t.Errorf("the last line is %v", last)
	}
	expect(t, f, canceled, "watch", id)
}

// Ctrl-C ends the wait, not the batch.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	f := up(t)
	gate := make(chan struct{})
	slow := item(f, "slow", f.GiveHalf("/slow", []byte("slow but whole"), gate), "/slow.bin")
	wait := started(t, f, nil, "submit", file(t, "m.ndjson", slow))
	wait.says(t, "running")
	if err := wait.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := wait.exit(t); code != canceled || !strings.Contains(wait.stderr.String(), "copyfleet watch ") {
		t.Errorf("ended with %d\n%s", code, wait.stderr.String())
	}
	id, _, _ := strings.Cut(wait.stdout.String(), " ")
	close(gate)
	expect(t, f, allSucceeded, "watch", id)
	if view := f.API.WaitFinal(t, id, limit); view.Counts["succeeded"] != 1 {
		t.Errorf("the batch ended as %+v", view)
	}
}

// pauses and resumes, with a wait that ends and one that goes on.
func TestPaused(t *testing.T) {
	t.Parallel()
	f := up(t)
	n := 30
	manifest := file(t, "m.csv", strings.ReplaceAll(csv(f, "canary", n), "\n", "\r\n"))
	out := f.Command(t, nil, "submit", manifest, "--sandbox", f.Sandbox, "--canary", "2")
	id, _, _ := strings.Cut(out.Stdout, " ")
	if out.Exit != tryAgain || !strings.Contains(out.Stderr, "copyfleet resume "+id) || !strings.Contains(out.Stderr, "canary") {
		t.Fatalf("ended with %d\n%s%s", out.Exit, out.Stdout, out.Stderr)
	}
	expect(t, f, tryAgain, "watch", id)
	through := started(t, f, nil, "watch", id, "--through-pauses")
	through.says(t, "paused")
	expect(t, f, allSucceeded, "resume", id)
	if code := through.exit(t); code != allSucceeded {
		t.Errorf("the wait through the pause ended with %d\n%s", code, through.stderr.String())
	}
	arrived(t, f, "canary", n)
}

func csv(f *mixtest.Fleet, name string, n int) string {
	var text strings.Builder
	for _, line := range objectsOf(small(f, name, n)) {
		text.WriteString(line[0] + "," + line[1] + "\n")
	}
	return text.String()
}
