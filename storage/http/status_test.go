package httpstore

import (
	"net/http"
	"testing"
	"time"
)

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	const date = "Sun, 06 Nov 1994 08:49:37 GMT"
	tests := []struct {
		value, date string
		want        time.Duration
	}{
		{"", "", 0},
		{"0", "", 0},
		{"7", "", 7 * time.Second},
		{" 7 ", "", 7 * time.Second},
		{"3600", "", time.Hour},
		{"3601", "", time.Hour},
		{"99999999999999999999999", "", time.Hour},
		{"-5", "", 0},
		{"1.5", "", 0},
		{"soon", "", 0},
		{"Sun, 06 Nov 1994 08:49:47 GMT", date, 10 * time.Second},
		{"Sun, 06 Nov 1994 08:49:27 GMT", date, 0},
		{"Mon, 07 Nov 1994 08:49:37 GMT", date, time.Hour},
		{"Sunday, 06-Nov-94 08:50:37 GMT", date, time.Minute},
		{date, "", 0},
		{"Fri, 31 Dec 9999 23:59:59 GMT", "", time.Hour},
		{"Fri, 31 Dec 9999 23:59:59 GMT", date, time.Hour},
	}
	for _, tt := range tests {
		header := http.Header{}
		header.Set("Retry-After", tt.value)
		header.Set("Date", tt.date)
		if got := retryAfter(header); got != tt.want {
			t.Errorf("retryAfter(%q, Date %q) = %v, want %v", tt.value, tt.date, got, tt.want)
		}
	}
}
