package httpstore

import (
	"encoding/xml"
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	maxReasonBody = 4 << 10 // bytes of a refusal that are looked at
	maxReason     = 64      // bytes of its code
)

// reason returns the code in the answer of a store that refused an upload, "" if there is none: a status alone does not tell a
// checksum that differs from a request that is wrong. Only a word of letters and digits is taken.
func reason(resp *http.Response) string {
	if !strings.Contains(resp.Header.Get("Content-Type"), "xml") {
		return ""
	}
	timer := time.AfterFunc(drainLimit, func() { resp.Body.Close() })
	defer timer.Stop()
	var answer struct {
		XMLName xml.Name `xml:"Error"`
		Code    string   `xml:"Code"`
	}
	if err := xml.NewDecoder(io.LimitReader(resp.Body, maxReasonBody)).Decode(&answer); err != nil {
		return ""
	}
	word := strings.TrimFunc(answer.Code, isWord) == ""
	if len(answer.Code) > maxReason || !word {
		return ""
	}
	return answer.Code
}

func isWord(c rune) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}
