package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// given writes a file to be uploaded.
func given(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A file of any number of parts arrives whole, by as many at once as are allowed.
func TestUploadFile(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 999, 1000, 1001, 30_500} {
		f := newFakeUploads(t)
		want := content(n)
		exit, out, told := f.sends(t, "--concurrency", "3", given(t, "a b.bin", want), "SBX-1:models/")
		if exit != exitOK || told != "" || !strings.Contains(out, "completed: SBX-1:/workspace/models/a b.bin, "+size(int64(n))+"\n") {
			t.Errorf("%d bytes: ended with %d\n%s%s", n, exit, out, told)
		}
		f.want(t, want)
		if f.request["kind"] != "file" || f.request["source_kind"] != "restartable_file" || f.request["target_path"] != "models/a b.bin" || f.request["checksum_algorithm"] != "sha256" {
			t.Errorf("asked for %v", f.request)
		}
		if f.peak > 3 || !strings.HasPrefix(f.key, "cli-") {
			t.Errorf("%d parts at once, key %q", f.peak, f.key)
		}
	}
}

// No more parts are sent at once than the session allows.
func TestUploadConcurrencyOfTheSession(t *testing.T) {
	t.Parallel()
	f := newFakeUploads(t)
	f.most = 2
	if exit, _, told := f.sends(t, "--concurrency", "64", given(t, "x", content(20_000)), "SBX-1:/x"); exit != exitOK || f.peak > 2 || !strings.Contains(told, "2 parts at once") {
		t.Errorf("ended with %d, %d at once: %s", exit, f.peak, told)
	}
}

// The last line of JSON is the summary, the first one has the id.
func TestUploadJSON(t *testing.T) {
	t.Parallel()
	f := newFakeUploads(t)
	_, out, told := f.sends(t, "--json", "--checksum", "--conflict", "replace", "--user", "ann", given(t, "x", content(2500)), "SBX-1:/x")
	var first, last struct {
		Session uploadSession `json:"session"`
		Bytes   int           `json:"published_bytes"`
		Files   int           `json:"published_file_count"`
		Sent    int           `json:"sent_bytes"`
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if err := errors.Join(json.Unmarshal([]byte(lines[0]), &first), json.Unmarshal([]byte(lines[len(lines)-1]), &last)); err != nil || told != "" {
		t.Fatalf("%v\n%s%s", err, out, told)
	}
	if first.Session.ID != fakeID || last.Session.Status != statusCompleted || last.Bytes != 2500 || last.Files != 1 || last.Sent != 2500 {
		t.Errorf("printed %s", out)
	}
	if f.request["conflict"] != "replace" || f.request["user"] != "ann" || len(f.request["whole_checksum_sha256"].(string)) != 64 {
		t.Errorf("asked for %v", f.request)
	}
}

// hangUp ends the connection without an answer.
func hangUp(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		_ = conn.Close()
	}
}

// What goes wrong on the way is done again: calls without an answer, an API that is busy, spoiled and broken bodies. Only what failed is sent again, and a
// lost answer to the creation does not make another session.
func TestUploadTriesAgain(t *testing.T) {
	t.Parallel()
	f := newFakeUploads(t)
	f.create = func(w http.ResponseWriter, try int) bool {
		if try == 1 {
			hangUp(w)
		}
		return try == 1
	}
	f.put = func(w http.ResponseWriter, r *http.Request, n, try int) bool {
		if try > 1 || n > 4 {
			return false
		}
		switch n {
		case 0:
			f.refuse(w, http.StatusServiceUnavailable, "unavailable")
		case 1:
			w.Header().Set("Retry-After", "1")
			f.refuse(w, http.StatusTooManyRequests, "too_many_parts_at_once")
		case 2:
			f.refuse(w, http.StatusUnprocessableEntity, "part_checksum_mismatch")
		case 3:
			_, _ = io.CopyN(io.Discard, r.Body, 10)
			hangUp(w)
		case 4:
			f.refuse(w, http.StatusBadRequest, "body_incomplete")
		}
		return true
	}
	f.complete = func(w http.ResponseWriter, try int) bool {
		switch try {
		case 1:
			f.publish()
			hangUp(w) // the answer is lost
		case 2:
			f.status = statusCompleting
			f.refuse(w, http.StatusGatewayTimeout, "still_running")
		case 3:
			f.answer(w, http.StatusAccepted, map[string]any{"session": f.session()})
		default:
			return false
		}
		return true
	}
	want := content(9_100)
	exit, _, told := f.sends(t, given(t, "x", want), "SBX-1:/x")
	if exit != exitOK || f.completes != 4 {
		t.Errorf("ended with %d after %d completes\n%s", exit, f.completes, told)
	}
	f.want(t, want)
	if len(f.keys) != 2 || f.keys[0] != f.keys[1] {
		t.Errorf("sessions were asked for with %q", f.keys)
	}
	for n := range 10 {
		if want, tries := 1+min(max(5-n, 0), 1), f.tries(n); tries != want {
			t.Errorf("part %d was sent %d times, want %d", n, tries, want)
		}
	}
}

