package object

import (
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7/pkg/s3utils"
	lib "github.com/minio/minio-go/v7/pkg/signer"
)

// Our signatures are those of the library, whatever is signed.
func TestSignaturesAreThoseOfTheLibrary(t *testing.T) {
	t.Parallel()
	texts := []string{"a", "A b", "ä/ö", "x  y", " padded ", "a+b", "%41", "(1)", "~._-", "=&", strings.Repeat("k", 300)}
	text := func() string { return texts[rand.IntN(len(texts))] }
	s := &signer{accessKey: "access", secretKey: "secret", region: "eu-north-1"}
	for n := range 500 {
		method := []string{http.MethodPut, http.MethodGet, http.MethodHead, http.MethodDelete}[n%4]
		path := s3utils.EncodePath("/bucket/" + text() + "/" + text())
		query := url.Values{}
		for _, name := range []string{"uploadId", "partNumber", "X"}[:rand.IntN(4)] {
			query.Set(name, text())
		}
		encoded := strings.ReplaceAll(query.Encode(), "+", "%20")
		headers := http.Header{"X-Amz-Content-Sha256": {"UNSIGNED-PAYLOAD"}}
		for _, name := range []string{"Content-Type", "If-None-Match", "X-Amz-Trailer", "X-Amz-Meta-Note"}[:rand.IntN(5)] {
			headers.Set(name, text())
		}
		target := url.URL{Scheme: "http", Host: "store:9000", Path: "/", RawQuery: encoded}
		if err := setPath(&target, path); err != nil {
			t.Fatal(err)
		}
		theirs := lib.SignV4(http.Request{Method: method, URL: &target, Host: target.Host, Header: headers.Clone()},
			s.accessKey, s.secretKey, "", s.region).Header
		at, err := time.Parse(secondFormat, theirs.Get("X-Amz-Date"))
		if err != nil {
			t.Fatal(err)
		}
		s.sign(method, target.Host, path, encoded, headers, at)
		if got, want := headers.Get("Authorization"), theirs.Get("Authorization"); got != want {
			t.Fatalf("%s?%s %v:\n%s, want\n%s", path, encoded, headers, got, want)
		}
	}
}

func setPath(u *url.URL, encoded string) (err error) {
	u.Path, err = url.PathUnescape(encoded)
	u.RawPath = encoded
	return err
}

// A key of one day does not sign for another.
func TestSignatureOfAnotherDay(t *testing.T) {
	t.Parallel()
	at := time.Date(2030, 1, 1, 23, 59, 59, 0, time.UTC)
	kept := &signer{accessKey: "access", secretKey: "secret", region: "r"}
	for _, now := range []time.Time{at, at.Add(time.Second), at} {
		fresh := &signer{accessKey: "access", secretKey: "secret", region: "r"}
		a, b := http.Header{}, http.Header{}
		kept.sign("PUT", "h", "/p", "", a, now)
		fresh.sign("PUT", "h", "/p", "", b, now)
		if a.Get("Authorization") != b.Get("Authorization") {
			t.Errorf("%v: %s, want %s", now, a, b)
		}
	}
}

func BenchmarkSign(b *testing.B) {
	s := &signer{accessKey: "access", secretKey: "secret", region: "r"}
	b.ReportAllocs()
	for b.Loop() {
		s.sign("PUT", "store:9000", "/bucket/key", "", http.Header{"X-Amz-Content-Sha256": {"UNSIGNED-PAYLOAD"}}, time.Now())
	}
}
