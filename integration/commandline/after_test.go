package commandline

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
)

// failing runs a batch of which two items fail for want of their sources, and returns its id.
func failing(t *testing.T, f *mixtest.Fleet, name string) string {
	t.Helper()
	manifest := small(f, name, 2) + item(f, "late-1", f.URL+"/"+name+"/late-1?sig=secret", "/"+name+"/late-1") + item(f, "late-2", f.URL+"/"+name+"/late-2", "/"+name+"/late-2")
	out := f.Command(t, nil, "submit", file(t, "m.ndjson", manifest), "--label", name)
	id, _, _ := strings.Cut(out.Stdout, " ")
	if out.Exit != someFailed {
		t.Fatalf("ended with %d\n%s%s", out.Exit, out.Stdout, out.Stderr)
	}
	return id
}

// The report of the failed items is a manifest: once their sources are there, it runs them again.
func TestReport(t *testing.T) {
	t.Parallel()
	f := up(t)
	id := failing(t, f, "report")
	all := objects(t, expect(t, f, allSucceeded, "report", id).Stdout)
	if len(all) != 4 {
		t.Fatalf("%d rows: %v", len(all), all)
	}
	dir := t.TempDir()
	for _, name := range []string{"failed.ndjson", "failed.csv"} {
		out := filepath.Join(dir, name)
		expect(t, f, allSucceeded, "report", id, "--state", "failed", "--secrets", "-o", out)
		f.Give("/report/late-1", []byte("here now"))
		f.Give("/report/late-2", []byte("here now"))
		expect(t, f, allSucceeded, "submit", out)
		if got, err := os.ReadFile(f.OnDisk("/report/late-2")); err != nil || string(got) != "here now" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	csv := expect(t, f, allSucceeded, "report", id, "--format", "csv").Stdout
	if lines := strings.Count(csv, "\n"); lines != 5 || strings.Contains(csv, "sig=secret") {
		t.Errorf("a CSV of %d lines:\n%s", lines, csv)
	}
	told := objects(t, expect(t, f, allSucceeded, "report", id, "--json", "-o", filepath.Join(dir, "x.csv")).Stdout)
	if told[0]["lines"] != 5.0 || told[0]["format"] != "csv" {
		t.Errorf("told %v", told)
	}
	// One that cannot be fetched leaves nothing behind.
	expect(t, f, notFound, "report", "bat_00000000000000000000000000", "-o", filepath.Join(dir, "none.ndjson"))
	if names, err := filepath.Glob(filepath.Join(dir, "*none*")); err != nil || len(names) > 0 {
		t.Errorf("left behind: %q, %v", names, err)
	}
}

// What failed runs again as a new batch, once.
func TestRetry(t *testing.T) {
	t.Parallel()
	f := up(t)
	id := failing(t, f, "retry")
	expect(t, f, usage, "retry", id, "--class", "denied")
	f.Give("/retry/late-1", []byte("here now"))
	out := expect(t, f, allSucceeded, "retry", id, "--item", "late-1")
	if !strings.HasPrefix(out.Stdout, "1 item of "+id+" to run again, as bat_") {
		t.Errorf("printed %q", out.Stdout)
	}
	out = f.Command(t, nil, "retry", id, "--json", "--label", "second") // the other, which still has no source
	lines := objects(t, out.Stdout)
	if last := lines[len(lines)-1]; out.Exit != someFailed || last["total"] != 1.0 || last["rerun_of"] != id || last["label"] != "second" {
		t.Errorf("ended with %d: %v", out.Exit, last)
	}
	if out := expect(t, f, usage, "retry", id); !strings.Contains(out.Stderr, "nothing_to_retry") {
		t.Errorf("a third time: %s", out.Stderr)
	}
}

func TestDead(t *testing.T) {
	t.Parallel()
	f := up(t)
	id := failing(t, f, "dead")
	list := objects(t, expect(t, f, allSucceeded, "dead", "list", "--json").Stdout)
	if len(list) != 3 || list[2]["count"] != 2.0 {
		t.Fatalf("listed %v", list)
	}
	letter, _ := list[0]["id"].(string)
	if !strings.HasPrefix(letter, id+".") {
		t.Fatalf("the id of a dead letter is %q", letter)
	}
	for _, args := range [][]string{{"dead", "list"}, {"dead", "show", letter}} {
		if out := expect(t, f, allSucceeded, args...); !strings.Contains(out.Stdout, "not_found/source_http_404") || strings.Contains(out.Stdout, "sig=secret") {
			t.Errorf("%q printed\n%s", args, out.Stdout)
		}
	}
	if out := expect(t, f, allSucceeded, "dead", "show", letter, "--secrets"); !strings.Contains(out.Stdout, "sig=secret") {
		t.Errorf("with secrets:\n%s", out.Stdout)
	}
	expect(t, f, notFound, "dead", "show", id+".7")
	if out := expect(t, f, allSucceeded, "dead", "redrive", "--all"); !strings.Contains(out.Stdout, "2 dead letters of 1 batch would run again") {
		t.Errorf("the preview:\n%s", out.Stdout)
	}
	f.Give("/dead/late-1", []byte("here now"))
	f.Give("/dead/late-2", []byte("here now"))
	expect(t, f, allSucceeded, "dead", "redrive", "--batch", id, "--yes", "--header", "X-Again=1", "--dest-path", "/again", "--rate", "100")
	if got, err := os.ReadFile(f.OnDisk("/again/dead/late-1")); err != nil || string(got) != "here now" {
		t.Errorf("%q, %v", got, err)
	}
	left := objects(t, expect(t, f, allSucceeded, "dead", "list", "--json").Stdout)
	if len(left) != 1 || left[0]["count"] != 0.0 {
		t.Errorf("left: %v", left)
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	f := up(t)
	made := objects(t, expect(t, f, allSucceeded, "keys", "create", f.API.Org, "--role", "read", "--name", "a\u202eb", "--json").Stdout)[0]
	secret, _ := made["key"].(string)
	id, _ := made["id"].(string)
	env := []string{"API_KEY=" + secret}
	if out := f.Command(t, env, "list"); out.Exit != allSucceeded {
		t.Fatalf("the new key: %d\n%s", out.Exit, out.Stderr)
	}
	if out := f.Command(t, env, "doctor"); out.Exit != allSucceeded || !strings.Contains(out.Stdout, "role read") {
		t.Errorf("doctor with a key for reading: %d\n%s%s", out.Exit, out.Stdout, out.Stderr)
	}
	if out := expect(t, f, allSucceeded, "keys", "list"); !strings.Contains(out.Stdout, id) || !strings.Contains(out.Stdout, `a\u202eb`) || strings.Contains(out.Stdout, secret) {
		t.Errorf("listed\n%s", out.Stdout)
	}
	expect(t, f, allSucceeded, "keys", "revoke", id)
	if out := f.Command(t, env, "list"); out.Exit != notAllowed {
		t.Errorf("the revoked key: %d", out.Exit)
	}
}

func TestDoctor(t *testing.T) {
	t.Parallel()
	f := up(t)
	if out := expect(t, f, allSucceeded, "doctor"); strings.Contains(out.Stdout, "fail") || !strings.Contains(out.Stdout, "role admin") {
		t.Errorf("printed\n%s", out.Stdout)
	}
	lines := objects(t, expect(t, f, allSucceeded, "doctor", "--json").Stdout)
	if last := lines[len(lines)-1]; last["fail"] != 0.0 || last["ok"] == 0.0 {
		t.Errorf("the summary is %v", last)
	}
	for _, row := range []struct {
		exit int
		env  string
		says string
	}{{someFailed, "API_KEY=wrong", "unauthorized"}, {someFailed, "API_KEY=", "no API key"}, {tryAgain, "URL=http://127.0.0.1:1", "nothing answers"}} {
		out := f.Command(t, []string{row.env}, "doctor")
		if out.Exit != row.exit || !strings.Contains(out.Stdout, row.says) {
			t.Errorf("%s: ended with %d\n%s%s", row.env, out.Exit, out.Stdout, out.Stderr)
		}
	}
}

// The list by state and by label, page by page, and the items of a batch.
func TestListAndShow(t *testing.T) {
	t.Parallel()
	f := up(t)
	id := failing(t, f, "show")
	good := detached(t, f, small(f, "good", 2), "--label", "good")
	expect(t, f, allSucceeded, "watch", good)
	for _, row := range []struct {
		want string
		args []string
	}{{good, []string{"--label", "good"}}, {id, []string{"--state", "completed_with_errors"}}, {good, []string{"--limit", "1"}}} {
		lines := objects(t, expect(t, f, allSucceeded, append([]string{"list", "--json"}, row.args...)...).Stdout)
		if len(lines) != 2 || lines[0]["id"] != row.want {
			t.Errorf("list %q: %v", row.args, lines)
		}
	}
	lines := objects(t, expect(t, f, allSucceeded, "show", id, "--state", "failed", "--json", "--limit", "1").Stdout)
	if len(lines) != 2 || lines[0]["state"] != "failed" || lines[1]["id"] != id {
		t.Errorf("showed %v", lines)
	}
	out := expect(t, f, allSucceeded, "show", id, "--item", "2")
	for _, text := range []string{"late-1", "try 1", "not_found/source_http_404"} {
		if !strings.Contains(out.Stdout, text) {
			t.Errorf("no %q in\n%s", text, out.Stdout)
		}
	}
	if strings.Contains(out.Stdout, "secret") {
		t.Errorf("a secret in\n%s", out.Stdout)
	}
	expect(t, f, allSucceeded, "show", id)
	expect(t, f, notFound, "show", id, "--item", "99")
}

func TestPresign(t *testing.T) {
	t.Parallel()
	f := up(t)
	url := strings.TrimSpace(expect(t, f, allSucceeded, "presign", "PUT", f.Bucket+"/a b.txt", "--expires", "5m").Stdout)
	if !strings.HasPrefix(url, "http://") || strings.Contains(url, "\n") {
		t.Errorf("printed %q", url)
	}
	made := objects(t, expect(t, f, allSucceeded, "presign", "POST", "s3://"+f.Bucket+"/x", "--max-size", "10", "--json").Stdout)[0]
	if form, err := json.Marshal(made["form"]); err != nil || len(form) < 10 {
		t.Errorf("the form is %s, %v", form, err)
	}
}
