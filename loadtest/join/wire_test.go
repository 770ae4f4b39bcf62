package join

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/loadtest"
	"github.com/copyfleet/copyfleet/loadtest/record"
	"github.com/copyfleet/copyfleet/storage"
)

// TestErrorsTravel: an exit code and a hint are made of what arrives.
func TestErrorsTravel(t *testing.T) {
	t.Parallel()
	denied := &storage.Error{Class: storage.Denied, Code: "http_403", Op: "put", Subject: "s3://b", Message: "no", Hint: "Ask.", Status: 403, Err: errors.New("why")}
	full := &loadtest.PrepareError{Fault: record.Fault{Class: "no_space", Code: "http_507", Message: "full"}}
	for _, c := range []struct {
		err  error
		want storage.Error
	}{
		{denied, storage.Error{Class: storage.Denied, Code: "http_403", Op: "put", Subject: "s3://b", Message: "no: why", Hint: "Ask.", Status: 403}},
		{fmt.Errorf("open: %w", denied), storage.Error{Class: storage.Denied, Code: "http_403", Op: "put", Subject: "s3://b", Message: "no: why", Hint: "Ask.", Status: 403}},
		{full, storage.Error{Class: storage.NoSpace, Code: "http_507", Op: "preparing", Subject: "the load", Message: "full"}},
		{context.Canceled, storage.Error{Class: storage.Interrupted, Code: "generator_stopped", Op: "preparing", Subject: "the load", Message: loadtest.Interrupted}},
		{errors.New("odd"), storage.Error{Class: storage.Internal, Code: "generator_failed", Op: "preparing", Subject: "the load", Message: "odd"}},
		{errors.New(strings.Repeat("é", 600)), storage.Error{Class: storage.Internal, Code: "generator_failed", Op: "preparing", Subject: "the load", Message: strings.Repeat("é", 500)}},
	} {
		err := faultOf("preparing", c.err).by("m1")
		if got, ok := errors.AsType[*storage.Error](err); !ok || *got != c.want || !strings.HasPrefix(err.Error(), "generator m1: ") {
			t.Errorf("%v came as %#v", c.err, got)
		}
	}
	if err := (&fault{Class: "new"}).by("m1"); storage.ClassOf(err) != storage.Internal {
		t.Errorf("an unknown class is %v", storage.ClassOf(err))
	}
}
