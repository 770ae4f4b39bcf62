package worker

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
)

func shaOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// asked is a server that counts by method what it is asked for, and gives content to GET and HEAD.
func (b *bench) asked(content string) (url string, gets, heads *atomic.Int32) {
	gets, heads = new(atomic.Int32), new(atomic.Int32)
	base := b.serve(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			heads.Add(1)
		} else {
			gets.Add(1)
		}
		w.Header().Set("ETag", `"v1"`)
		http.ServeContent(w, r, "", noTime, strings.NewReader(content))
	})
	return base + "/f", gets, heads
}

func (b *bench) lay(name, text string) {
	b.Helper()
	file := filepath.Join(b.dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		b.Fatal(err)
	}
}

// codeOf is the code of the failure that an error is; "" if it is none.
func codeOf(err error) string {
	if err == nil {
		return ""
	}
	failure, _ := explain(err)
	return failure.Code
}

func allowed() error { return nil }

// TestPolicies runs every policy against what may be at the destination: a file, an object, the same, another one, nothing.
func TestPolicies(t *testing.T) {
	t.Parallel()
	const source, other, longer = "what the source has", "something else here", "something that is longer"
	type row struct {
		policy  protocol.ConflictPolicy
		there   string // "": nothing
		promise string // a SHA-256 that the caller gives
		again   bool
		want    string // what the item comes to: "copied", a skip reason, or the code of a failure
		unread  bool   // no byte of the source may be asked for
	}
	sha := shaOf(source)
	rows := map[string]row{
		"overwrite":                          {protocol.Overwrite, other, "", false, "copied", false},
		"no policy":                          {"", other, "", false, "copied", false},
		"skip, nothing there":                {protocol.SkipIfThere, "", "", false, "copied", false},
		"skip":                               {protocol.SkipIfThere, other, "", false, protocol.SkipExists, true},
		"fail, nothing there":                {protocol.FailIfThere, "", "", false, "copied", false},
		"fail":                               {protocol.FailIfThere, other, "", false, storage.CodeDestinationExists, true},
		"fail, the same":                     {protocol.FailIfThere, source, sha, false, storage.CodeDestinationExists, true},
		"fail, perhaps ours":                 {protocol.FailIfThere, source, sha, true, protocol.SkipSame, true},
		"fail, not ours":                     {protocol.FailIfThere, other, sha, true, storage.CodeDestinationExists, true},
		"fail, found by reading":             {protocol.FailIfThere, source, "", true, protocol.SkipSame, false},
		"fail, found not ours by reading":    {protocol.FailIfThere, other, "", true, storage.CodeDestinationExists, false},
		"different, nothing there":           {protocol.IfDifferent, "", "", false, "copied", false},
		"different by size":                  {protocol.IfDifferent, longer, "", false, "copied", false},
		"different by digest":                {protocol.IfDifferent, other, sha, false, "copied", false},
		"the same":                           {protocol.IfDifferent, source, sha, false, protocol.SkipSame, true},
		"the same, but nobody can know":      {protocol.IfDifferent, source, "", false, "copied", false},
		"of the size, and nobody knows more": {protocol.IfDifferent, other, "", false, "copied", false},
	}
	for name, row := range rows {
		for _, into := range []string{"sandbox", "object"} {
			t.Run(name+"/"+into, func(t *testing.T) {
				t.Parallel()
				b := newBench(t)
				url, gets, _ := b.asked(source)
				objects := newShelf()
				objects.extra = map[string]string{storage.DigestSHA256: shaOf(row.there)}
				b.copier.drivers.Objects = objects
				tr := transfer{
					org: "ORG", src: httpGet(url), dest: inSandbox("/out/f"), temp: "t1", fence: allowed, conflict: row.policy, again: row.again,
					expect: protocol.Expect{SHA256: row.promise},
				}
				look := func() string { data, _ := b.file("out/f"); return string(data) }
				if into == "object" {
					tr.dest = onShelf("k")
					look = func() string { data, _ := objects.get("k"); return data }
				}
				if row.there != "" {
					b.lay("out/f", row.there)
					objects.put("k", row.there)
				}
				got, err := b.copier.copy(t.Context(), tr)
				came := got.skip
				if err != nil {
					failure, _ := explain(err)
					if came = failure.Code; failure.Class != protocol.Conflict || failure.Host == "" || failure.Hint == "" {
						t.Errorf("%+v", failure)
					}
				} else if got.skip == "" {
					came = "copied"
				}
				if came != row.want {
					t.Fatalf("it came to %q, want %q: %v", came, row.want, err)
				}
				want := row.there
				if came == "copied" {
					want = source
				}
				if look() != want {
					t.Errorf("there is %q, want %q", look(), want)
				}
				if row.unread && (gets.Load() > 0 || got.read > 0) {
					t.Errorf("the source was read: %d requests, %d bytes", gets.Load(), got.read)
				}
				if got.skip == protocol.SkipSame && (!got.verified || got.sha256 != sha) || got.skip == protocol.SkipExists && got.verified {
					t.Errorf("%+v", got)
				}
			})
		}
	}
}

