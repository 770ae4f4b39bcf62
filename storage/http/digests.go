package httpstore

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strings"

	"github.com/copyfleet/copyfleet/storage"
)

// checksumHeaders are those of S3 that say what the whole of an object has, where x-amz-checksum-type does not say otherwise.
var checksumHeaders = []struct{ name, kind string }{
	{"X-Amz-Checksum-Crc64nvme", storage.DigestCRC64NVME},
	{"X-Amz-Checksum-Crc32c", storage.DigestCRC32C},
	{"X-Amz-Checksum-Sha256", storage.DigestSHA256},
}

// digests are what a 200 says of its content as it is sent: checksums of S3, and the SHA-256 of Repr-Digest (RFC 9530, 3), whose
// representation is the content, since no other encoding is asked for. An ETag is none: only its maker knows what it is made of.
func digests(h http.Header) map[string]string {
	if encoding := told(h, "Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return nil // a proxy may have come in between
	}
	var of map[string]string
	note := func(kind, digest string) {
		if of == nil {
			of = map[string]string{}
		}
		of[kind] = digest
	}
	whole := !strings.EqualFold(told(h, "X-Amz-Checksum-Type"), "COMPOSITE")
	for _, c := range checksumHeaders {
		text := told(h, c.name)
		raw, err := base64.StdEncoding.DecodeString(text) // of parts it is no base64: it ends in a dash and their number
		switch {
		case text == "" || err != nil || !whole:
		case c.kind == storage.DigestSHA256 && len(raw) == sha256.Size:
			note(c.kind, hex.EncodeToString(raw))
		case c.kind == storage.DigestCRC64NVME && len(raw) == 8, c.kind == storage.DigestCRC32C && len(raw) == 4:
			note(c.kind, text)
		}
	}
	if raw, ok := representation(told(h, "Repr-Digest")); ok {
		note(storage.DigestSHA256, hex.EncodeToString(raw))
	}
	return of
}

// representation returns the SHA-256 of a Repr-Digest, a dictionary of byte sequences (RFC 9651): sha-256=:BASE64:, and others.
func representation(text string) ([]byte, bool) {
	for member := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(member), "=")
		if name != "sha-256" || len(value) < 2 || value[0] != ':' || value[len(value)-1] != ':' {
			continue
		}
		raw, err := base64.StdEncoding.DecodeString(value[1 : len(value)-1])
		return raw, err == nil && len(raw) == sha256.Size
	}
	return nil, false
}