// Parts that the store has lost are sent again, and a publication that did not work is asked for again.
func TestUploadOpensAgain(t *testing.T) {
	t.Parallel()
	f := newFakeUploads(t)
	f.complete = func(w http.ResponseWriter, try int) bool {
		switch try {
		case 1:
			delete(f.parts, 1)
			return false
		case 2:
			f.status = "staged"
			f.answer(w, http.StatusOK, map[string]any{"session": f.session()})
			return true
		}
		return false
	}
	want := content(3_000)
	if exit, _, _ := f.sends(t, given(t, "x", want), "SBX-1:/x"); exit != exitOK || f.tries(1) != 2 || f.tries(0) != 1 {
		t.Errorf("ended with %d, part 1 was sent %d times", exit, f.tries(1))
	}
	f.want(t, want)
}

// hint is the last line of what a failed command told.
func hint(t *testing.T, told string) string {
	t.Helper()
	_, text, ok := strings.Cut(told, "  hint: ")
	if !ok {
		t.Fatalf("no hint in %q", told)
	}
	return strings.TrimSpace(text)
}

// What stops half-way tells the command that goes on, and that one sends only the rest.
func TestUploadResumes(t *testing.T) {
	t.Parallel()
	f := newFakeUploads(t)
	f.put = func(w http.ResponseWriter, _ *http.Request, n, _ int) bool {
		if n == 7 {
			f.refuse(w, http.StatusForbidden, "forbidden")
		}
		return n == 7
	}
	want := content(10_000)
	file := given(t, "it's $(x).bin", want)
	exit, _, told := f.sends(t, "--concurrency", "1", file, "SBX-1:/x")
	line := hint(t, told)
	if exit != exitDenied || line != "copyfleet upload --url "+f.URL+" --resume "+fakeID+" --concurrency 1 "+shellQuote(file)+" SBX-1:/x" {
		t.Fatalf("ended with %d, hint %s", exit, line)
	}
	f.set(func() { f.put = nil })
	exit, out, told := f.sends(t, "--resume", fakeID, file, "SBX-1:/x")
	if exit != exitOK || !strings.Contains(out, "goes on: 6.8 KiB of 9.8 KiB are there") || !strings.HasSuffix(out, "; 2.9 KiB sent now\n") {
		t.Errorf("ended with %d\n%s%s", exit, out, told)
	}
	f.want(t, want)
	for n := range 7 {
		if f.tries(n) != 1 {
			t.Errorf("part %d was sent %d times", n, f.tries(n))
		}
	}
	// It was completed meanwhile: that is no failure.
	if exit, out, _ := f.sends(t, "--resume", fakeID, file, "SBX-1:/x"); exit != exitOK || !strings.Contains(out, "0 B sent now") {
		t.Errorf("again it ended with %d\n%s", exit, out)
	}
}

