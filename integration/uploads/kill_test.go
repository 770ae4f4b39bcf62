package uploads

import (
	"errors"
	"os"
	"testing"

	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
)

// killedAt uploads a file while a role dies at each of the points, and once more after that.
func killedAt(t *testing.T, role string, plans ...string) {
	t.Helper()
	for _, plan := range plans {
		t.Run(plan, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, miniotest.Shared(t))
			doomed := f.dooms(t, role, plan)
			c := f.client("killed")
			ended := c.begin(t.Context())
			comeTo(t, doomed, plan)
			f.again(t, role)
			if err := ended(); err != nil {
				t.Fatal(err)
			}
			f.published(t, c)
			t.Logf("1 upload, 1 fault (%s killed at %s), 0 lost", role, plan)
		})
	}
}

// TestFrontKilledWhileUploading kills the front at each step of a session.
func TestFrontKilledWhileUploading(t *testing.T) {
	t.Parallel()
	killedAt(t, "api",
		string(failpoint.SessionReserved), string(failpoint.SessionBegun), string(failpoint.SessionPartStored), string(failpoint.SessionPartTold)+":3",
		string(failpoint.SessionCompleting), string(failpoint.SessionSubmitted), string(failpoint.SessionSettled), string(failpoint.SessionEnded),
		string(failpoint.SessionUnstaged))
}

// TestAggregatorKilledWhileKeepingUploads kills the aggregator before and after what is known of parts is in KV.
func TestAggregatorKilledWhileKeepingUploads(t *testing.T) {
	t.Parallel()
	killedAt(t, "aggregator",
		string(failpoint.BundleFolded), string(failpoint.UploadPartsCommitted), string(failpoint.UploadPartsCommitted)+":2", string(failpoint.UploadPartsTold))
}

// TestWorkerKilledWhilePublishing kills the worker at the steps from the session to its file.
func TestWorkerKilledWhilePublishing(t *testing.T) {
	t.Parallel()
	killedAt(t, "worker",
		string(failpoint.SessionRead), string(failpoint.SessionAssembled), string(failpoint.BytesMoving)+":3", string(failpoint.TempSynced),
		string(failpoint.Renamed), string(failpoint.DestinationVisible), string(failpoint.ReportStored))
}

// interrupted uploads six parts, and has something happen when the third is half sent.
func interrupted(t *testing.T, f *fleet, happens func()) *client {
	t.Helper()
	c := newClient(f.API, f.Sandbox, "interrupted", 44*mib)
	c.holdAt = 20 * mib
	ended := c.begin(t.Context())
	if !mixtest.Until(comes, func() bool { return c.sent.Load() >= c.holdAt }) {
		t.Errorf("%d bytes were sent", c.sent.Load())
	}
	happens()
	close(c.release)
	if err := ended(); err != nil {
		t.Fatal(err)
	}
	f.published(t, c)
	t.Logf("%d MiB were sent of a file of %d", c.sent.Load()/mib, len(c.content)/mib)
	return c
}

// TestFrontKilledInMidPart counts what is sent again: no more than the parts that were in flight.
func TestFrontKilledInMidPart(t *testing.T) {
	t.Parallel()
	f := newFleet(t, miniotest.Shared(t))
	c := interrupted(t, f, func() { f.again(t, "api") })
	if most := int64(len(c.content)) + atOnce*c.session.PartSize; c.sent.Load() > most {
		t.Errorf("%d bytes were sent, may be %d", c.sent.Load(), most)
	}
}

func TestStoreRestartsInMidPart(t *testing.T) {
	t.Parallel()
	minio := miniotest.Start(t)
	f := newFleet(t, minio)
	interrupted(t, f, func() {
		minio.Kill()
		minio.Start()
	})
}

func TestNATSRestartsInMidPart(t *testing.T) {
	t.Parallel()
	f := newFleet(t, miniotest.Shared(t))
	interrupted(t, f, func() {
		f.nats.Kill9(t)
		f.nats = f.StartNATS(t)
	})
}

// TestWrongWholeChecksumChangesNothing has the worker die over content that is not what was announced.
func TestWrongWholeChecksumChangesNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t, miniotest.Shared(t))
	plan := string(failpoint.BytesMoving) + ":2"
	doomed := f.dooms(t, "worker", plan)
	c := f.client("wrong")
	c.whole, c.policy = digest([]byte("other")), "replace"
	before := []byte("what was there")
	if err := os.WriteFile(f.OnDisk(c.path), before, 0o600); err != nil {
		t.Fatal(err)
	}
	ended := c.begin(t.Context())
	comeTo(t, doomed, plan)
	f.again(t, "worker")
	if err := ended(); !errors.Is(err, errRefused) {
		t.Errorf("it ended with %v", err)
	}
	if now, err := os.ReadFile(f.OnDisk(c.path)); err != nil || string(now) != string(before) {
		t.Errorf("the file has %d bytes now, %v", len(now), err)
	}
	if err := c.look(t.Context()); err != nil || c.session.Status != "failed" || c.session.Reserved != 0 {
		t.Errorf("the session is %+v, %v", c.session, err)
	}
	f.nothingLeft(t, c)
}

// TestWorkerKilledWhileTellingOfLostParts replaces a part in the store behind everybody's back: the session asks for it again.
func TestWorkerKilledWhileTellingOfLostParts(t *testing.T) {
	t.Parallel()
	f := newFleet(t, miniotest.Shared(t))
	c := f.client("lost")
	if err := errors.Join(c.create(t.Context()), c.send(t.Context())); err != nil {
		t.Fatal(err)
	}
	f.spoil(t, 1, int(c.session.PartSize))
	plan := string(failpoint.SessionPartsLost)
	doomed := f.dooms(t, "worker", plan)
	ended := make(chan error, 1)
	go func() { ended <- c.complete(t.Context()) }()
	comeTo(t, doomed, plan)
	f.again(t, "worker")
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	f.published(t, c)
	if most := int64(len(c.content)) + c.session.PartSize; c.sent.Load() != most {
		t.Errorf("%d bytes were sent, must be %d: one part again", c.sent.Load(), most)
	}
}
