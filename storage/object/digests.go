package object

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"regexp"
	"strings"

	"github.com/minio/minio-go/v7"

	"github.com/copyfleet/copyfleet/storage"
)

// plainMD5 is an ETag that is the MD5 of the content, in most stores: that of an object written at once. One of several parts has a
// dash in it.
var plainMD5 = regexp.MustCompile(`^[0-9a-f]{32}$`)

// encryption begins the names of headers that an encrypted object has. Its ETag is no digest of what is read.
const encryption = "X-Amz-Server-Side-Encryption"

// Digests implements storage.Digested: what the store computed, or compared, when the object was written. A store that keeps no
// checksums tells the ETag only.
func (o *source) Digests(ctx context.Context) (storage.Digests, error) {
	const op = "look at"
	if err := o.check(op); err != nil {
		return storage.Digests{}, err
	}
	info, err := o.head(ctx)
	if err != nil {
		return storage.Digests{}, o.explain(ctx, classify(op, o.subject(), err), "source")
	}
	return storage.Digests{Mark: storage.Mark{ETag: `"` + info.ETag + `"`, Modified: info.LastModified, Size: info.Size}, Of: digestsOf(&info)}, nil
}

// head asks for what is known of an object, its checksums included.
func (p place) head(ctx context.Context) (minio.ObjectInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return p.store.client.StatObject(ctx, p.bucket, p.key, minio.StatObjectOptions{Checksum: true}) //nolint:wrapcheck // classified by the caller
}

// digestsOf are the digests of the whole content that a store tells.
func digestsOf(info *minio.ObjectInfo) map[string]string {
	of := map[string]string{}
	if plainMD5.MatchString(info.ETag) && !encrypted(info) {
		of[storage.DigestMD5] = info.ETag
	}
	whole := info.ChecksumMode == "" || info.ChecksumMode == minio.ChecksumFullObjectMode.String()
	for kind, sum := range map[string]string{storage.DigestCRC32C: info.ChecksumCRC32C, storage.DigestCRC64NVME: info.ChecksumCRC64NVME} {
		if sum != "" && whole && !strings.Contains(sum, "-") { // with a dash it is one of the checksums of parts
			of[kind] = sum
		}
	}
	if sum, ok := hexOf(info.ChecksumSHA256); ok && whole {
		of[storage.DigestSHA256] = sum
	}
	return of
}

func encrypted(info *minio.ObjectInfo) bool {
	for name := range info.Metadata {
		if strings.HasPrefix(name, encryption) {
			return true
		}
	}
	return false
}

// hexOf is a SHA-256 as S3 writes it, in lowercase hex.
func hexOf(text string) (string, bool) {
	raw, err := base64.StdEncoding.DecodeString(text)
	return hex.EncodeToString(raw), err == nil && len(raw) == sha256.Size
}
