package crash

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

const (
	dies    = 240 * time.Second // until a process that must die at its failpoint has come to it
	settles = 240 * time.Second // until everything has its outcome after a crash
)

// elsewhere are the points at which no plain batch arrives; the test that kills there.
var elsewhere = map[failpoint.Point]string{
	failpoint.ManifestPageStored: "TestFrontKilledInMidManifest", failpoint.ManifestComplete: "TestFrontKilledInMidManifest",
	failpoint.RerunRecorded: "TestKilledWhileRerunning",
	failpoint.ClaimReleased: "TestKilledWhileHandingBack",
	failpoint.Trimmed:       "TestKilledAfterTrim",

	failpoint.ChunkFed: "TestKilledWhileFeeding", failpoint.FeedSaved: "TestKilledWhileFeeding", failpoint.Recalled: "TestKilledWhileFeeding",
	failpoint.RestCanceled: "TestKilledWhileFeeding", failpoint.ControlOrdered: "TestKilledWhileFeeding", failpoint.RedoBegun: "TestKilledWhileFeeding",
	failpoint.NoticeAsked:  "TestKilledWhileAskingForANotice",
	failpoint.BatchEmptied: "TestKilledWhileRemoving", failpoint.BatchRemoved: "TestKilledWhileRemoving",

	failpoint.NoticeSent: "TestKilledAfterTheNotice",

	failpoint.WaitPlanned: "TestKilledWhileItemsWaitForTheirHost", failpoint.QueuedAgain: "TestKilledWhileItemsWaitForTheirHost",

	failpoint.UploadBegun: "TestKilledWhileCopyingParts", failpoint.PartPlanned: "TestKilledWhileCopyingParts", failpoint.PartStored: "TestKilledWhileCopyingParts",
	failpoint.PartReported: "TestKilledWhileCopyingParts", failpoint.PartsSpread: "TestKilledWhileCopyingParts", failpoint.PartsComplete: "TestKilledWhileCopyingParts",
	failpoint.Completing: "TestKilledWhileCopyingParts", failpoint.UploadCompleted: "TestKilledWhileCopyingParts", failpoint.PartsCleared: "TestKilledWhileCopyingParts",
	failpoint.UploadAborted: "TestKilledWhileCopyingParts",

	failpoint.SessionReserved: "TestFrontKilledWhileUploading", failpoint.SessionBegun: "TestFrontKilledWhileUploading",
	failpoint.SessionPartStored: "TestFrontKilledWhileUploading", failpoint.SessionPartTold: "TestFrontKilledWhileUploading",
	failpoint.SessionCompleting: "TestFrontKilledWhileUploading", failpoint.SessionSubmitted: "TestFrontKilledWhileUploading",
	failpoint.SessionEnded: "TestFrontKilledWhileUploading", failpoint.SessionSettled: "TestFrontKilledWhileUploading",
	failpoint.SessionUnstaged: "TestFrontKilledWhileUploading",
	failpoint.SessionRead:     "TestWorkerKilledWhilePublishing", failpoint.SessionAssembled: "TestWorkerKilledWhilePublishing",
	failpoint.SessionPartsLost: "TestWorkerKilledWhileTellingOfLostParts",

	failpoint.PartsCommitted: "TestAggregatorKilledWhileKeepingParts", failpoint.PartsTold: "TestAggregatorKilledWhileKeepingParts",
	failpoint.SweepAsked: "TestAggregatorKilledWhileSweepingParts",

	failpoint.UploadPartsCommitted: "TestAggregatorKilledWhileKeepingUploads", failpoint.UploadPartsTold: "TestAggregatorKilledWhileKeepingUploads",

	failpoint.TriggerRecorded: "TestFrontKilledWhileDeciding", failpoint.TriggerSubmitted: "TestFrontKilledWhileDeciding",
	failpoint.TriggerDropped: "TestFrontKilledWhileDeciding", failpoint.TriggerSummed: "TestFrontKilledWhileForgetting",
}

// roleOf is the process that a point kills in a fleet of roles.
func roleOf(point failpoint.Point) string {
	at := slices.Index(failpoint.Points, point)
	switch {
	case at < slices.Index(failpoint.Points, failpoint.Fetched):
		return "api"
	case at < slices.Index(failpoint.Points, failpoint.BundleDelivered):
		return "worker"
	}
	return "aggregator"
}

// points are those at which a plain batch arrives.
func points() []failpoint.Point {
	return slices.DeleteFunc(slices.Clone(failpoint.Points), func(p failpoint.Point) bool { return elsewhere[p] != "" })
}

// plans are all points, and those that an item comes to also in the middle of the batch, when others are at other
// steps.
func plans() []string {
	var list []string
	for _, point := range points() {
		list = append(list, string(point))
		if roleOf(point) == "worker" && point != failpoint.Fetched && point != failpoint.ClaimStored && point != failpoint.RetryPlanned {
			list = append(list, string(point)+":4")
		}
	}
	return list
}

// mixed is a batch of every kind of copy, with one item that succeeds at its second attempt.
func mixed(t *testing.T, f *mixtest.Fleet, name string, n int) mixtest.Batch {
	t.Helper()
	batch := f.Mixed(t, name, n)
	content := []byte("at the second attempt")
	path := "/" + name + "/again.bin"
	return append(batch, mixtest.Copy{
		ID: name + "-again", Content: content,
		Src: mixtest.FromURL(f.GiveAfter("/get"+path, content, 1)), Dest: mixtest.ToSandbox("/out" + path),
	})
}