// A source that is not the one of the session is refused, and nothing of it is sent.
func TestUploadResumeMisfits(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		change func(t *testing.T, file string) []string
		says   string
	}{
		{"size", func(t *testing.T, file string) []string { return []string{given(t, "y", content(10)), "SBX-1:/x"} }, "has 5000 bytes and the source 10"},
		{"time", func(t *testing.T, file string) []string {
			if err := os.Chtimes(file, time.Time{}, time.Now().Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
			return []string{file, "SBX-1:/x"}
		}, "was changed"},
		{"target", func(_ *testing.T, file string) []string { return []string{file, "SBX-1:/y"} }, "goes to /x"},
		{"kind", func(t *testing.T, _ string) []string { return []string{t.TempDir(), "SBX-1:/x"} }, "of kind file"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			f := newFakeUploads(t)
			f.put = func(w http.ResponseWriter, _ *http.Request, _, _ int) bool {
				f.refuse(w, http.StatusForbidden, "forbidden")
				return true
			}
			file := given(t, "x", content(5000))
			f.sends(t, "--concurrency", "1", file, "SBX-1:/x")
			before := f.tries(0)
			f.set(func() { f.put = nil })
			exit, _, told := f.sends(t, append([]string{"--resume", fakeID}, row.change(t, file)...)...)
			if exit != exitUsage || !strings.Contains(told, row.says) || f.tries(0) != before || f.deleted {
				t.Errorf("ended with %d\n%s", exit, told)
			}
		})
	}
}

// With a checksum the bytes count, not the time.
func TestUploadResumeByChecksum(t *testing.T) {
	t.Parallel()
	f := newFakeUploads(t)
	f.put = func(w http.ResponseWriter, _ *http.Request, n, _ int) bool {
		if n == 1 {
			f.refuse(w, http.StatusForbidden, "forbidden")
		}
		return n == 1
	}
	want := content(3000)
	f.sends(t, "--concurrency", "1", "--checksum", given(t, "x", want), "SBX-1:/x")
	f.set(func() { f.put = nil })
	other := bytes.Clone(want)
	other[2999]++
	if exit, _, told := f.sends(t, "--resume", fakeID, given(t, "x", other), "SBX-1:/x"); exit != exitUsage || !strings.Contains(told, "other bytes") {
		t.Errorf("other bytes: ended with %d", exit)
	}
	if exit, _, _ := f.sends(t, "--resume", fakeID, given(t, "x", want), "SBX-1:"); exit != exitOK {
		t.Errorf("the same bytes: ended with %d", exit)
	}
	f.want(t, want)
}

// A file of the caller's is never removed, whatever it is named.
func TestUploadKeepsTheCallersFile(t *testing.T) {
	t.Parallel()
	f := newFakeUploads(t)
	f.put = func(w http.ResponseWriter, _ *http.Request, n, _ int) bool {
		if n == 1 {
			f.refuse(w, http.StatusForbidden, "forbidden")
		}
		return n == 1
	}
	want := content(3000)
	file := given(t, spoolPrefix+"notes.txt", want)
	f.sends(t, "--concurrency", "1", "--checksum", file, "SBX-1:/x")
	f.set(func() { f.put = nil })
	if exit, _, told := f.sends(t, "--resume", fakeID, file, "SBX-1:/x"); exit != exitOK {
		t.Errorf("ended with %d\n%s", exit, told)
	}
	f.want(t, want)
	if got, err := os.ReadFile(file); !bytes.Equal(got, want) {
		t.Errorf("the file is gone: %v", err)
	}
}

// A source that changes is an error, and what was begun is given up: its parts do not belong together.
func TestUploadSourceChanges(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(file string) error{
		"grows":   func(file string) error { return os.WriteFile(file, content(5001), 0o600) },
		"shrinks": func(file string) error { return os.Truncate(file, 2500) },
		"changes": func(file string) error { return os.Chtimes(file, time.Time{}, time.Now().Add(time.Hour)) },
	} {
		f := newFakeUploads(t)
		file := given(t, "x", content(5000))
		f.put = func(_ http.ResponseWriter, _ *http.Request, n, _ int) bool {
			if n == 1 {
				if err := change(file); err != nil {
					t.Error(err)
				}
			}
			return false
		}
		exit, _, told := f.sends(t, "--concurrency", "1", file, "SBX-1:/x")
		if exit != exitFailed || !strings.Contains(told, "changed") || strings.Contains(told, "--resume") || !f.deleted || f.completes > 0 {
			t.Errorf("%s: ended with %d, aborted %v, %d completes", name, exit, f.deleted, f.completes)
		}
	}
}