// TestSameWithoutReadingASource compares ends whose digests are had in different ways.
func TestSameWithoutReadingASource(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name      string
		src, dest protocol.Location
		extra     map[string]string
		want      string
	}{
		{"files", inSandbox("/a"), inSandbox("/same"), nil, protocol.SkipSame},
		{"files of one size", inSandbox("/a"), inSandbox("/other"), nil, ""},
		{"objects, by ETag", onShelf("a"), onShelf("same"), nil, protocol.SkipSame},
		{"objects of one size", onShelf("a"), onShelf("other"), nil, ""},
		{"a file and an object, by MD5", inSandbox("/a"), onShelf("same"), nil, protocol.SkipSame},
		{"an object and a file, by MD5", onShelf("a"), inSandbox("/same"), nil, protocol.SkipSame},
		{"an object and another file", onShelf("a"), inSandbox("/other"), nil, ""},
		{"an object and a file, by SHA-256", onShelf("a"), inSandbox("/same"), map[string]string{storage.DigestSHA256: shaOf("content")}, protocol.SkipSame},
		{"an object whose SHA-256 is another", onShelf("a"), inSandbox("/same"), map[string]string{storage.DigestSHA256: shaOf("else")}, ""},
		{"empty", inSandbox("/empty"), onShelf("empty"), nil, protocol.SkipSame},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			objects := newShelf("a", "content", "same", "content", "other", "CONTENT", "empty", "")
			objects.extra = row.extra
			b.copier.drivers.Objects = objects
			for name, text := range map[string]string{"a": "content", "same": "content", "other": "CONTENT", "empty": ""} {
				b.lay(name, text)
			}
			got, err := b.copier.copy(t.Context(), transfer{
				org: "ORG", src: row.src, dest: row.dest, temp: "t1", fence: allowed, conflict: protocol.IfDifferent,
			})
			if err != nil || got.skip != row.want {
				t.Fatalf("skipped %q, want %q: %v", got.skip, row.want, err)
			}
			if row.want != "" && (objects.opened > 0 || got.read > 0) {
				t.Errorf("%d objects were read, %d bytes moved", objects.opened, got.read)
			}
		})
	}
}

// TestDigestsOfFilesAreThoseOfStores holds what is computed here against known values.
func TestDigestsOfFilesAreThoseOfStores(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]string{ // of "123456789", the check value of each
		storage.DigestCRC32C: "4waSgw==", storage.DigestCRC64NVME: "rosUhgp5mIg=", storage.DigestMD5: "25f9e794323b453885f5181f1b624d0b",
		storage.DigestSHA256: "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
	} {
		h := newDigest(kind)
		_, _ = io.WriteString(h, "123456789")
		if got := digestText(kind, h); got != want {
			t.Errorf("%s is %s, want %s", kind, got, want)
		}
	}
}

