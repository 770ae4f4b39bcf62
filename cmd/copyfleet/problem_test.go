package main

import (
	"net/http"
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
