package producer

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/producer/uploads"
	"github.com/copyfleet/copyfleet/protocol"
)

// formOf is a multipart form of pairs of field and content; a field that begins with an @ is a file.
func formOf(pairs ...string) (body, contentType string) {
	var b strings.Builder
	for i := 0; i < len(pairs); i += 2 {
		name, isFile := strings.CutPrefix(pairs[i], "@")
		b.WriteString("--xyz\r\nContent-Disposition: form-data; name=\"" + name + "\"")
		if isFile {
			b.WriteString("; filename=\"f\"\r\nContent-Type: text/plain")
		}
		b.WriteString("\r\n\r\n" + pairs[i+1] + "\r\n")
	}
	return b.String() + "--xyz--\r\n", "multipart/form-data; boundary=xyz"
}

func (d *dock) uploadURL(body string) uploadURLAnswer {
	d.Helper()
	return decode[uploadURLAnswer](d.call("one/copy", "POST", "/v1/sandboxes/box/upload-url", body).want(200, ""))
}

// TestDirectUploads sends content to signed URLs, as bytes and as a form, and hears the same again.
func TestDirectUploads(t *testing.T) {
	t.Parallel()
	d := newDock(t, Config{}, uploads.Config{})
	ok := described(t)
	defer d.work(func(a *protocol.Acceptance) protocol.Receipt { return published("hello") })()
	sum := sha256.Sum256([]byte("hello"))
	digest := hex.EncodeToString(sum[:])
	want := directAnswer{"/workspace/r.txt", 5, digest}

	ok("POST", routeURL, d.call("one/copy", "POST", "/v1/sandboxes/box/upload-url", `{"path":"r.txt"}`))
	url := d.uploadURL(`{"path":"r.txt","content_length":5}`)
	path, found := strings.CutPrefix(url.URL, d.url)
	if !found || path != directPath+url.Token || url.Method != "PUT" || time.Until(url.ExpiresAt) < 14*time.Minute {
		t.Fatalf("url %+v", url)
	}
	ok("PUT", routeDirect, d.call("", "PUT", path, "hell").want(400, CodePartLength))
	ok("PUT", routeDirect, d.call("", "PUT", path, "hello", "X-Checksum-Sha256", strings.Repeat("0", 64)).want(422, CodePartChecksum))
	for range 2 {
		if got := decode[directAnswer](ok("PUT", routeDirect, d.call("", "PUT", path, "hello", "X-Checksum-Sha256", digest).want(201, ""))); got != want {
			t.Errorf("put %+v", got)
		}
	}
	path = directPath + d.uploadURL(`{"path":"r.txt","conflict":"replace"}`).Token
	body, media := formOf("note", "x", "@file", "hello", "after", "y")
	for range 2 {
		if got := decode[directAnswer](ok("POST", routeDirect, d.call("", "POST", path, body, "Content-Type", media).want(201, ""))); got != want {
			t.Errorf("form %+v", got)
		}
	}
	d.shelf.mu.Lock()
	defer d.shelf.mu.Unlock()
	for key, data := range d.shelf.whole {
		if string(data) != "hello" {
			t.Errorf("%s has %q", key, data)
		}
	}
}

// TestDirectUploadRefusals leave the URL free to be used again, where it is a good one.
func TestDirectUploadRefusals(t *testing.T) {
	t.Parallel()
	d := newDock(t, Config{}, uploads.Config{})
	ok := described(t)
	defer d.work(func(a *protocol.Acceptance) protocol.Receipt { return published("hello") })()
	post := func(path string, pairs ...string) answer {
		body, media := formOf(pairs...)
		return ok("POST", routeDirect, d.call("", "POST", path, body, "Content-Type", media))
	}
	good := d.uploadURL(`{"path":"/r","expires_seconds":60,"content_length":5}`)
	path := directPath + good.Token
	for _, body := range []string{
		`{}`, `{"path":"/a/"}`, `{"path":"/.copyfleet-1"}`, `{"path":"/a","expires_seconds":0}`, `{"path":"/a","expires_seconds":86401}`,
		`{"path":"/a","content_length":-1}`, `{"path":"/a","conflict":"x"}`, `{"path":"/a","kind":"file"}`,
	} {
		ok("POST", routeURL, d.call("one/copy", "POST", "/v1/sandboxes/box/upload-url", body).want(400, CodeInvalidRequest))
	}
	d.call("one/read", "POST", "/v1/sandboxes/box/upload-url", `{"path":"/a"}`).want(403, CodeForbidden)
	post(path, "@other", "hello").want(400, CodeInvalidRequest)
	post(path, "@file", "hello", "@file", "again").want(400, CodeInvalidRequest)
	post(path, "@file", "hell").want(400, CodePartLength)
	post(path, "@file", "hello!").want(400, CodePartLength)
	post(path, "a", strings.Repeat("x", maxOtherField+1), "@file", "hello").want(400, CodeInvalidRequest)
	ok("POST", routeDirect, d.call("", "POST", path, "hello").want(415, CodeUnsupportedMedia))
	whole, media := formOf("@file", "hello")
	ok("POST", routeDirect, d.call("", "POST", path, whole[:len(whole)-6], "Content-Type", media).want(400, CodeInvalidRequest))
	chunked, err := http.NewRequestWithContext(t.Context(), http.MethodPut, d.url+path, io.MultiReader(strings.NewReader("hello")))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := d.client.Do(chunked)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusLengthRequired {
		t.Errorf("chunked: %s", resp.Status)
	}

	sealed, _ := base64.RawURLEncoding.DecodeString(good.Token)
	sealed[len(sealed)-1] ^= 1
	for _, token := range []string{"x", "%20", base64.RawURLEncoding.EncodeToString(sealed), strings.Repeat("A", maxToken+1)} {
		a := ok("PUT", routeDirect, d.call("", "PUT", directPath+token, "hello").want(404, CodeNotFound))
		if strings.Contains(string(a.body), token) && len(token) > 3 {
			t.Errorf("the answer repeats the token: %.300s", a.body)
		}
	}
	expired := d.server.sealToken(&directToken{ID: "i", Org: "one", Sandbox: "box", Path: "/r", Key: d.registry.Keys("one")[0].ID, Expires: time.Now().Unix()})
	if d.registry.Keys("one")[0].Role != RoleRead {
		ok("PUT", routeDirect, d.call("", "PUT", directPath+expired, "hello").want(410, CodeUploadURLExpired))
	}
	// After all that was refused it still works.
	post(path, "@file", "hello").want(201, "")

	revoked := d.addKey("one", RoleCopy)
	d.keys["one/revoked"] = revoked
	token := decode[uploadURLAnswer](d.call("one/revoked", "POST", "/v1/sandboxes/box/upload-url", `{"path":"/r"}`).want(200, "")).Token
	who, _ := d.registry.Authenticate(revoked)
	if err := d.registry.RevokeKey(t.Context(), who.KeyID); err != nil {
		t.Fatal(err)
	}
	ok("PUT", routeDirect, d.call("", "PUT", directPath+token, "hello").want(404, CodeNotFound))
	if log := d.log.String(); strings.Contains(log, good.Token) || strings.Contains(log, token) || !strings.Contains(log, directPath+"{token}") {
		t.Error("the log has a token, or not the route")
	}
}
