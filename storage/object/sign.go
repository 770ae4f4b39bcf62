package object

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/minio/minio-go/v7/pkg/s3utils"
	"github.com/minio/minio-go/v7/pkg/signer"
)

// upload is one PUT: of an object, or of a part.
type upload struct {
	query       url.Values // of a part; nil: the object
	contentType string     // "": none is sent
	onlyNew     bool
}

func (u upload) headers() http.Header {
	h := http.Header{}
	if u.contentType != "" {
		h.Set("Content-Type", u.contentType)
	}
	if u.onlyNew {
		h.Set("If-None-Match", "*")
	}
	return h
}

// presigned returns the URL and the headers of an upload whose checksum is known before its first byte; "": it is sent without.
func (p place) presigned(ctx context.Context, u upload, checksum string) (string, map[string]string, error) {
	headers := u.headers()
	if checksum != "" {
		headers.Set(checksumHeader, checksum)
	}
	query := u.query
	if query == nil {
		query = url.Values{}
	}
	signed, err := p.store.client.PresignHeader(ctx, http.MethodPut, p.bucket, p.key, presignFor, query, headers)
	if err != nil {
		return "", nil, classify("write", p.subject(), err)
	}
	return signed.String(), flat(headers), nil
}

// signed returns the URL and the headers of an upload whose checksum follows its content. The signature is in a header: what a
// presigned URL would allow is fixed by its query, and MinIO does not look at that where a trailer is announced (CVE-2026-41145).
func (p place) signed(u upload, size int64) (string, map[string]string) {
	headers := u.headers()
	headers.Set("Content-Encoding", "aws-chunked")
	headers.Set("X-Amz-Content-Sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
	headers.Set("X-Amz-Decoded-Content-Length", strconv.FormatInt(size, 10))
	headers.Set("X-Amz-Trailer", trailerKey)
	target := p.store.client.EndpointURL()
	target.Path = "/" + p.bucket + "/" + p.key
	target.RawPath = s3utils.EncodePath(target.Path)
	target.RawQuery = u.query.Encode()
	req := signer.SignV4(http.Request{Method: http.MethodPut, URL: target, Host: target.Host, Header: headers},
		p.store.cfg.AccessKey, p.store.cfg.SecretKey, "", p.store.cfg.Region)
	return target.String(), flat(req.Header)
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
