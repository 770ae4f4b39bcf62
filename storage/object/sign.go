package object

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7/pkg/s3utils"

	"github.com/copyfleet/copyfleet/storage"
)

// upload is one PUT: of an object, or of a part.
type upload struct {
	query       url.Values // of a part; nil: the object
	contentType string     // "": none is sent
	onlyNew     bool
	trail       string // "": none is sent
}

func (u upload) headers() http.Header {
	h := http.Header{}
	if u.contentType != "" {
		h.Set("Content-Type", u.contentType)
	}
	if u.onlyNew {
		h.Set("If-None-Match", "*")
	}
	if u.trail != "" {
		h.Set(metadataPrefix+storage.TrailName, u.trail)
	}
	return h
}

// sealed returns the URL and the headers of an upload whose checksum is known before its first byte; "": it is sent without.
func (p place) sealed(u upload, checksum string) (string, map[string]string) {
	headers := u.headers()
	headers.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
	if checksum != "" {
		headers.Set(checksumHeader, checksum)
	}
	return p.signed(u, headers)
}

// framed returns the URL and the headers of an upload whose checksum follows its content. The signature is in a header: what a
// presigned URL would allow is fixed by its query, and MinIO does not look at that where a trailer is announced (CVE-2026-41145).
func (p place) framed(u upload, size int64) (string, map[string]string) {
	headers := u.headers()
	headers.Set("Content-Encoding", "aws-chunked")
	headers.Set("X-Amz-Content-Sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
	headers.Set("X-Amz-Decoded-Content-Length", strconv.FormatInt(size, 10))
	headers.Set("X-Amz-Trailer", trailerKey)
	return p.signed(u, headers)
}

// signed signs headers for an upload that begins now.
func (p place) signed(u upload, headers http.Header) (string, map[string]string) {
	path, query := s3utils.EncodePath("/"+p.bucket+"/"+p.key), strings.ReplaceAll(u.query.Encode(), "+", "%20")
	p.store.keys.sign(http.MethodPut, p.store.host, path, query, headers, time.Now())
	target := p.store.base + path
	if query != "" {
		target += "?" + query
	}
	return target, flat(headers)
}

func flat(headers http.Header) map[string]string {
	if len(headers) == 0 {
		return nil
	}
	m := make(map[string]string, len(headers))
	for name, values := range headers {
		m[name] = strings.Join(values, ",")
	}
	return m
}