// TestSomebodyComesInBetween lets another one make the destination after the last look at it: what was asked for holds at the commit.
func TestSomebodyComesInBetween(t *testing.T) {
	t.Parallel()
	for policy, want := range map[protocol.ConflictPolicy]string{
		protocol.SkipIfThere: protocol.SkipExists, protocol.FailIfThere: storage.CodeDestinationExists, protocol.IfDifferent: "copied", protocol.Overwrite: "copied",
	} {
		for _, into := range []string{"sandbox", "object"} {
			t.Run(string(policy)+"/"+into, func(t *testing.T) {
				t.Parallel()
				b := newBench(t)
				objects := newShelf()
				b.copier.drivers.Objects = objects
				url := b.serve(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ours") })
				tr := transfer{org: "ORG", src: httpGet(url), dest: inSandbox("/f"), temp: "t1", conflict: policy, fence: func() error {
					b.lay("f", "theirs")
					objects.put("k", "theirs")
					return nil
				}}
				look := func() string { data, _ := b.file("f"); return string(data) }
				if into == "object" {
					tr.dest = onShelf("k")
					look = func() string { data, _ := objects.get("k"); return data }
				}
				got, err := b.copier.copy(t.Context(), tr)
				came, there := got.skip, "theirs"
				switch {
				case err != nil:
					came = codeOf(err)
				case got.skip == "":
					came, there = "copied", "ours"
				}
				if came != want || look() != there || got.read != 4 {
					t.Errorf("it came to %q, want %q; there is %q, %d bytes were read: %v", came, want, look(), got.read, err)
				}
			})
		}
	}
}

// TestNothingIsDecidedForAnother: who lost the lease, or whose batch was stopped, does not end an item as skipped.
func TestNothingIsDecidedForAnother(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.lay("f", "there")
	lost := errors.New("lost")
	for _, policy := range []protocol.ConflictPolicy{protocol.SkipIfThere, protocol.IfDifferent} {
		got, err := b.copier.copy(t.Context(), transfer{
			org: "ORG", src: inSandbox("/f"), dest: inSandbox("/f"), temp: "t1", conflict: policy, fence: func() error { return lost },
		})
		if !errors.Is(err, lost) || got.skip != "" {
			t.Errorf("%s: %+v, %v", policy, got, err)
		}
	}
}

// TestPoliciesThatCannotHold: a worker that gets what no front accepts does not overwrite.
func TestPoliciesThatCannotHold(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	url, gets, _ := b.asked("x")
	for _, policy := range []protocol.ConflictPolicy{protocol.SkipIfThere, protocol.FailIfThere, protocol.IfDifferent} {
		_, err := b.copier.copy(t.Context(), transfer{
			org: "ORG", src: inSandbox("/f"), dest: httpPut(url), temp: "t1", fence: allowed, conflict: policy,
		})
		if codeOf(err) != "conflict_unsupported" || gets.Load() > 0 {
			t.Errorf("%s: %v, %d requests", policy, err, gets.Load())
		}
	}
	// What is in the way of a file is no file that is there.
	if err := os.MkdirAll(filepath.Join(b.dir, "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := b.copier.copy(t.Context(), transfer{org: "ORG", src: httpGet(url), dest: inSandbox("/dir"), temp: "t1", fence: allowed, conflict: protocol.SkipIfThere})
	if storage.ClassOf(err) != storage.Conflict {
		t.Errorf("a directory: %v", err)
	}
	// A source that is not there fails the item, whatever is at the destination.
	b.lay("f", "there")
	_, err = b.copier.copy(t.Context(), transfer{org: "ORG", src: inSandbox("/none"), dest: inSandbox("/f"), temp: "t1", fence: allowed, conflict: protocol.IfDifferent})
	if codeOf(err) != "sandbox_file_not_found" {
		t.Errorf("no source: %v", err)
	}
}

// TestDigestNone: nobody computes what nobody wants, and what was promised is compared all the same.
func TestDigestNone(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	url, _, _ := b.asked("content")
	tr := transfer{org: "ORG", src: httpGet(url), dest: inSandbox("/f"), temp: "t1", fence: allowed, digest: protocol.DigestNone}
	if got, err := b.copier.copy(t.Context(), tr); err != nil || got.sha256 != "" || !got.verified {
		t.Errorf("%+v %v", got, err)
	}
	tr.expect.SHA256 = shaOf("else")
	if _, err := b.copier.copy(t.Context(), tr); err == nil {
		t.Error("a promise was not compared")
	}
}

// TestWhyLaterAttemptsBeginAnew reads the reason of a first attempt, which has none, and of later ones.
func TestWhyLaterAttemptsBeginAnew(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ranged, _, _ := b.asked("content")
	whole := b.serve(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "content") })
	gone := b.serve(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusBadGateway)
	})
	for _, row := range []struct {
		name      string
		src, dest protocol.Location
		want      string
	}{
		{"ranges", httpGet(ranged), inSandbox("/f"), ""},
		{"no ranges", httpGet(whole), inSandbox("/f"), protocol.RestartNoRanges},
		{"a PUT", httpGet(ranged), httpPut(gone), protocol.RestartNotPossible},
		{"a PUT without ranges", httpGet(whole), httpPut(gone), protocol.RestartNotPossible},
	} {
		for _, again := range []bool{false, true} {
			got, err := b.copier.copy(t.Context(), transfer{org: "ORG", src: row.src, dest: row.dest, temp: "t1", fence: allowed, again: again, begun: again})
			want, method := row.want, protocol.MethodStream
			if !again {
				want = ""
			}
			if row.dest.Type == protocol.HTTPPut {
				method = ""
			}
			if got.restart != want || got.method != method || (err != nil) != (method == "") {
				t.Errorf("%s, again %v: %+v, %v", row.name, again, got, err)
			}
		}
	}
}