func TestUpKilledAtEveryFailpoint(t *testing.T) {
	t.Parallel()
	for _, plan := range plans() {
		t.Run(plan, func(t *testing.T) {
			t.Parallel()
			f := mixtest.NewUp(t)
			killAt(t, f, "up", plan, mixed(t, f, "b", 24))
		})
	}
}

// One role dies and the others live on. Each role has a fleet, in which one case comes after the other.
func TestRolesKilledAtEveryFailpoint(t *testing.T) {
	t.Parallel()
	for _, role := range []string{"api", "worker", "aggregator"} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			var env []string
			if role == "api" { // its cases count what the workers do
				env = append(env, mixtest.Steady)
			}
			f := mixtest.NewRoles(t, miniotest.Shared(t), env...)
			f.StartNATS(t)
			running := map[string]*mixtest.Process{}
			for _, role := range []string{"api", "aggregator", "worker"} {
				running[role] = f.Start(t, role)
			}
			die := func(point failpoint.Point, batch mixtest.Batch) func(*testing.T) {
				return func(t *testing.T) {
					running[role].Kill9(t)
					running[role] = killAt(t, f, role, string(point), batch)
				}
			}
			for _, point := range points() {
				if roleOf(point) == role {
					t.Run(string(point), die(point, mixed(t, f, string(point), 24)))
				}
			}
			if role == "aggregator" { // of a batch of several pages
				t.Run(string(failpoint.AtomicStaged), die(failpoint.AtomicStaged, mixed(t, f, "pages", 2*protocol.PageSize)))
			}
		})
	}
}

// killAt starts a role that is to die, sends a batch, waits for the death, starts the role again, repeats the call if it had
// no answer, and checks everything. It returns the second process.
func killAt(t *testing.T, f *mixtest.Fleet, role, plan string, batch mixtest.Batch) *mixtest.Process {
	t.Helper()
	stop := f.Watch(t, batch)
	doomed := f.Start(t, role, "FAILPOINT="+plan)
	call := send(t, f, batch)
	select {
	case <-doomed.Ended():
	case <-time.After(dies):
		t.Fatalf("%s did not come to %s within %s", role, plan, dies)
	}
	if !doomed.Killed() || !strings.Contains(doomed.Log(), failpoint.Env) {
		t.Fatalf("%s did not die at its failpoint %s", role, plan)
	}
	process := f.Start(t, role)
	id := call.finish(t, f)
	receipts := f.Check(t, id, batch, settles)
	if role == "api" {
		ranOnce(t, f, batch)
	}
	seen := stop()
	t.Logf("%d items, 1 fault (%s killed at %s), 0 lost; %d attempts, %d files seen, each whole", len(receipts), role, plan, attempts(receipts), seen)
	return process
}

// ranOnce checks that no copy of a batch whose workers lived was made twice: the one that fails at first was asked for twice.
func ranOnce(t *testing.T, f *mixtest.Fleet, batch mixtest.Batch) {
	t.Helper()
	asked, want := 0, 1
	for _, c := range batch {
		if url, ok := c.Src["url"].(string); ok {
			asked += f.Asked(strings.TrimPrefix(url, f.URL))
			want++
		}
	}
	if asked != want {
		t.Errorf("the sources were asked %d times, must be %d: something ran twice", asked, want)
	}
}

func attempts(receipts []protocol.Receipt) int {
	n := 0
	for i := range receipts {
		n += len(receipts[i].Attempts)
	}
	return n
}

// call is a copy call that waits for its end.
type call struct {
	key    string
	batch  mixtest.Batch
	answer chan result
}

type result struct {
	mixtest.Answer
	err error
}

// send makes the call in the background: the process that answers may die.
func send(t *testing.T, f *mixtest.Fleet, batch mixtest.Batch) *call {
	t.Helper()
	c := &call{key: t.Name() + "." + batch[0].ID, batch: batch, answer: make(chan result, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	go func() { c.answer <- c.try(ctx, f) }()
	return c
}

func (c *call) try(ctx context.Context, f *mixtest.Fleet) result {
	answer, err := f.API.Copy(ctx, f.Sandbox, map[string]string{"Idempotency-Key": c.key}, c.batch.Files())
	return result{answer, err}
}

// finish returns the batch that the call came to. Without an answer the call is repeated, as its caller would.
func (c *call) finish(t *testing.T, f *mixtest.Fleet) string {
	t.Helper()
	var last result
	select {
	case last = <-c.answer:
	case <-time.After(settles):
		t.Fatalf("the call had neither an answer nor an error within %s", settles)
	}
	for try := 0; try < 5 && last.err != nil; try++ {
		last = c.try(t.Context(), f)
	}
	if last.err != nil {
		t.Fatalf("the repeated call: %v", last.err)
	}
	if last.Status != http.StatusOK {
		t.Fatalf("the call was answered %d: %s", last.Status, last.Body)
	}
	if n := strings.Count(string(last.Body), `"success":true`); n != len(c.batch) {
		t.Errorf("the call tells of %d successes of %d items: %s", n, len(c.batch), last.Body)
	}
	if last.Batch() == "" {
		t.Fatal(fmt.Errorf("the answer names no batch"))
	}
	return last.Batch()
}
