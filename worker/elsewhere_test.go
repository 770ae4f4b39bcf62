package worker

import (
	"testing"

	"github.com/copyfleet/copyfleet/internal/hosts"
	"github.com/copyfleet/copyfleet/protocol"
)

// What failed in a part that another worker had is the failure of the side that failed there, and is counted at no host once more: an item's
// destination is neither blamed for its source nor given a rest for it.
func TestAFailureElsewhereKeepsItsHost(t *testing.T) {
	t.Parallel()
	part := &failureError{protocol.Failure{Class: protocol.Unavailable, Code: "source_reset", Message: "reset", Host: "a:80"}}
	err := blame(transfer{dest: protocol.Location{Type: protocol.Object, Bucket: "b"}}, part)

	failure, _ := explain(err)
	if failure.Host != "a:80" {
		t.Errorf("the failure is put down to %q", failure.Host)
	}
	j := &job{gates: []hosts.Key{{Side: hosts.Source, Host: "http://a:80"}, {Side: hosts.Dest, Host: objectHost}}}
	for i, result := range j.visited(err, &result{failure: failure}) {
		if result.Kind != hosts.Neutral {
			t.Errorf("%v is told %v", j.gates[i], result.Kind)
		}
	}
}

// TestBrokenFilesMakeNoHostRest holds what is said of a host to what an item saw of it.
func TestBrokenFilesMakeNoHostRest(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		class  protocol.Class
		status int
		moved  bool
		want   hosts.Kind
	}{
		{protocol.Interrupted, 0, false, hosts.Failed},
		{protocol.Interrupted, 200, true, hosts.Neutral},
		{protocol.Timeout, 0, false, hosts.TimedOut},
		{protocol.Timeout, 200, true, hosts.Neutral},
		{protocol.Unavailable, 503, false, hosts.Failed},
		{protocol.Throttled, 429, false, hosts.Refused},
		{protocol.NotFound, 404, false, hosts.Worked},
		{protocol.NoSpace, 0, true, hosts.Neutral},
	} {
		if got := visitKind(&protocol.Failure{Class: row.class, Status: row.status}, row.moved); got != row.want {
			t.Errorf("%+v: %v", row, got)
		}
	}
}

// TestSourceThatWasNotAskedHasNotWorked holds an item that is skipped to say nothing of its source, unless it read of it.
func TestSourceThatWasNotAskedHasNotWorked(t *testing.T) {
	t.Parallel()
	j := &job{gates: []hosts.Key{{Side: hosts.Source, Host: "http://a:80"}, {Side: hosts.Dest, Host: objectHost}}}
	for _, row := range []struct {
		came copied
		want hosts.Kind
	}{
		{copied{skip: protocol.SkipExists}, hosts.Neutral},
		{copied{skip: protocol.SkipExists, read: 1}, hosts.Worked},
		{copied{skip: protocol.SkipExists, status: 200}, hosts.Worked},
		{copied{skip: protocol.SkipSame}, hosts.Worked},
		{copied{}, hosts.Worked},
	} {
		if got := j.visited(nil, &result{copied: row.came}); got[0].Kind != row.want || got[1].Kind != hosts.Worked {
			t.Errorf("%+v: %+v", row.came, got)
		}
	}
}
