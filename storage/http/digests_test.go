package httpstore

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/copyfleet/copyfleet/storage"
)

func TestDigestsOfAnAnswer(t *testing.T) {
	t.Parallel()
	const text, hexText = "uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=", "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"
	sha := map[string]string{storage.DigestSHA256: hexText}
	for _, row := range []struct {
		header string
		want   map[string]string
	}{
		{"", nil},
		{"ETag: \"b94d27b9934d3e08a52e52d7da7dabfa\"", nil},
		{"X-Amz-Checksum-Sha256: " + text, sha},
		{"X-Amz-Checksum-Sha256: " + text + "-3", nil},
		{"X-Amz-Checksum-Sha256: " + text + "|X-Amz-Checksum-Type: COMPOSITE", nil},
		{"X-Amz-Checksum-Sha256: " + text + "|X-Amz-Checksum-Type: FULL_OBJECT", sha},
		{"X-Amz-Checksum-Sha256: AAAA", nil},
		{"X-Amz-Checksum-Crc64nvme: rosUhgp5mIg=", map[string]string{storage.DigestCRC64NVME: "rosUhgp5mIg="}},
		{"X-Amz-Checksum-Crc64nvme: 4waSgw==", nil},
		{"X-Amz-Checksum-Crc32c: 4waSgw==|Content-Encoding: gzip", nil},
		{"X-Amz-Checksum-Crc32c: 4waSgw==|Content-Encoding: identity", map[string]string{storage.DigestCRC32C: "4waSgw=="}},
		{"Repr-Digest: sha-256=:" + text + ":", sha},
		{"Repr-Digest: sha-512=:AAAA:, sha-256=:" + text + ":", sha},
		{"Repr-Digest: sha-256=" + text, nil},
		{"Repr-Digest: sha-256=:AAAA:", nil},
		{"Repr-Digest: sha-256=::", nil},
		{"Repr-Digest: sha-256=:", nil},
		{"Repr-Digest: ,=,;,", nil},
	} {
		h := http.Header{}
		for line := range strings.SplitSeq(row.header, "|") {
			name, value, _ := strings.Cut(line, ": ")
			h.Set(name, value)
		}
		if diff := cmp.Diff(row.want, digests(h)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", row.header, diff)
		}
	}
}
