package bench

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
)

// contender copies files to a place of its own, a new one each round.
type contender struct {
	name string
	cold bool  // a process of its own each round: there is nothing to warm up
	room int64 // bytes of memory that a round fills with files
	// before makes what a round needs, outside its time; nil: nothing.
	before func(ctx context.Context, round string) error
	copy   func(ctx context.Context, round string, items int) error
	check  func(ctx context.Context, round string) error
}

// rounds counts all rounds, so that each begins with another contender, also over -count.
var rounds atomic.Int64

// race lets the contenders take turns. It reports the median of each, the ratio of the first to the others in time, and how many times
// as fast as each other one the first is: the median of the rounds, each of which is a pair, with the least and the most.
func race(b *testing.B, items int, contenders ...contender) map[string]samples {
	b.Helper()
	took := map[string]samples{}
	for _, c := range contenders {
		if !c.cold {
			warmUp(b, &c)
		}
	}
	for b.Loop() {
		turn := int(rounds.Add(1))
		for j := range contenders {
			c := contenders[(turn+j)%len(contenders)]
			round := "r" + strconv.Itoa(turn)
			took[c.name] = append(took[c.name], c.timed(b, round, items))
		}
	}
	onlyOurs(b)
	first := contenders[0].name
	for _, c := range contenders {
		b.ReportMetric(milliseconds(took[c.name].median()), c.name+"-ms")
		if c.name != first {
			b.ReportMetric(float64(took[first].median())/float64(took[c.name].median()), first+"/"+c.name+"-x")
			reportSpeed(b, "vs-"+c.name, took[first], took[c.name])
		}
	}
	b.ReportMetric(float64(items)/took[first].median().Seconds(), first+"-items/s")
	return took
}

// reportSpeed reports how many times as fast as a peer we were, pair by pair.
func reportSpeed(b *testing.B, name string, ours, peers samples) {
	b.Helper()
	speeds := make([]float64, len(ours))
	for i := range ours {
		speeds[i] = float64(peers[i]) / float64(ours[i])
	}
	slices.Sort(speeds)
	middle := (speeds[(len(speeds)-1)/2] + speeds[len(speeds)/2]) / 2
	b.ReportMetric(middle, name+"-speed-x")
	if len(speeds) > 1 {
		b.ReportMetric(speeds[0], name+"-least-x")
		b.ReportMetric(speeds[len(speeds)-1], name+"-most-x")
	}
}

// warmUp makes connections and first uses: a service that has run for a while is what is measured.
func warmUp(b *testing.B, c *contender) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), roundLimit)
	defer cancel()
	if err := c.prepare(ctx, "warm"); err != nil {
		b.Fatalf("%s: %v", c.name, err)
	}
	if err := c.copy(ctx, "warm", 2*concurrency); err != nil {
		b.Fatalf("%s: %v", c.name, err)
	}
}

func (c *contender) prepare(ctx context.Context, round string) error {
	if c.before == nil {
		return nil
	}
	return c.before(ctx, round)
}

// timed runs one round, with nothing of an earlier one left to be written.
func (c *contender) timed(b *testing.B, round string, items int) time.Duration {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), roundLimit)
	defer cancel()
	if err := c.prepare(ctx, round); err != nil {
		b.Fatalf("%s: %v", c.name, err)
	}
	if err := makeRoom(b.TempDir(), c.room); err != nil {
		b.Fatal(err)
	}
	syscall.Sync()
	begun := time.Now()
	if err := c.copy(ctx, round, items); err != nil {
		b.Fatalf("%s: %v", c.name, err)
	}
	took := time.Since(begun)
	if err := c.check(ctx, round); err != nil {
		b.Fatalf("%s: %v", c.name, err)
	}
	return took
}

// makeRoom fills so much memory with a file, and frees it. A virtual machine may have given unused memory back to its host, and then the first
// use of it costs ten times what the copy does: who has to pay for that is luck.
func makeRoom(dir string, size int64) error {
	if size == 0 {
		return nil
	}
	path := filepath.Join(dir, "room")
	if err := writeZeros(path, size); err != nil {
		return err
	}
	return os.Remove(path)
}

