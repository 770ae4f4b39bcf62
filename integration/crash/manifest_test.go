package crash

import (
	"testing"

	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
)

// A front dies at each step of accepting a batch that is fed. Before the batch is complete nothing of it runs until its caller has
// repeated the call; then all of it, once.
func TestFrontKilledInMidManifest(t *testing.T) {
	t.Parallel()
	for point, runs := range map[failpoint.Point]bool{
		failpoint.AcceptRecorded: false, failpoint.ManifestPageStored: false, failpoint.ManifestComplete: false,
		failpoint.AcceptanceComplete: true,
	} {
		t.Run(string(point), func(t *testing.T) {
			t.Parallel()
			f := mixtest.NewUp(t, "SLOTS=64", mixtest.Steady)
			batch := f.Small("manifest", 1005)
			stop := f.Watch(t, batch)
			doomed := f.Start(t, "up", "FAILPOINT="+string(point))
			call := send(t, f, batch)
			doomed.Wait(t)
			if !doomed.Killed() {
				t.Fatal("the front did not die at its failpoint")
			}
			f.Start(t, "up")
			if !runs {
				// These come behind what there is of the batch: once they are done, its items had their turn.
				behind := f.Small("behind", 150)
				f.Check(t, send(t, f, behind).finish(t, f), behind, settles)
				if n := f.AskedBelow("/get/manifest/"); n != 0 {
					t.Errorf("%d items ran of a batch that was never accepted", n)
				}
			}
			receipts := f.Check(t, call.finish(t, f), batch, settles)
			if n := f.AskedBelow("/get/manifest/"); !runs && n != len(batch) { // workers may have died with the front
				t.Errorf("%d items were run %d times", len(batch), n)
			}
			t.Logf("%d items, 1 fault (front killed at %s), 0 lost; %d files seen, each whole", len(receipts), point, stop())
		})
	}
}
