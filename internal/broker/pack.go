package broker

import (
	"errors"
	"fmt"

	"github.com/klauspost/compress/s2"
)

// Receipts repeat themselves: the same worker, the same host, the same failure. What is written of them is compressed (S2), because each
// byte is copied several times in the server, digested, written, synced, and kept in its cache for seconds. A packed value begins with a byte
// that no JSON begins with; a value without it is as it was written.
const (
	packedMark  = 0xFF
	packLeast   = 512      // bytes below which it is not worth it
	unpackedCap = 64 << 20 // most that a packed value may come to
)

var errPacked = errors.New("a compressed value cannot be read")

// pack compresses a value if that is worth it.
func pack(value []byte) []byte {
	if len(value) < packLeast {
		return value
	}
	packed := make([]byte, 1+s2.MaxEncodedLen(len(value)))
	packed[0] = packedMark
	body := s2.Encode(packed[1:], value)
	if len(body)+1 >= len(value) {
		return value
	}
	return packed[:1+len(body)]
}

// Unpack returns a value or a bundle of reports as it was given to be written, from the bytes that a stream holds. It is for those who
// read streams by other means than this package.
func Unpack(value []byte) ([]byte, error) {
	if len(value) == 0 || value[0] != packedMark {
		return value, nil
	}
	n, err := s2.DecodedLen(value[1:])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errPacked, err)
	}
	if n > unpackedCap {
		return nil, fmt.Errorf("%w: it comes to %d bytes", errPacked, n)
	}
	plain, err := s2.Decode(nil, value[1:])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errPacked, err)
	}
	return plain, nil
}

// packs reports whether the values of a bucket are packed: those that hold receipts, claims and parts, in JSON. Manifests are compressed before
// they are sealed.
func packs(bucket string) bool {
	return bucket == BatchBucket || bucket == ClaimBucket || bucket == PartBucket || bucket == UploadBucket
}

func (b *Bucket) pack(value []byte) []byte {
	if !b.packed {
		return value
	}
	return pack(value)
}

// unpack returns a value as it was given to be written. One that cannot be read comes as it is, and no JSON decoder takes it.
func (b *Bucket) unpack(value []byte) []byte {
	if !b.packed {
		return value
	}
	plain, err := Unpack(value)
	if err != nil {
		return value
	}
	return plain
}
