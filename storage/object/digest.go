package object

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"strings"

	"github.com/minio/minio-go/v7"

	"github.com/copyfleet/copyfleet/storage"
)

// Digests implements storage.Digested.
func (o *source) Digests(ctx context.Context) (storage.Digests, error) {
	if err := checkNames("look at", o.bucket, o.key); err != nil {
		return storage.Digests{}, err
	}
	info, err := o.head(ctx)
	if err != nil {
		return storage.Digests{}, o.explain(ctx, classify("look at", o.subject(), err), "source")
	}
	return storage.Digests{Mark: storage.Mark{ETag: `"` + info.ETag + `"`, Modified: info.LastModified, Size: info.Size}, Of: digestsOf(&info)}, nil
}

// head asks for what is known of an object, its checksums included.
func (p place) head(ctx context.Context) (minio.ObjectInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return p.store.client.StatObject(ctx, p.bucket, p.key, minio.StatObjectOptions{Checksum: true})
}

// digestsOf are the digests of the whole content that a store tells. Of an object in parts it may have a checksum of the parts'
// checksums, which is none.
func digestsOf(info *minio.ObjectInfo) map[string]string {
	of := map[string]string{}
	if isMD5(info.ETag) && !encrypted(info) {
		of[storage.DigestMD5] = info.ETag
	}
	if info.ChecksumMode == "COMPOSITE" {
		return of
	}
	for name, value := range map[string]string{
		storage.DigestCRC64NVME: info.ChecksumCRC64NVME, storage.DigestCRC32C: info.ChecksumCRC32C, storage.DigestSHA256: info.ChecksumSHA256,
	} {
		raw, err := base64.StdEncoding.DecodeString(value) // "-N" behind it marks one of several parts
		if err != nil || len(raw) == 0 {
			continue
		}
		if name == storage.DigestSHA256 {
			value = hex.EncodeToString(raw)
		}
		of[name] = value
	}
	return of
}

// encrypted reports whether the ETag of an object is none of its content: with a key of the key service or of the caller it is not.
func encrypted(info *minio.ObjectInfo) bool {
	return strings.HasPrefix(info.Metadata.Get("X-Amz-Server-Side-Encryption"), "aws:kms") ||
		info.Metadata.Get("X-Amz-Server-Side-Encryption-Customer-Algorithm") != ""
}
