package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(miniotest.Main(m)) }

// command runs the program inside the test.
func command(t *testing.T, args ...string) (exit int, stdout, stderr string) {
	t.Helper()
	var out, told bytes.Buffer
	exit = run(t.Context(), args, &out, &told)
	return exit, out.String(), told.String()
}

func TestFail(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		err  error
		exit int
		want string
		json string
	}{
		{exitWith(exitNotFound, "no"), 3, "copyfleet: no\n", `{"error":{"exit":3,"code":"not_found","message":"no"}}`},
		{fmt.Errorf("outer: %w", exitWith(exitDenied, "no")), 4, "copyfleet: outer: no\n", `{"error":{"exit":4,"code":"denied","message":"outer: no"}}`},
		{hinted(exitWith(exitTemporary, "no"), "try"), 5, "copyfleet: no\n  hint: try\n", `{"error":{"exit":5,"code":"temporary","message":"no","hint":"try"}}`},
		{t.Context().Err(), 7, "", ""},
		{errors.New("a\x1b[2Jb"), 7, "copyfleet: a\\x1b[2Jb\n", `{"error":{"exit":7,"code":"fatal","message":"a\u001b[2Jb"}}`},
	} {
		if row.err == nil {
			continue
		}
		var text, line bytes.Buffer
		if exit := fail(&text, false, row.err); exit != row.exit || text.String() != row.want {
			t.Errorf("fail(%v) = %d, %q; want %d, %q", row.err, exit, text.String(), row.exit, row.want)
		}
		if exit := fail(&line, true, row.err); exit != row.exit || strings.TrimSpace(line.String()) != row.json {
			t.Errorf("fail(%v) in JSON = %d, %s; want %d, %s", row.err, exit, line.String(), row.exit, row.json)
		}
	}
}

// Usage errors are found before anything is asked of an API.
func TestUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"submit"}, {"submit", "x.csv", "--format", "xml"}, {"submit", "-", "--attempts", "21"}, {"submit", "-", "--max-failed", "101%"},
		{"submit", "-", "--max-failed", "1.5"}, {"submit", "-", "--rate", "-1"}, {"submit", "-", "--webhook-secret-file", "x"},
		{"submit", "/no/such/file", "--api-key", "k"}, {"submit", "s3://only-a-bucket", "--api-key", "k"}, {"submit", "/", "--api-key", "k"},
		{"show", "b", "--item", "x"}, {"show", "b", "--state", "odd"}, {"list", "--limit", "-1"}, {"list", "--state", "odd"}, {"watch"}, {"retry"},
		{"dead", "redrive"}, {"dead", "redrive", "--all", "--rate", "-1"}, {"report", "b", "--format", "xml"}, {"keys", "create"},
		{"keys", "create", "o", "--role", "god", "--api-key", "k"}, {"presign", "HEAD", "b/k"}, {"presign", "GET", "b", "--api-key", "k"}, {"completion", "tcsh"},
		{"list", "--url", "ftp://x", "--api-key", "k"}, {"list", "--url", "http://x", "--api-key", "a b"}, {"nonsense"},
		{"list", "--url", "http://127.0.0.1:1", "--api-key", ""}, {"list", "--no-such-flag"}, {},
		{"submit", "-", "--rate", "0"}, {"submit", "-", "--canary=0"}, {"submit", "-", "--attempts=0"}, {"retry", "b", "--rate=0"},
		{"dead", "redrive", "--all", "--canary=0"},
	} {
		if exit, out, told := command(t, args...); exit != exitUsage || told == "" {
			t.Errorf("copyfleet %q ended with %d; want %d\n%s%s", args, exit, exitUsage, out, told)
		}
		exit, out, told := command(t, append([]string{"--json"}, args...)...)
		var line struct {
			Error failure `json:"error"`
		}
		if err := json.Unmarshal([]byte(told), &line); err != nil || exit != exitUsage || line.Error.Exit != exitUsage ||
			line.Error.Code == "" || line.Error.Message == "" || strings.Count(told, "\n") != 1 {
			t.Errorf("copyfleet --json %q ended with %d, %v\n%s%s", args, exit, err, out, told)
		}
	}
}
