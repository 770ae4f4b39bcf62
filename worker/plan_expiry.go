package worker

import (
	"net/url"
	"strconv"
	"strings"
	"time"
)

// expiresSoon is how short a presigned URL may still live before a plan warns.
const expiresSoon = time.Hour

// Unix seconds between which an Expires parameter is taken for a time: 2001 to 2286, ten digits.
const (
	leastExpires = 1_000_000_000
	mostExpires  = 9_999_999_999
	// mostLives is the most that a URL of Version 4 may live from its date on, in seconds: a hundred years, far above what is
	// signed (7 days), and within what a time.Duration holds.
	mostLives = 100 * 366 * 86400
	// mostYear is the last year that JSON can tell (RFC 3339).
	mostYear = 9999
)

// expiresAt returns when a presigned URL ends, if it is one of a known kind: AWS Signature Version 4 (X-Amz-*), Google's V4
// (X-Goog-*), the older Expires of both and of CloudFront, and Azure's shared access signatures (se).
func expiresAt(raw string) (time.Time, bool) {
	at, ok := signedUntil(raw)
	if year := at.UTC().Year(); year < 0 || year > mostYear {
		return time.Time{}, false
	}
	return at, ok
}

func signedUntil(raw string) (time.Time, bool) {
	u, err := url.Parse(raw)
	if err != nil || u.RawQuery == "" {
		return time.Time{}, false
	}
	query := map[string]string{}
	for name, values := range u.Query() {
		query[strings.ToLower(name)] = values[0]
	}
	for _, family := range []string{"x-amz-", "x-goog-"} {
		if at, ok := livesUntil(query[family+"date"], query[family+"expires"]); ok {
			return at, true
		}
	}
	if query["signature"] != "" {
		if at, err := strconv.ParseInt(query["expires"], 10, 64); err == nil && at >= leastExpires && at <= mostExpires {
			return time.Unix(at, 0).UTC(), true
		}
	}
	if query["sig"] != "" {
		for _, layout := range []string{time.RFC3339, "2006-01-02T15:04Z07:00", time.DateOnly} {
			if at, err := time.Parse(layout, query["se"]); err == nil {
				return at.UTC(), true
			}
		}
	}
	return time.Time{}, false
}

// livesUntil is the end of a life of so many seconds.
func livesUntil(date, expires string) (time.Time, bool) {
	from, err := time.Parse("20060102T150405Z", date)
	if err != nil {
		return time.Time{}, false
	}
	seconds, err := strconv.Atoi(expires)
	if err != nil || seconds < 0 || seconds > mostLives {
		return time.Time{}, false
	}
	return from.Add(time.Duration(seconds) * time.Second), true
}
