package object

import (
	"crypto/md5" //nolint:gosec // S3's ETags are made of it
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"strconv"
	"strings"

	"github.com/minio/crc64nvme"
	"github.com/minio/minio-go/v7"

	"github.com/copyfleet/copyfleet/storage"
)

const (
	checksumHeader = "X-Amz-Checksum-Crc64nvme"
	checksumName   = storage.DigestCRC64NVME + ":" // begins a checksum in storage.PartStored and storage.Stored
)

// sum computes the checksum of content while it is read.
type sum struct{ hash.Hash64 }

func newSum() sum { return sum{crc64nvme.New()} }

// encoded is the checksum as S3 writes it.
func (s sum) encoded() string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, s.Sum64()))
}

// composed returns the checksum of content that consists of parts, each with its own; "" if one has none.
func composed(parts []storage.PartStored) string {
	list := make([]minio.ObjectPart, 0, len(parts))
	for _, p := range parts {
		value, ok := strings.CutPrefix(p.Checksum, checksumName)
		if !ok {
			return ""
		}
		list = append(list, minio.ObjectPart{PartNumber: p.Number, Size: p.Size, ChecksumCRC64NVME: value})
	}
	whole, err := minio.ChecksumCRC64NVME.FullObjectChecksum(list)
	if err != nil {
		return ""
	}
	return whole.Encoded()
}

// composedETag returns the ETag of an object that consists of parts; "" if one has no MD5 for an ETag. It is not specified, but all
// stores make it so.
func composedETag(parts []storage.PartStored) string {
	whole := md5.New() //nolint:gosec // S3's ETags are made of it
	for _, p := range parts {
		part, err := hex.DecodeString(bare(p.ETag))
		if err != nil || len(part) != md5.Size {
			return ""
		}
		_, _ = whole.Write(part)
	}
	return hex.EncodeToString(whole.Sum(nil)) + "-" + strconv.Itoa(len(parts))
}

// bare is an ETag without its quotation marks, which some callers of S3 see and some do not.
func bare(etag string) string { return strings.Trim(etag, `"`) }
