package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// completed asks a real bash what it would offer.
func completed(t *testing.T, script string, words ...string) []string {
	t.Helper()
	program := script + "\nCOMP_WORDS=(\"$@\"); COMP_CWORD=$(( $# - 1 )); _copyfleet; printf '%s\\n' \"${COMPREPLY[@]}\""
	out, err := exec.CommandContext(t.Context(), "bash", append([]string{"-c", program, "bash", "copyfleet"}, words...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("bash: %v\n%s", err, out)
	}
	return strings.Fields(string(out))
}

func TestCompletionBash(t *testing.T) {
	t.Parallel()
	exit, script, told := command(t, "completion", "bash")
	if exit != exitOK {
		t.Fatal(told)
	}
	for _, row := range []struct {
		words []string
		want  []string
		not   []string
	}{
		{[]string{""}, []string{"up", "submit", "dead", "completion"}, []string{"redrive", "--json"}},
		{[]string{"su"}, []string{"submit"}, []string{"show"}},
		{[]string{"dead", ""}, []string{"list", "show", "redrive"}, []string{"submit"}},
		{[]string{"--json", "dead", "re"}, []string{"redrive"}, []string{"list"}},
		{[]string{"dead", "redrive", "--"}, []string{"--yes", "--dest-sandbox", "--json", "--url"}, []string{"--plan"}},
		{[]string{"submit", "--format", ""}, []string{"ndjson", "csv", "tsv", "json"}, []string{"bulk"}},
		{[]string{"submit", "--lane", "b"}, []string{"bulk"}, []string{"interactive"}},
		{[]string{"submit", "follow.g"}, []string{"follow.go"}, nil},
		{[]string{"submit", "--webhook-secret-file", "follow.g"}, []string{"follow.go"}, nil},
		{[]string{"report", "bat_1", "--state", "f"}, []string{"failed"}, []string{"follow.go"}},
		{[]string{"completion", ""}, []string{"bash", "zsh", "fish"}, nil},
		{[]string{"upload", "follow.g"}, []string{"follow.go"}, nil},
		{[]string{"upload", "--conflict", ""}, []string{"merge", "replace", "error"}, []string{"overwrite"}},
		{[]string{"upload", "--"}, []string{"--resume", "--concurrency", "--exclude", "--spool-dir"}, []string{"--plan"}},
		{[]string{"rules", ""}, []string{"apply", "list", "show", "delete", "test", "sweep"}, []string{"submit"}},
		{[]string{"rules", "apply", "follow.g"}, []string{"follow.go"}, nil},
		{[]string{"rules", "test", "--rules", "follow.g"}, []string{"follow.go"}, nil},
		{[]string{"events", "send", "--type", ""}, []string{"s3", "cloudevents"}, nil},
		{[]string{"events", "connect", "--"}, []string{"--arn", "--bucket", "--print-minio-env"}, []string{"--staging-bucket"}},
		{[]string{"secrets", "set", "--value-file", "follow.g"}, []string{"follow.go"}, nil},
		{[]string{"list", "--"}, []string{"--rule"}, nil},
		{[]string{"presign", ""}, []string{"GET", "PUT", "POST"}, nil},
	} {
		got := completed(t, script, row.words...)
		for _, w := range row.want {
			if !slices.Contains(got, w) {
				t.Errorf("%q is not offered after %q: %q", w, row.words, got)
			}
		}
		for _, w := range row.not {
			if slices.Contains(got, w) {
				t.Errorf("%q is offered after %q: %q", w, row.words, got)
			}
		}
	}
}

// Every command and flag is in every script.
func TestCompletionWhole(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "zsh", "fish"} {
		exit, script, told := command(t, "completion", shell)
		if exit != exitOK {
			t.Fatal(told)
		}
		for _, word := range []string{"redrive", "webhook-secret-file", "through-pauses", "nats-listen", "revoke", "dead list"} {
			if !strings.Contains(script, word) {
				t.Errorf("%s: no %q", shell, word)
			}
		}
	}
}
