package producer

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/copyfleet/copyfleet/producer/uploads"
	"github.com/copyfleet/copyfleet/protocol"
)

// TestTokenStaysOutOfAnswers sends a token by paths that are not quite those of upload URLs: what is answered ends up in logs.
func TestTokenStaysOutOfAnswers(t *testing.T) {
	t.Parallel()
	d := newDock(t, Config{}, uploads.Config{})
	defer d.work(func(*protocol.Acceptance) protocol.Receipt { return published("") })()
	token := d.uploadURL(`{"path":"/r"}`).Token
	for _, path := range []string{
		"/v1//direct-uploads/", "//v1/direct-uploads/", "/v1/./direct-uploads/", "/v1/x/../direct-uploads/", "/v1/direct%2Duploads/", "/%76%31/direct-uploads/",
		"/v1/direct-uploads//", "/V1/direct-uploads/", "/v1/Direct-Uploads/", "/v1/direct-uploads%2F", "/v1/direct-uploads/x/", "/v1/direct_uploads/",
		"/v1/uploads/", "/",
	} {
		for _, method := range []string{"GET", "PUT"} {
			if a := d.call("", method, path+token, ""); strings.Contains(string(a.body), token) {
				t.Errorf("%s %s…: %.200s", method, path, a.body)
			}
		}
	}
	if strings.Contains(d.log.String(), token) {
		t.Error("the log has the token")
	}
}

// TestLongPathsHaveURLs makes an upload URL for the longest path that is taken, of the characters that take most room in it.
func TestLongPathsHaveURLs(t *testing.T) {
	t.Parallel()
	d := newDock(t, Config{}, uploads.Config{})
	defer d.work(func(*protocol.Acceptance) protocol.Receipt { return published("hello") })()
	for _, c := range []string{"&", `\"`, "a"} {
		path := strings.Repeat("/"+strings.Repeat(c, maxName), maxPath/(maxName+1))
		token := d.uploadURL(`{"path":"` + path + `"}`).Token
		d.call("", "PUT", directPath+token, "hello").want(201, "")
	}
}

// TestDigestOfRepeatedUpload hears the digest of what was published again where neither the worker nor the repeated request computed it.
func TestDigestOfRepeatedUpload(t *testing.T) {
	t.Parallel()
	d := newDock(t, Config{}, uploads.Config{})
	defer d.work(func(*protocol.Acceptance) protocol.Receipt {
		return protocol.Receipt{State: protocol.ItemSucceeded, Bytes: 5, Method: protocol.MethodServerCopy}
	})()
	sum := sha256.Sum256([]byte("hello"))
	path := directPath + d.uploadURL(`{"path":"/r"}`).Token
	for range 2 {
		if got := decode[directAnswer](d.call("", "PUT", path, "hello").want(201, "")); got.SHA256 != hex.EncodeToString(sum[:]) {
			t.Errorf("%+v", got)
		}
	}
}

// TestFormsOfHostileShape sends forms in which the file is the least part: they are refused before they have taken much, and the URL works still.
func TestFormsOfHostileShape(t *testing.T) {
	t.Parallel()
	d := newDock(t, Config{}, uploads.Config{})
	defer d.work(func(*protocol.Acceptance) protocol.Receipt { return published("hello") })()
	path := directPath + d.uploadURL(`{"path":"/r"}`).Token
	const much = 300 << 10
	head, end := "--xyz\r\nContent-Disposition: form-data; name=\"file\"\r\n", "\r\n--xyz--\r\n"
	for name, form := range map[string]string{
		"preamble": strings.Repeat("nothing\r\n", much/9) + head + "\r\nhello" + end,
		"line":     strings.Repeat("x", much),
		"header":   head + "X-Long: " + strings.Repeat("x", much) + "\r\n\r\nhello" + end,
		"headers":  head + strings.Repeat("X-A: b\r\n", much/8) + "\r\nhello" + end,
		"after":    head + "\r\nhello\r\n--xyz\r\nX-Long: " + strings.Repeat("x", much) + "\r\n\r\n" + end,
	} {
		if a := d.call("", "POST", path, form, "Content-Type", "multipart/form-data; boundary=xyz"); a.status != http.StatusBadRequest {
			t.Errorf("%s: %d %.200s", name, a.status, a.body)
		}
	}
	// A large file, and fields of all the length that they may have, are no matter.
	field := strings.Repeat("y", maxOtherField)
	form, media := formOf("a", field, "b", field, "@file", strings.Repeat("hello", much/5), "c", field, "d", field)
	d.call("", "POST", path, form, "Content-Type", media).want(201, "")
}

// TestOneTokenTakesFewPlaces sends one content many times at once: others are received meanwhile.
func TestOneTokenTakesFewPlaces(t *testing.T) {
	t.Parallel()
	d := newDock(t, Config{MaxParts: 4}, uploads.Config{})
	path := directPath + d.uploadURL(`{"path":"/r"}`).Token
	for range 2 {
		d.send(path, "Content-Length: 10", "xxxxx")
	}
	d.until("two are being received", func() bool {
		d.server.partsAtOnce.mu.Lock()
		defer d.server.partsAtOnce.mu.Unlock()
		return d.server.partsAtOnce.used == 2
	})
	d.call("", "PUT", path, "xxxxxxxxxx").want(429, CodeTooManyParts)
	s := d.create("k", 10, "")
	d.call("one/copy", "PUT", s.path("/parts/0"), "xxxxxxxxxx").want(200, "")
}

// deadlines notes how long a body may be read.
type deadlines struct {
	http.ResponseWriter
	last time.Time
}

// SetReadDeadline is what [http.ResponseController] asks for.
func (d *deadlines) SetReadDeadline(t time.Time) error { d.last = t; return nil }

// TestWaitingIsNotSlowness reads a body after it waited for longer than its sender may. That is not the sender's fault; what the sender takes is.
func TestWaitingIsNotSlowness(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const patience = 10 * time.Second
		w := &deadlines{ResponseWriter: httptest.NewRecorder()}
		slow := &sleepy{Reader: strings.NewReader(chunk(100))}
		r := httptest.NewRequestWithContext(t.Context(), "PUT", "/", slow)
		b := newSlowBody(w, r, patience)
		one := make([]byte, 1)
		left := func() time.Duration {
			if _, err := b.Read(one); err != nil {
				t.Fatal(err)
			}
			return time.Until(w.last)
		}
		time.Sleep(2 * patience)
		if got := left(); got != patience {
			t.Errorf("%s left when it is read at last", got)
		}
		slow.takes = patience / 4
		left()
		time.Sleep(3 * patience)
		if got := left(); got != patience/2 {
			t.Errorf("%s left after the sender took %s", got, patience/2)
		}
	})
}

// sleepy is a body whose reads take a while.
type sleepy struct {
	io.Reader
	takes time.Duration
}

func (s *sleepy) Read(p []byte) (int, error) {
	time.Sleep(s.takes) // of the clock of a synctest bubble
	return s.Reader.Read(p)
}
