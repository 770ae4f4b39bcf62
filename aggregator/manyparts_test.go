package aggregator

import (
	"encoding/base64"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/copyfleet/copyfleet/protocol"
)

const (
	mostParts = 10_000 // of an item: more no store takes
	// mostPage is well below what a broker takes as a message by default (1 MiB): pages are compressed, but not all that stands in them gets smaller.
	mostPage = 768 << 10
)

// noise is text that no compression makes smaller, as checksums and names are.
func noise(random *rand.Rand, n int) string {
	raw := make([]byte, 0, n+8)
	for len(raw) < n {
		raw = binary.LittleEndian.AppendUint64(raw, random.Uint64())
	}
	return base64.StdEncoding.EncodeToString(raw)[:n]
}

// manyReports are the news of an item of as many parts as there may be: some come twice, some from two workers, some of
// owners that are gone, some are failures first. wide has the texts be as long as they may.
func manyReports(random *rand.Rand, upload string, wide bool) []protocol.PartReport {
	var reports []protocol.PartReport
	for n := 1; n <= mostParts; n++ {
		r := protocol.PartReport{Epoch: 1 + random.IntN(3), State: protocol.PartState{
			Number: n, Size: 16 << 20, Upload: upload, ETag: noise(random, 32), Checksum: noise(random, 12), Worker: "host-name-of-a-pod-4711-" + noise(random, 6),
		}}
		if random.IntN(3) == 0 {
			r.State.Chain = []byte(noise(random, 108))
		}
		failed := r
		failed.Epoch, failed.State.Failure = 3, &protocol.Failure{Class: protocol.Timeout, Code: "timeout", Message: "Network timeout", Host: "source.example:443"}
		if wide {
			f := protocol.Failure{
				Class: protocol.Timeout, Code: "timeout", Message: noise(random, 4096), Cause: noise(random, 4096), Hint: noise(random, 4096), Host: noise(random, 253),
			}.Clipped()
			failed.State.Failure = &f
			reports = append(reports, failed) // nothing but failures is the largest page
			continue
		}
		switch other := r; random.IntN(6) {
		case 0:
			reports = append(reports, r, r)
		case 1:
			other.State.Worker, other.State.ETag = "another", noise(random, 32)
			reports = append(reports, r, other)
		case 2:
			other.Epoch, other.State.Upload = 9, "another"
			reports = append(reports, r, other)
		case 3:
			reports = append(reports, failed, r)
		case 4:
			late := failed
			late.Epoch = 2
			reports = append(reports, failed, late)
		default:
			reports = append(reports, r)
		}
	}
	random.Shuffle(len(reports), func(i, j int) { reports[i], reports[j] = reports[j], reports[i] })
	return reports
}

// foldMany folds reports into the pages of a plan as the ledger does.
func foldMany(plan *protocol.PartPlan, reports []protocol.PartReport) []protocol.PartPage {
	pages := make([]protocol.PartPage, protocol.PartPageOf(plan.Count)+1)
	for i := range reports {
		if admits(plan, &reports[i]) {
			at := protocol.PartPageOf(reports[i].State.Number)
			pages[at], _ = foldPart(pages[at], news(&reports[i]))
		}
	}
	return pages
}

// TestAsManyPartsAsThereMayBe folds the news of a whole item in random order, and holds the pages to what a broker takes as a message.
func TestAsManyPartsAsThereMayBe(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for name, wide := range map[string]bool{"mixed": false, "failures with the longest texts": true} {
		upload := strings.Repeat(noise(random, 64), 3) // MinIO's and S3's have up to two hundred characters
		reports := manyReports(random, upload, wide)
		plan := protocol.PartPlan{Epoch: 3, Upload: upload, Count: mostParts}
		pages := foldMany(&plan, reports)
		if len(pages) != (mostParts+protocol.PageSize-1)/protocol.PageSize {
			t.Errorf("%s: %d pages", name, len(pages))
		}
		states := make([][]protocol.PartState, len(pages))
		for i := range reports {
			if admits(&plan, &reports[i]) {
				at := protocol.PartPageOf(reports[i].State.Number)
				states[at] = append(states[at], news(&reports[i]))
			}
		}
		largest, sum, parts := 0, 0, 0
		for i := range pages {
			if diff := gocmp.Diff(dumbPage(upload, states[i]), pages[i]); diff != "" {
				t.Fatalf("%s: page %d differs from the dumb one (-dumb +fold):\n%s", name, i, diff)
			}
			value, err := protocol.Encode(pages[i])
			if err != nil {
				t.Fatal(err)
			}
			largest, sum, parts = max(largest, len(value)), sum+len(value), parts+len(pages[i].Parts)
		}
		if largest > mostPage {
			t.Errorf("%s: the largest page has %d bytes before it is compressed, may have %d", name, largest, mostPage)
		}
		slices.Reverse(reports)
		if diff := gocmp.Diff(pages, foldMany(&plan, reports)); diff != "" {
			t.Errorf("%s: another order makes other pages", name)
		}
		t.Logf("%s: %d reports, %d parts in %d pages of %d KiB, the largest %d KiB, uncompressed", name, len(reports), parts, len(pages), sum>>10, largest>>10)
	}
}

// BenchmarkFoldParts folds the news of parts that many workers stored, in random order: one operation is an item of 10,000 parts.
func BenchmarkFoldParts(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 0))
	plan := protocol.PartPlan{Epoch: 3, Upload: "u", Count: mostParts}
	for name, chained := range map[string]bool{"spread": false, "chains": true} {
		reports := manyReports(random, "u", false)
		for i := range reports {
			if !chained {
				reports[i].State.Chain = nil
			}
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				foldMany(&plan, reports)
			}
			b.ReportMetric(float64(len(reports)*b.N)/b.Elapsed().Seconds(), "parts/s")
		})
	}
}