// How sessions end that are not published.
func TestUploadEnds(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		status, code string
		http, exit   int
	}{
		{statusFailed, "upload_failed", http.StatusUnprocessableEntity, exitFailed},
		{statusAborted, "upload_aborted", http.StatusConflict, exitCanceled},
		{statusExpired, "upload_expired", http.StatusGone, exitUsage},
	} {
		for _, resumed := range []bool{false, true} {
			f := newFakeUploads(t)
			f.complete = func(w http.ResponseWriter, _ int) bool {
				f.status = row.status
				f.refuse(w, row.http, row.code)
				return true
			}
			file := given(t, "x", content(10))
			exit, _, told := f.sends(t, file, "SBX-1:/x")
			if resumed {
				exit, _, told = f.sends(t, "--resume", fakeID, file, "SBX-1:/x")
			}
			if exit != row.exit || strings.Contains(told, "--resume upl") {
				t.Errorf("%s: ended with %d\n%s", row.status, exit, told)
			}
		}
	}
}

// Who is refused because of what is there is told how to replace it.
func TestUploadDestinationExists(t *testing.T) {
	t.Parallel()
	s := &uploadSession{}
	if err := json.Unmarshal([]byte(`{"upload_id":"upl_1","status":"failed","failure":{"code":"destination_exists","message":"it exists already"}}`), s); err != nil {
		t.Fatal(err)
	}
	if told := describe(s.ended()); told.Exit != exitFailed || !strings.Contains(told.Hint, "--conflict replace") {
		t.Errorf("told: %+v", told)
	}
}

// Refusals of the creation, by exit code.
func TestUploadRefused(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		http, exit int
		code       string
	}{
		{http.StatusBadRequest, exitUsage, "invalid_request"}, {http.StatusNotFound, exitNotFound, "sandbox_not_found"},
		{http.StatusUnauthorized, exitDenied, "unauthorized"}, {http.StatusConflict, exitUsage, "staging_quota_exceeded"},
		{http.StatusRequestEntityTooLarge, exitUsage, "upload_too_large"},
	} {
		f := newFakeUploads(t)
		f.create = func(w http.ResponseWriter, _ int) bool { f.refuse(w, row.http, row.code); return true }
		if exit, _, told := f.sends(t, given(t, "x", content(10)), "SBX-1:/x"); exit != row.exit || !strings.Contains(told, row.code) || strings.Contains(told, "resume upl") {
			t.Errorf("%s: ended with %d", row.code, exit)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "http://" + listener.Addr().String()
	_ = listener.Close()
	for _, src := range []string{given(t, "x", content(10)), t.TempDir()} {
		if exit, _, told := command(t, "upload", "--url", nobody, "--api-key", "k", src, "SBX-1:/x"); exit != exitTemporary || !strings.Contains(told, "nothing answers") {
			t.Errorf("with nobody there: %d\n%s", exit, told)
		}
	}
}

// What cannot be uploaded is told before anything is asked.
func TestUploadUsage(t *testing.T) {
	t.Parallel()
	file := given(t, "x", nil)
	for _, args := range [][]string{
		{}, {file}, {file, "SBX-1"}, {file, "a b:/x"}, {file, ":/x"}, {"/no/such/file", "SBX-1:/x"}, {"/dev/null", "SBX-1:/x"}, {file, "SBX-1:/x", "--concurrency", "0"},
		{file, "SBX-1:/x", "--exclude", "["}, {file, "SBX-1:/x", "--resume", "x"}, {file, "SBX-1:/x", "--conflict", "skip"}, {"-", "SBX-1:"}, {"-", "SBX-1:dir/"}, {t.TempDir(), "SBX-1:"}, {t.TempDir(), "SBX-1://"},
	} {
		args = append([]string{"upload", "--url", "http://127.0.0.1:1", "--api-key", "k"}, args...)
		if exit, _, told := command(t, args...); exit != exitUsage {
			t.Errorf("copyfleet %q ended with %d\n%s", args, exit, told)
		}
	}
}

// The words of a command can be pasted.
func TestShellWord(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"plain/a-b_c.txt": "plain/a-b_c.txt", "": "''", "a b": "'a b'", "it's": `'it'\''s'`, "$(x)": "'$(x)'", "~/x": "'~/x'", "a~": "a~", "ü": "'ü'",
		"a\x1b'\\": `$'a\x1b\'\\'`, "\xff": `$'\xff'`, "*": "'*'", "a\nb": `$'a\x0ab'`,
	} {
		if got := shellWord(text); got != want {
			t.Errorf("shellWord(%q) = %s, want %s", text, got, want)
		}
	}
}

