package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	const passed = `{"Action":"pass","Package":"p","Test":"TestA"}`
	tests := map[string]struct {
		events string
		want   []string // parts of the error; none means no error
		never  []string // parts that it does not have
	}{
		"all passed":       {events: passed + "\n" + `{"Action":"pass","Package":"p"}`},
		"failed, silently": {events: `{"Action":"fail","Package":"p","Test":"TestA"}`, want: []string{"p TestA failed"}},
		"failed, with a reason": {
			events: said("    a_test.go:7: one is not two\n") + said("    process.go:8: the log of api ends:\n") + strings.Repeat(said("noise\n"), 20) +
				`{"Action":"fail","Package":"p","Test":"TestA"}`,
			want: []string{"p TestA failed\n    a_test.go:7: one is not two"}, never: []string{"noise", "the log of"},
		},
		"failed, with a panic": {
			events: strings.Repeat(said("noise\n"), 20) + said("panic: oh\n") + `{"Action":"fail","Package":"p","Test":"TestA"}`,
			want:   []string{"panic: oh"},
		},
		"a package failed":       {events: passed + `{"Action":"output","Package":"p","Output":"exit status 2\n"}{"Action":"fail","Package":"p"}`, want: []string{"p failed\nexit status 2"}},
		"what passed is silent":  {events: said("    a_test.go:7: fine\n") + passed},
		"package without tests":  {events: passed + "\n" + `{"Action":"skip","Package":"empty"}`},
		"skipped":                {events: passed + `{"Action":"skip","Package":"p","Test":"TestB"}`, want: []string{"p TestB was skipped"}},
		"skipped, only":          {events: `{"Action":"skip","Package":"p","Test":"TestB/sub"}`, want: []string{"p TestB/sub was skipped"}},
		"several, each is named": {events: `{"Action":"skip","Package":"q","Test":"T"}{"Action":"skip","Package":"p","Test":"T"}`, want: []string{"p T was", "q T was"}},
		"nothing":                {events: "", want: []string{"no test ran"}},
		"nothing but packages":   {events: `{"Action":"skip","Package":"empty"}`, want: []string{"no test ran"}},
		"started, never ended":   {events: `{"Action":"run","Package":"p","Test":"TestA"}`, want: []string{"no test ran"}},
		"broken off":             {events: passed + `{"Action":`, want: []string{"read the test events"}},
		"not events":             {events: "ok p 0.1s", want: []string{"read the test events"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := check(strings.NewReader(tt.events))
			expect(t, err, tt.want)
			for _, part := range tt.never {
				if strings.Contains(err.Error(), part) {
					t.Errorf("got error %q, must be without %q", err, part)
				}
			}
		})
	}
}

// said is the event of a line that a test wrote.
func said(line string) string {
	text, _ := json.Marshal(event{Action: "output", Package: "p", Test: "TestA", Output: line})
	return string(text)
}

func TestRun(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "events")
	if err := os.WriteFile(file, []byte(`{"Action":"skip","Package":"p","Test":"TestB"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, run([]string{file}), []string{"TestB was skipped"})
	expect(t, run([]string{file + ".missing"}), []string{"open the test events"})
	expect(t, run(nil), []string{"usage"})
}

func expect(t *testing.T, err error, want []string) {
	t.Helper()
	if len(want) == 0 && err != nil {
		t.Fatalf("got error %q, want none", err)
	}
	for _, part := range want {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("got error %v, want one with %q", err, part)
		}
	}
}