// BenchmarkManyItems is the time of one call for 5,000 files, beside a loop without a queue and "rclone copyurl",
// all with the same concurrency.
func BenchmarkManyItems(b *testing.B) {
	items := scale(5000)
	for _, sync := range []string{"on", "off"} {
		b.Run("sandbox/sync="+sync, func(b *testing.B) { manyToSandbox(b, items, sync) })
	}
	b.Run("object/s3=embedded", func(b *testing.B) {
		src := newSource(b, items)
		f := startFleet(b, src)
		manyToObjects(b, items, src, f)
	})
	b.Run("object/s3=minio", func(b *testing.B) {
		src := newSource(b, items)
		f := startFleet(b, src, "--s3-endpoint", startMinIO(b))
		manyToObjects(b, items, src, f)
	})
}

func manyToSandbox(b *testing.B, items int, sync string) {
	b.Helper()
	src := newSource(b, items)
	f, bare, peer := startFleet(b, src, "--file-sync", sync), newDirect(b, src), newRclone(b, src)
	work := b.TempDir()
	dirOf := func(name, round string) string { return filepath.Join(work, name, round) }
	checkIn := func(name string) func(context.Context, string) error {
		return func(_ context.Context, round string) error { return checkDir(dirOf(name, round), src.files) }
	}
	before := memoryOf(b, f)
	race(b, items,
		contender{
			name: "copyfleet",
			copy: func(ctx context.Context, round string, items int) error {
				return f.copyAll(ctx, items, toSandbox(round))
			},
			check: func(_ context.Context, round string) error { return checkDir(f.sandboxDir(round), src.files) },
		},
		contender{
			name: "direct",
			copy: func(ctx context.Context, round string, items int) error {
				dir := dirOf("direct", round)
				if err := os.MkdirAll(dir, 0o755); err != nil {
					return err
				}
				return bare.each(ctx, items, func(ctx context.Context, i int) error { return bare.toFile(ctx, dir, i, sync == "on") })
			},
			check: checkIn("direct"),
		},
		contender{
			name: "rclone", cold: true,
			copy:  func(ctx context.Context, round string, _ int) error { return peer.copy(ctx, dirOf("rclone", round)) },
			check: checkIn("rclone"),
		},
	)
	reportMemory(b, f, before)
}

func manyToObjects(b *testing.B, items int, src *source, f *fleet) {
	b.Helper()
	s3, bare, peer := newS3(b, f.ready.S3), newDirect(b, src), newRclone(b, src)
	peer.withS3(f.ready.S3)
	checkIn := func(name string) func(context.Context, string) error {
		return func(ctx context.Context, round string) error {
			return checkBucket(ctx, s3, bucketName, name+"/"+round, src.files)
		}
	}
	before := memoryOf(b, f)
	race(b, items,
		contender{
			name: "copyfleet",
			copy: func(ctx context.Context, round string, items int) error {
				return f.copyAll(ctx, items, toBucket(bucketName, "copyfleet/"+round))
			},
			check: checkIn("copyfleet"),
		},
		contender{name: "direct", copy: putAll(bare, s3), check: checkIn("direct")},
		contender{
			name: "rclone", cold: true,
			copy: func(ctx context.Context, round string, _ int) error {
				return peer.copy(ctx, "s3:"+bucketName+"/rclone/"+round)
			},
			check: checkIn("rclone"),
		},
	)
	reportMemory(b, f, before)
}

func putAll(bare *direct, s3 *minio.Client) func(ctx context.Context, round string, items int) error {
	return func(ctx context.Context, round string, items int) error {
		return bare.each(ctx, items, func(ctx context.Context, i int) error {
			return bare.toObject(ctx, s3, bucketName, "direct/"+round, i)
		})
	}
}

// copyAll makes one call for all items.
func (f *fleet) copyAll(ctx context.Context, items int, dest func(i int) location) error {
	body, err := f.body(0, items, dest)
	if err != nil {
		return err
	}
	return f.copy(ctx, body, items)
}

func memoryOf(b *testing.B, f *fleet) int64 {
	b.Helper()
	return f.process.memory(b)
}

// reportMemory reports the most memory that "up" had resident when it was ready, and in the end.
func reportMemory(b *testing.B, f *fleet, before int64) {
	b.Helper()
	if len(tracer()) > 0 {
		return // the process that we know is the tracer
	}
	b.ReportMetric(float64(before)/(1<<20), "start-MiB")
	b.ReportMetric(float64(memoryOf(b, f))/(1<<20), "peak-MiB")
}
