package producer

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestParsePrefer(t *testing.T) {
	t.Parallel()
	const none = -1
	for _, tc := range []struct {
		lines []string
		async bool
		wait  int // seconds
	}{
		{nil, false, none},
		{[]string{""}, false, none},
		{[]string{"respond-async"}, true, none},
		{[]string{"Respond-Async"}, true, none},
		{[]string{"respond-async, wait=10"}, true, 10},
		{[]string{"wait=10", "respond-async"}, true, 10},
		{[]string{` respond-async ;x="," ; y , wait = "5" `}, true, 5},
		{[]string{`foo="respond-async, wait=3", wait=4`}, false, 4},
		{[]string{`foo="\"", wait=4`}, false, 4},
		{[]string{"wait=1, wait=2"}, false, 1},
		{[]string{"wait=0"}, false, 0},
		{[]string{"wait=900"}, false, 900},
		{[]string{"wait=901"}, false, none},
		{[]string{"wait=-1"}, false, none},
		{[]string{"wait=1.5"}, false, none},
		{[]string{"wait=99999999999999999999"}, false, none},
		{[]string{"wait"}, false, none},
		{[]string{"return=minimal, handling=lenient"}, false, none},
		{[]string{`foo="unfinished, respond-async`}, false, none},
	} {
		got := parsePrefer(http.Header{"Prefer": tc.lines})
		wait := none
		if got.wait != nil {
			wait = int(*got.wait / time.Second)
		}
		if got.async != tc.async || wait != tc.wait {
			t.Errorf("%q: async %v, wait %d; want %v, %d", tc.lines, got.async, wait, tc.async, tc.wait)
		}
	}
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		value, want string
		ok          bool
	}{
		{"a", "a", true},
		{strings.Repeat("k", 255), strings.Repeat("k", 255), true},
		{`"a"`, "a", true},
		{`"a\"b\\c"`, `a"b\c`, true},
		{" a ", "a", true},
		{`"`, "", false},
		{`""`, "", false},
		{`"a`, "", false},
		{`"a\"`, "", false},
		{`"a"b"`, "", false},
		{`"a\b"`, "", false},
		{"a b", "", false},
		{"ä", "", false},
		{strings.Repeat("k", 256), "", false},
	} {
		got, p := idempotencyKey(http.Header{"Idempotency-Key": {tc.value}})
		if got != tc.want || (p == nil) != tc.ok {
			t.Errorf("%q: %q, %v", tc.value, got, p)
		}
	}
}
