package object

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// signer signs uploads in their headers. The library's one derives the key anew each time, and costs several times as much: at small
// objects that is felt. Source: AWS, "Signature Calculations for the Authorization Header: Transferring Payload in a Single Chunk".
type signer struct {
	accessKey, secretKey, region string

	last atomic.Pointer[dayKey]
}

// dayKey is a key that signs for a day.
type dayKey struct {
	day   string
	scope string
	key   []byte
}

const (
	dayFormat    = "20060102"
	secondFormat = "20060102T150405Z"
	algorithm    = "AWS4-HMAC-SHA256"
)

// of returns the key of a day.
func (s *signer) of(day string) *dayKey {
	if k := s.last.Load(); k != nil && k.day == day {
		return k
	}
	key := []byte("AWS4" + s.secretKey)
	for _, part := range []string{day, s.region, "s3", "aws4_request"} {
		key = mac(key, part)
	}
	k := &dayKey{day: day, scope: day + "/" + s.region + "/s3/aws4_request", key: key}
	s.last.Store(k)
	return k
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	_, _ = h.Write([]byte(text))
	return h.Sum(nil)
}

// sign adds to the headers of a request a signature of all of them, X-Amz-Content-Sha256 among them, which must be set. path and query are encoded as they
// are sent, the query in the order of its names.
func (s *signer) sign(method, host, path, query string, headers http.Header, now time.Time) {
	now = now.UTC()
	at, key := now.Format(secondFormat), s.of(now.Format(dayFormat))
	headers.Set("X-Amz-Date", at)
	names := make([]string, 1, len(headers)+1)
	names[0] = "host"
	for name := range headers {
		names = append(names, strings.ToLower(name))
	}
	slices.Sort(names)
	canonical := make([]byte, 0, 1<<10)
	canonical = append(canonical, method+"\n"+path+"\n"+query+"\n"...)
	for _, name := range names {
		value := host
		if name != "host" {
			value = strings.Join(headers.Values(name), ",")
		}
		canonical = append(canonical, name+":"...)
		for i, word := range strings.Fields(value) {
			if i > 0 {
				canonical = append(canonical, ' ')
			}
			canonical = append(canonical, word...)
		}
		canonical = append(canonical, '\n')
	}
	signed := strings.Join(names, ";")
	canonical = append(canonical, "\n"+signed+"\n"+headers.Get("X-Amz-Content-Sha256")...)
	sum := sha256.Sum256(canonical)
	signature := mac(key.key, algorithm+"\n"+at+"\n"+key.scope+"\n"+hex.EncodeToString(sum[:]))
	headers.Set("Authorization",
		algorithm+" Credential="+s.accessKey+"/"+key.scope+", SignedHeaders="+signed+", Signature="+hex.EncodeToString(signature))
}
