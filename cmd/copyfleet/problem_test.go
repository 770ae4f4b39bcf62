package main

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
)

// answered is the error of an answer of the API.
func answered(status int, body string) error {
	return refusal(&http.Response{StatusCode: status}, []byte(body))
}

// A manifest with very many mistakes is not read to its end: how many there are is not known.
func TestManyMistakes(t *testing.T) {
	t.Parallel()
	for n, want := range map[int][2]string{
		1:   {"the manifest has 1 mistake; nothing was accepted (invalid_request)", "line 1, /src: no"},
		99:  {"the manifest has 99 mistakes; nothing was accepted (invalid_request)", "and 79 more"},
		100: {"the manifest has 100 or more mistakes; nothing was accepted (invalid_request)", "and 80 or more"},
	} {
		var list []string
		for i := range n {
			line := strconv.Itoa(i + 1)
			list = append(list, `{"pointer":"/line/`+line+`/src","message":"no","line":`+line+`}`)
		}
		err := answered(http.StatusBadRequest, `{"code":"invalid_request","message":"m","errors_total":`+strconv.Itoa(n)+`,"errors":[`+strings.Join(list, ",")+`]}`)
		told := strings.Split(err.Error(), "\n")
		if told[0] != want[0] || strings.TrimSpace(told[len(told)-1]) != want[1] {
			t.Errorf("%d mistakes: %s … %s", n, told[0], told[len(told)-1])
		}
	}
}

// A refusal that a person can do something about says what.
func TestHints(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]string{
		"nothing_to_retry": "copyfleet show BATCH --state failed", "dead_letter_not_found": "copyfleet dead list", "key_not_found": "copyfleet keys list",
		"item_not_found": "copyfleet show BATCH --items", "manifest_not_found": "s3://BUCKET/KEY", "plan_too_large": "1,000", "batch_ended": "copyfleet retry BATCH",
	} {
		if told := describe(answered(http.StatusConflict, `{"code":"`+code+`","message":"no"}`)); told.Code != code || !strings.Contains(told.Hint, want) {
			t.Errorf("%s: %+v", code, told)
		}
	}
}

// A redrive that finds nothing is no matter of one batch: its hint is about dead letters.
func TestNothingToRedrive(t *testing.T) {
	t.Parallel()
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusConflict)
		_, _ = w.Write([]byte(`{"code":"nothing_to_retry","message":"no"}`)) // the test tells if it did not arrive
	}))
	defer api.Close()
	for _, more := range [][]string{nil, {"--yes"}} {
		args := append([]string{"--json", "dead", "redrive", "--all", "--url", api.URL, "--api-key", "k"}, more...)
		if exit, _, told := command(t, args...); exit != exitUsage || !strings.Contains(told, "copyfleet dead list") || !strings.Contains(told, `"code":"nothing_to_retry"`) {
			t.Errorf("copyfleet %q ended with %d: %s", args, exit, told)
		}
	}
}
