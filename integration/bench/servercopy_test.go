package bench

import (
	"context"
	"testing"

	"github.com/minio/minio-go/v7"
)

// BenchmarkServerCopy is an object of 1 GiB that is copied within MinIO, beside a bare CopyObject and "rclone copyto". None of them moves
// bytes over the network.
func BenchmarkServerCopy(b *testing.B) {
	big := newBigFile(b, large(gibibyte), 0)
	f := startFleet(b, nil, "--s3-endpoint", startMinIO(b))
	s3, peer := newS3(b, f.ready.S3), newRclone(b, &source{})
	peer.withS3(f.ready.S3)
	const from = "from"
	if err := big.toObject(b.Context(), s3, from); err != nil {
		b.Fatal(err)
	}
	check := func(ctx context.Context, round string) error { return big.checkObject(ctx, s3, round) }
	took := race(b, 1,
		contender{
			name: "copyfleet", check: check, room: big.size,
			copy: func(ctx context.Context, round string, _ int) error {
				return f.one(ctx, atBucket(from), atBucket(round))
			},
		},
		contender{
			name: "direct", check: check, room: big.size,
			copy: func(ctx context.Context, round string, _ int) error {
				_, err := s3.CopyObject(ctx, minio.CopyDestOptions{Bucket: bucketName, Object: round}, minio.CopySrcOptions{Bucket: bucketName, Object: from})
				return err
			},
		},
		contender{
			name: "rclone", check: check, cold: true, room: big.size,
			copy: func(ctx context.Context, round string, _ int) error {
				return peer.run(ctx, "copyto", "s3:"+bucketName+"/"+from, "s3:"+bucketName+"/"+round)
			},
		},
	)
	speed(b, big.size, took, "copyfleet")
}
