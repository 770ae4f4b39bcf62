package bench

import (
	"context"
	"strconv"
	"testing"
	"time"
)

// BenchmarkSmallObjects is 5,000 files of 4 KiB from HTTP into MinIO, beside a loop of GET and presigned PUT with the concurrency that
// suits it best, which is searched for first, and "rclone copyurl".
func BenchmarkSmallObjects(b *testing.B) {
	items := scale(5000)
	src := newSource(b, items)
	f := startFleet(b, src, "--s3-endpoint", startMinIO(b))
	s3, bare, peer := newS3(b, f.ready.S3), newDirect(b, src), newRclone(b, src)
	peer.withS3(f.ready.S3)
	checkIn := func(name string) func(context.Context, string) error {
		return func(ctx context.Context, round string) error {
			return checkBucket(ctx, s3, bucketName, name+"/"+round, src.files)
		}
	}
	loop := contender{name: "direct", copy: putAll(bare, s3), check: checkIn("direct")}
	warmUp(b, &loop)
	bare.atOnce = bestConcurrency(b, bare, loop, items)
	before := memoryOf(b, f)
	race(b, items,
		contender{
			name: "copyfleet",
			copy: func(ctx context.Context, round string, items int) error {
				return f.copyAll(ctx, items, toBucket(bucketName, "copyfleet/"+round))
			},
			check: checkIn("copyfleet"),
		},
		loop,
		contender{
			name: "rclone", cold: true,
			copy: func(ctx context.Context, round string, _ int) error {
				return peer.copy(ctx, "s3:"+bucketName+"/rclone/"+round)
			},
			check: checkIn("rclone"),
		},
	)
	b.ReportMetric(float64(bare.atOnce), "direct-at-once")
	reportMemory(b, f, before)
}

// bestConcurrency tries the loop with several, twice each in turns, and returns the one with the shortest time.
func bestConcurrency(b *testing.B, bare *direct, loop contender, items int) (best int) {
	b.Helper()
	least := time.Duration(0)
	for pass := range 2 {
		for _, n := range []int{4, 8, 16, 32} {
			bare.atOnce = n
			took := loop.timed(b, "search"+strconv.Itoa(pass)+"-"+strconv.Itoa(n), items)
			if best == 0 || took < least {
				best, least = n, took
			}
		}
	}
	return best
}

// BenchmarkWriters is MinIO with 8 writers and with 32: 5,000 files of 4 KiB, and 64 of 8 MiB.
func BenchmarkWriters(b *testing.B) {
	b.Run("size=4KiB", func(b *testing.B) {
		items := scale(5000)
		src, endpoint := newSource(b, items), startMinIO(b)
		s3 := newS3(b, endpoint)
		writers := func(slots int) contender {
			f := startFleet(b, src, "--s3-endpoint", endpoint, "--slots", strconv.Itoa(slots))
			name := "writers-" + strconv.Itoa(slots)
			return contender{
				name: name,
				copy: func(ctx context.Context, round string, items int) error {
					return f.copyAll(ctx, items, toBucket(bucketName, name+"/"+round))
				},
				check: func(ctx context.Context, round string) error {
					return checkBucket(ctx, s3, bucketName, name+"/"+round, src.files)
				},
			}
		}
		race(b, items, writers(32), writers(8))
	})
	b.Run("size=8MiB", func(b *testing.B) {
		const items = 64
		big, endpoint := newBigFile(b, 8<<20, 0), startMinIO(b)
		s3 := newS3(b, endpoint)
		writers := func(slots int) contender {
			f := startFleet(b, nil, "--s3-endpoint", endpoint, "--slots", strconv.Itoa(slots))
			name := "writers-" + strconv.Itoa(slots)
			return contender{
				name: name,
				copy: func(ctx context.Context, round string, _ int) error {
					return f.many(ctx, items, fromURL(big.url), toBucket(bucketName, name+"/"+round))
				},
				check: func(ctx context.Context, round string) error {
					for i := range items {
						if err := big.checkObject(ctx, s3, name+"/"+round+"/"+fileName(i)); err != nil {
							return err
						}
					}
					return nil
				},
			}
		}
		took := race(b, items, writers(32), writers(8))
		speed(b, items*big.size, took, "writers-32")
	})
}

// many makes one call that copies the same source to many places.
func (f *fleet) many(ctx context.Context, items int, src location, dest func(i int) location) error {
	files := make([]any, items)
	for i := range files {
		files[i] = map[string]any{"src": src, "dest": dest(i)}
	}
	return f.copy(ctx, jsonOf(map[string]any{"files": files}), items)
}
