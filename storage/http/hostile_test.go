package httpstore

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/testkit/hostilehttp"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/egress"
)

// secret stands in every query, userinfo and header value of these tests; no error may show it.
const secret = "hunter2-signature"

// query is what the URLs of the tests end in.
const query = "?X-Amz-Signature=" + secret

// hostile runs a server that lets script do what it wants with each connection, and returns its URL.
func hostile(t *testing.T, script func(p *hostilehttp.Peer)) string {
	t.Helper()
	return "http://" + hostilehttp.Serve(t, script)
}

// testClient returns a client that may dial loopback. Waits that a test expects to pass are set by edit.
func testClient(t *testing.T, edit func(o *Options)) *Client {
	t.Helper()
	o := Options{
		Guard:          egress.New([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}),
		ConnectTimeout: 20 * time.Second, TLSTimeout: 20 * time.Second,
		HeaderTimeout: 20 * time.Second, IdleTimeout: 20 * time.Second,
	}
	if edit != nil {
		edit(&o)
	}
	c := NewClient(o)
	t.Cleanup(c.Close)
	return c
}

// failure is what an error should be.
type failure struct {
	class   storage.Class
	code    string // "source_" stands for closed or reset: the system decides which of them is seen first
	message string // what the message begins with
	status  int
}

// check reports an error that is not what it should be, or that shows a secret.
func (want failure) check(t *testing.T, err error) *storage.Error {
	t.Helper()
	e, ok := errors.AsType[*storage.Error](err)
	if !ok {
		t.Fatalf("error is %v (%T), want a *storage.Error", err, err)
	}
	if want.code == e.Code[:strings.IndexByte(e.Code, '_')+1] && (strings.HasSuffix(e.Code, "_closed") || strings.HasSuffix(e.Code, "_reset")) {
		want.code = e.Code
	}
	if e.Class != want.class || e.Code != want.code || e.Status != want.status {
		t.Errorf("class %d, code %q, status %d, want %d, %q, %d; it says: %v",
			e.Class, e.Code, e.Status, want.class, want.code, want.status, err)
	}
	if !strings.HasPrefix(e.Message, want.message) {
		t.Errorf("message is %q, want it to begin with %q", e.Message, want.message)
	}
	checkDiscreet(t, err)
	return e
}

// checkDiscreet looks for the secret in every form that an error and its causes can be printed in.
func checkDiscreet(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	for _, text := range []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err)} {
		if strings.Contains(text, secret) {
			t.Errorf("the error shows the secret: %s", text)
		}
	}
	switch u := err.(type) { //nolint:errorlint // walks the tree itself, a layer at a time
	case interface{ Unwrap() error }:
		checkDiscreet(t, u.Unwrap())
	case interface{ Unwrap() []error }:
		for _, inner := range u.Unwrap() {
			checkDiscreet(t, inner)
		}
	}
}

// readAll opens a source and reads it to its end.
func readAll(t *testing.T, s storage.Source) (string, *storage.Object, error) {
	t.Helper()
	object, err := s.Open(t.Context())
	if err != nil {
		return "", nil, err
	}
	defer object.Body.Close()
	data, err := io.ReadAll(object.Body)
	return string(data), object, err
}
