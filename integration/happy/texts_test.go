package happy

import (
	"net/http"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
)

// TestPublishedErrorTexts holds the texts of failures to those of the page, to the letter: callers match on them.
func TestPublishedErrorTexts(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, f *mixtest.Fleet) {
		s := newStore(t, map[string]string{})
		f.FromSandbox(t, "/there", []byte("there"))
		object := map[string]any{"type": "objectLocation", "bucket": f.Bucket, "key": "nothing/here"}
		putObject(t, f, "so-that-the-bucket-exists", nil)
		expired := presign(t, f, map[string]any{"method": "PUT", "key": "elsewhere"})
		put := map[string]any{"type": "httpPutLocation", "url": strings.Replace(expired.URL, "elsewhere", "forged", 1)}
		for _, row := range []struct {
			src, dest map[string]any
			text      string
		}{
			{mixtest.FromURL(s.URL + "/missing"), mixtest.ToSandbox("/x"), "Failed to download file: 404 Not Found"},
			{object, mixtest.ToSandbox("/x"), "Failed to download file: 404 Not Found"},
			{mixtest.ToSandbox("/there"), put, "Failed to upload file: 403 Forbidden"},
			{mixtest.ToSandbox("/not/there"), mixtest.ToSandbox("/x"), "File not found in sandbox: /not/there"},
			{mixtest.ToSandbox("/not//../not/there"), mixtest.ToSandbox("/x"), "File not found in sandbox: /not/there"},
		} {
			got := copies(t, f, mixtest.Batch{{ID: "x", Src: row.src, Dest: row.dest}}.Files())
			if want := (result{ID: "x", Error: row.text}); len(got) != 1 || got[0] != want {
				t.Errorf("%v to %v: %+v, want %+v", row.src["type"], row.dest["type"], got, want)
			}
		}
	})
}

// TestNetworkTimeoutText has a source that never answers, and waits of a second.
func TestNetworkTimeoutText(t *testing.T) {
	t.Parallel()
	f := up(t, "HEADER_TIMEOUT=1s", "IDLE_TIMEOUT=1s")
	gate := make(chan struct{})
	t.Cleanup(func() { close(gate) })
	for name, src := range map[string]map[string]any{
		"no answer": mixtest.FromURL(silent(t, gate)), "half an answer": mixtest.FromURL(f.GiveHalf("/half", random(1000), gate)),
	} {
		got := copies(t, f, mixtest.Batch{{ID: "x", Src: src, Dest: mixtest.ToSandbox("/x")}}.Files())
		if len(got) != 1 || got[0].Success || !strings.HasPrefix(got[0].Error, "Network timeout: ") {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// silent is the URL of a server that answers only when the gate opens.
func silent(t *testing.T, gate <-chan struct{}) string {
	t.Helper()
	return serve(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-gate:
		case <-r.Context().Done():
		}
	})
}