// streams runs the command with a standard input, until ctx ends.
func (f *fakeUploads) streams(ctx context.Context, t *testing.T, in io.Reader, spool, key string) (told string, err error) {
	t.Helper()
	var out, complaints bytes.Buffer
	env := &environment{stdin: in, stdout: &out, stderr: &complaints}
	c := &uploadCmd{clientFlags: clientFlags{URL: f.URL, APIKey: key}, Source: "-", Destination: "SBX-1:in/dump.sql", Concurrency: 2, SpoolDir: spool}
	err = c.Run(ctx, env)
	t.Logf("%v\n%s%s", err, out.String(), complaints.String())
	return complaints.String(), err
}

// A stream is kept until it has arrived, under a name that says what it is.
func TestUploadStream(t *testing.T) {
	t.Parallel()
	f, spool, want := newFakeUploads(t), filepath.Join(t.TempDir(), "made", "here"), content(12_345)
	if _, err := f.streams(t.Context(), t, iotest.HalfReader(bytes.NewReader(want)), spool, "k"); err != nil {
		t.Fatal(err)
	}
	f.want(t, want)
	if f.request["source_kind"] != "spooled_stream" || f.request["kind"] != "file" || len(f.request["whole_checksum_sha256"].(string)) != 64 {
		t.Errorf("asked for %v", f.request)
	}
	if left, err := os.ReadDir(spool); err != nil || len(left) > 0 {
		t.Errorf("left in the spool: %v, %v", left, err)
	}
}

// What cannot be read a second time is kept where the upload came to nothing; what was not whole is not.
func TestUploadStreamIsKept(t *testing.T) {
	t.Parallel()
	f, spool, want := newFakeUploads(t), t.TempDir(), content(2_000)
	f.create = func(w http.ResponseWriter, _ int) bool {
		f.refuse(w, http.StatusNotFound, "sandbox_not_found")
		return true
	}
	told, err := f.streams(t.Context(), t, bytes.NewReader(want), spool, "k")
	kept, _ := filepath.Glob(filepath.Join(spool, spoolPrefix+"*"))
	if exitOf(err) != exitNotFound || len(kept) != 1 || !strings.Contains(told, kept[0]) {
		t.Fatalf("kept %q: %v", kept, err)
	}
	if got, err := os.ReadFile(kept[0]); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes are kept, %v", len(got), err)
	}
	other := t.TempDir()
	if _, err := f.streams(t.Context(), t, iotest.TimeoutReader(iotest.OneByteReader(bytes.NewReader(want))), other, "k"); exitOf(err) == exitOK {
		t.Error("a stream that broke off was taken for a whole one")
	}
	ctx, cancel := context.WithCancel(t.Context())
	in, out := io.Pipe()
	go func() { _, _ = out.Write([]byte("x")); cancel() }()
	if _, err := f.streams(ctx, t, in, other, "k"); exitOf(err) != exitCanceled || err.Error() != "stopped before anything was sent" {
		t.Errorf("interrupted: %v", err)
	}
	_ = out.Close()
	if left, err := os.ReadDir(other); err != nil || len(left) > 0 {
		t.Errorf("left in the spool: %v, %v", left, err)
	}
}
