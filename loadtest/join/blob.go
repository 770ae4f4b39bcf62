package join

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/klauspost/compress/zstd"

	"github.com/copyfleet/copyfleet/loadtest/record"
	"github.com/copyfleet/copyfleet/storage"
)

const (
	mostBlob = 256 << 20 // bytes of a job or a result, packed or not
	mostPart = 512 << 10 // of them in one message
)

// partSize is how much of a job or a result goes into a message that the server takes: in it, it stands in base64, and beside other things.
func partSize(payload int64) int { return int(min(mostPart, max(payload/2, 1<<10))) }

// blob is a job or a result, packed to travel in parts.
type blob struct {
	packed []byte
	digest string
}

func pack(plain []byte) (*blob, error) {
	if len(plain) > mostBlob {
		return nil, refusal(storage.TooLarge, "bench_too_large", "Make the run shorter, or give it fewer hosts.",
			"%d MiB are more than travel between generators and the coordinator: at most %d MiB", len(plain)>>20, mostBlob>>20)
	}
	zip, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	packed := zip.EncodeAll(plain, nil)
	return &blob{packed, digestOf(packed)}, nil
}

func digestOf(packed []byte) string {
	sum := sha256.Sum256(packed)
	return hex.EncodeToString(sum[:])
}

func unpack(packed []byte, digest string) ([]byte, error) {
	if digestOf(packed) != digest {
		return nil, refusal(storage.Corrupt, "bench_digest", "", "what came is not what was sent: it has another digest")
	}
	zip, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(mostBlob))
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	defer zip.Close()
	plain, err := zip.DecodeAll(packed, nil)
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	return plain, nil
}

// result is a [record.Run] on its way.
type result struct {
	Headers []*record.Header `json:"headers"`
	Totals  *record.Totals   `json:"totals"`
	Partial []string         `json:"partial"`
}

func packRun(run *record.Run) (*blob, error) {
	plain, err := json.Marshal(result{run.Headers, run.Totals, run.Partial})
	if err != nil {
		return nil, fmt.Errorf("encode the result: %w", err)
	}
	return pack(plain)
}

func unpackRun(packed []byte, digest string) (*record.Run, error) {
	plain, err := unpack(packed, digest)
	if err != nil {
		return nil, err
	}
	var r result
	if err := json.Unmarshal(plain, &r); err != nil {
		return nil, fmt.Errorf("decode the result: %w", err)
	}
	if r.Totals == nil || slices.Contains(r.Totals.Groups, nil) || slices.Contains(r.Totals.Faults, nil) || slices.Contains(r.Headers, nil) {
		return nil, refusal(storage.Corrupt, "bench_result", "", "the result lacks parts")
	}
	return &record.Run{Headers: r.Headers, Totals: r.Totals, Partial: r.Partial}, nil
}
