package commandline

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
)

// objectsOf returns URL and path of each line of a manifest of small.
func objectsOf(manifest string) [][2]string {
	var list [][2]string
	for line := range strings.Lines(manifest) {
		var one struct {
			Src struct {
				URL string `json:"url"`
			} `json:"src"`
			Dest struct {
				Path string `json:"path"`
			} `json:"dest"`
		}
		if json.Unmarshal([]byte(line), &one) == nil {
			list = append(list, [2]string{one.Src.URL, one.Dest.Path})
		}
	}
	return list
}

// Each format, by its file's name, by how it begins, and through a pipe; with options in the body and beside it.
func TestFormats(t *testing.T) {
	t.Parallel()
	f := up(t)
	const n = 3
	for name, write := range map[string]func(ndjson string) string{
		"m.ndjson": func(ndjson string) string { return ndjson },
		"m.csv":    func(ndjson string) string { return "url,path\n" + joined(ndjson, "%s,%s\n") },
		"m.json": func(ndjson string) string {
			return "{\n\"items\": [" + strings.ReplaceAll(strings.TrimSpace(ndjson), "\n", ",\n") + "]}"
		},
		"array.json": func(ndjson string) string {
			return " [" + strings.ReplaceAll(strings.TrimSpace(ndjson), "\n", ",\n") + "]"
		},
	} {
		for _, way := range []string{"name", "head", "pipe"} {
			t.Run(name+" by "+way, func(t *testing.T) {
				t.Parallel()
				batch := way + strings.ReplaceAll(name, ".", "-")
				text := write(small(f, batch, n))
				args := []string{"submit", "--sandbox", f.Sandbox, "--label", "by " + batch, "--attempts", "2", "--max-failed", "50%", "--json"}
				var out mixtest.Output
				switch way {
				case "name":
					out = f.Command(t, nil, append(args, file(t, name, text))...)
				case "head":
					out = f.Command(t, nil, append(args, file(t, "manifest", text))...)
				case "pipe":
					out = piped(t, f, text, append(args, "-")...)
				}
				if out.Exit != allSucceeded {
					t.Fatalf("ended with %d\n%s%s", out.Exit, out.Stdout, out.Stderr)
				}
				lines := objects(t, out.Stdout)
				last := lines[len(lines)-1]
				if last["state"] != "succeeded" || last["label"] != "by "+batch || last["attempts"] != 2.0 || last["max_failed"] != "50%" {
					t.Errorf("the last line is %v", last)
				}
				arrived(t, f, batch, n)
			})
		}
	}
}

func joined(ndjson, format string) string {
	var text strings.Builder
	for _, o := range objectsOf(ndjson) {
		fmt.Fprintf(&text, format, o[0], o[1])
	}
	return text.String()
}

// piped runs a command with a text as its standard input.
func piped(t *testing.T, f *mixtest.Fleet, text string, args ...string) mixtest.Output {
	t.Helper()
	cmd := f.Prepare(t.Context(), t, nil, args...)
	var stdout, stderr output
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(text), &stdout, &stderr
	_ = cmd.Run() // the exit code tells
	return mixtest.Output{Exit: cmd.ProcessState.ExitCode(), Stdout: stdout.String(), Stderr: stderr.String()}
}

// A list of URLs, with sizes that are verified.
func TestTSV(t *testing.T) {
	t.Parallel()
	f := up(t)
	url := f.Give("/tsv/a b.txt", []byte("twelve bytes"))
	text := "TsvHttpData-1.0\n" + strings.ReplaceAll(url, " ", "%20") + "\t12\n"
	out := piped(t, f, text, "submit", "-", "--sandbox", f.Sandbox, "--path", "/mirror")
	if out.Exit != allSucceeded {
		t.Fatalf("ended with %d\n%s%s", out.Exit, out.Stdout, out.Stderr)
	}
	out = piped(t, f, strings.Replace(text, "\t12\n", "\t13\n", 1), "submit", "-", "--sandbox", f.Sandbox, "--path", "/mirror")
	if out.Exit != someFailed || !strings.Contains(out.Stdout, "corrupt/") {
		t.Errorf("a wrong size ended with %d\n%s%s", out.Exit, out.Stdout, out.Stderr)
	}
}

// The same key makes one batch.
func TestKeyed(t *testing.T) {
	t.Parallel()
	f := up(t)
	manifest := small(f, "keyed", 2)
	first := detached(t, f, manifest, "--idempotency-key", "one")
	if second := detached(t, f, manifest, "--idempotency-key", "one"); second != first {
		t.Errorf("the same key made %s and %s", first, second)
	}
	out := f.Command(t, nil, "submit", file(t, "m.ndjson", small(f, "other", 2)), "--idempotency-key", "one")
	if out.Exit != usage || !strings.Contains(out.Stderr, "idempotency_conflict") {
		t.Errorf("the key for another manifest ended with %d\n%s", out.Exit, out.Stderr)
	}
	if third := detached(t, f, manifest); third == first {
		t.Error("without a key, the batch of another call came back")
	}
}

// What a pipe gets: a line at each change of state, nothing that moves.
func TestPipe(t *testing.T) {
	t.Parallel()
	f := up(t)
	out := expect(t, f, allSucceeded, "submit", file(t, "m.ndjson", small(f, "pipe", 5)))
	lines := strings.Split(strings.TrimSpace(out.Stdout), "\n")
	if last := lines[len(lines)-1]; !strings.Contains(last, " succeeded: 5 succeeded, ") || len(lines) > 4 || out.Stderr != "" {
		t.Errorf("printed\n%s%s", out.Stdout, out.Stderr)
	}
}

// Who asked to be told of the end is told, signed with a secret that no flag has shown.
func TestWebhook(t *testing.T) {
	t.Parallel()
	f := up(t)
	var mu sync.Mutex
	var signature string
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		signature = r.Header.Get("Copyfleet-Signature")
	}))
	defer receiver.Close()
	id := detached(t, f, small(f, "hook", 1), "--webhook", receiver.URL+"/told?token=hidden", "--webhook-secret-file", file(t, "secret", "0123456789abcdef0123456789abcdef\n"))
	expect(t, f, allSucceeded, "watch", id)
	var shown string
	if !mixtest.Until(limit, func() bool {
		shown = expect(t, f, allSucceeded, "show", id, "--webhook").Stdout
		return strings.Contains(shown, "delivered")
	}) {
		t.Fatalf("the notice was not delivered:\n%s", shown)
	}
	mu.Lock()
	defer mu.Unlock()
	if !strings.HasPrefix(signature, "t=") || !strings.Contains(shown, "answered 200") || strings.Contains(shown, "hidden") {
		t.Errorf("signature %q, log\n%s", signature, shown)
	}
}

// A manifest in a bucket is read by the fleet itself.
func TestRemoteManifest(t *testing.T) {
	t.Parallel()
	f := up(t)
	put := strings.TrimSpace(expect(t, f, allSucceeded, "presign", "PUT", f.Bucket+"/lists/m.ndjson").Stdout)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, put, strings.NewReader(small(f, "remote", 3)))
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	expect(t, f, allSucceeded, "submit", "s3://"+f.Bucket+"/lists/m.ndjson", "--label", "remote", "--max-failed", "0")
	arrived(t, f, "remote", 3)
	expect(t, f, notFound, "submit", "s3://"+f.Bucket+"/lists/none.ndjson")
}
