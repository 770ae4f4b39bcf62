package worker

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
)

func TestExplainSpeaksAsThePageDoes(t *testing.T) {
	t.Parallel()
	status := func(class storage.Class, code int, text string) *storage.Error {
		return &storage.Error{Class: class, Code: fmt.Sprintf("http_%d", code), Op: "open", Subject: "http://host/f", Message: "the server refused", Status: code, StatusText: text}
	}
	timeout := &storage.Error{Class: storage.Timeout, Code: "source_header_timeout", Message: "Network timeout: no answer within 20s"}
	absent := &storage.Error{Class: storage.NotFound, Code: "sandbox_file_not_found", Message: "File not found in sandbox: /x"}
	for _, row := range []struct {
		name string
		err  error
		want protocol.Failure
	}{
		{"source 404", &sourceError{status(storage.NotFound, 404, "Not Found")}, protocol.Failure{Class: protocol.NotFound, Status: 404, Message: "Failed to download file: 404 Not Found"}},
		{"number in the phrase", &sourceError{status(storage.NotFound, 404, "404 Not Found")}, protocol.Failure{Class: protocol.NotFound, Status: 404, Message: "Failed to download file: 404 Not Found"}},
		{"phrase unknown", status(storage.Unavailable, 599, ""), protocol.Failure{Class: protocol.Unavailable, Status: 599, Message: "Failed to upload file: 599"}},
		{"destination 403", fmt.Errorf("copy: %w", status(storage.Denied, 403, "Forbidden")), protocol.Failure{Class: protocol.Denied, Status: 403, Message: "Failed to upload file: 403 Forbidden"}},
		{"not in the sandbox", &sourceError{absent}, protocol.Failure{Class: protocol.NotFound, Message: "File not found in sandbox: /x"}},
		{"timeout", timeout, protocol.Failure{Class: protocol.Timeout, Message: "Network timeout: no answer within 20s"}},
		{"no status", &storage.Error{Class: storage.NoSpace, Message: "the disk is full"}, protocol.Failure{Class: protocol.NoSpace, Message: "Failed to upload file: the disk is full"}},
		{
			"a source inside a destination's error",
			&storage.Error{Class: storage.Unavailable, Message: "the upload broke", Err: &sourceError{status(storage.Interrupted, 0, "")}},
			protocol.Failure{Class: protocol.Interrupted, Message: "Failed to download file: http://host/f: the server refused"},
		},
		{"nobody's", errors.New("boom"), protocol.Failure{Class: protocol.Internal, Message: "Failed to upload file: internal error"}},
	} {
		got, _ := explain(row.err)
		if got.Class != row.want.Class || got.Message != row.want.Message || got.Status != row.want.Status {
			t.Errorf("%s: %s %d %q, want %s %d %q", row.name, got.Class, got.Status, got.Message, row.want.Class, row.want.Status, row.want.Message)
		}
	}
	throttled := status(storage.Throttled, 429, "Too Many Requests")
	throttled.RetryAfter = 3 * time.Second
	if _, after := explain(throttled); after != 3*time.Second {
		t.Errorf("the wait that the peer asked for became %s", after)
	}
}

func TestEveryStorageClassHasItsProtocolClass(t *testing.T) {
	t.Parallel()
	for class := storage.Internal; class <= storage.Interrupted; class++ {
		if word := string(classes[class]); word == "" || word != class.String() {
			t.Errorf("class %d is %q here, and %q in storage", class, word, class)
		}
	}
}

// TestEveryFailureSaysWhatMayBeDone, whoever met it. That of the address guard is its own.
func TestEveryFailureSaysWhatMayBeDone(t *testing.T) {
	t.Parallel()
	for class := storage.Internal; class <= storage.Interrupted; class++ {
		err := error(storage.Errorf(class, "some", "open", "x", "it failed"))
		for _, err := range []error{err, &sourceError{err}} {
			if f, _ := explain(err); f.Hint == "" && class != storage.ForbiddenAddress || len(f.Hint) > 256 {
				t.Errorf("%s: the hint is %q", f.Class, f.Hint)
			}
		}
	}
	for code, hint := range codeHints {
		if f, _ := explain(storage.Errorf(storage.Conflict, code, "commit", "s3://b/k", "it failed")); f.Hint != hint || len(hint) > 256 {
			t.Errorf("%s: the hint is %q", code, f.Hint)
		}
	}
	own := storage.Errorf(storage.Conflict, storage.CodeDestinationExists, "commit", "s3://b/k", "it failed")
	own.Hint = "its own"
	if f, _ := explain(own); f.Hint != "its own" {
		t.Errorf("the hint is %q", f.Hint)
	}
}

func TestTextsOfAFailureAreBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("<ä", 4096)
	f, _ := explain(&storage.Error{Class: storage.NotFound, Code: "sandbox_file_not_found", Message: "File not found in sandbox: /" + long, Hint: long, Err: errors.New(long)})
	if len(f.Message) > 1024 || len(f.Cause) > 256 || len(f.Hint) > 256 || !utf8.ValidString(f.Message+f.Cause+f.Hint) {
		t.Errorf("%d, %d and %d bytes", len(f.Message), len(f.Cause), len(f.Hint))
	}
	if b := brief(f); len(b.Message) > 128 || b.Cause != "" || b.Hint != "" || b.Class != protocol.NotFound {
		t.Errorf("an attempt keeps %+v", b)
	}
}
