package object

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/s3utils"

	"github.com/copyfleet/copyfleet/storage"
)

const (
	maxKey       = 1024 // bytes; S3's limit
	accessDenied = "s3_" + minio.AccessDenied
	userNotFound = "XAdminUserNotFound" // versitygw's InvalidAccessKeyId, sent with 404
)

func subject(bucket, key string) string { return "s3://" + bucket + "/" + key }

// checkNames refuses names that no S3 takes, and above all an empty key: a PUT without one would make a bucket.
func checkNames(op, bucket, key string) error {
	if err := s3utils.CheckValidBucketNameStrict(bucket); err != nil {
		e := storage.Errorf(storage.Invalid, "invalid_bucket", op, subject(bucket, key), "not a name of a bucket")
		e.Err = err
		return e
	}
	var problem string
	switch {
	case key == "":
		problem = "is empty"
	case len(key) > maxKey:
		problem = "has more than " + strconv.Itoa(maxKey) + " bytes"
	case !utf8.ValidString(key):
		problem = "is not UTF-8"
	case strings.ContainsRune(key, 0):
		problem = "has a NUL"
	default:
		return nil
	}
	return storage.Errorf(storage.Invalid, "invalid_key", op, subject(bucket, key), "the key %s", problem)
}

// classify turns an error of minio-go into ours.
func classify(op, subject string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*storage.Error](err); ok {
		return err
	}
	resp := minio.ToErrorResponse(err)
	if resp.StatusCode == 0 {
		return unanswered(op, subject, err)
	}
	e := storage.Errorf(storage.Unavailable, "s3_"+resp.Code, op, subject, "%s", resp.Message)
	e.Status, e.StatusText, e.Reason = resp.StatusCode, http.StatusText(resp.StatusCode), resp.Code
	switch status := resp.StatusCode; {
	case resp.Code == minio.InvalidAccessKeyID, resp.Code == userNotFound, resp.Code == minio.SignatureDoesNotMatch: // whatever the status
		e.Class = storage.Denied
	case status == http.StatusForbidden || status == http.StatusUnauthorized:
		e.Class = storage.Denied
	case status == http.StatusNotFound:
		e.Class = storage.NotFound
	case status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable:
		e.Class = storage.Throttled
	case status < http.StatusInternalServerError:
		e.Class = storage.Invalid
	}
	explainSkew(e, resp.Code)
	return e
}

// timeTooSkewed is what S3 answers to a signature whose time is more than 15 minutes away from its own.
const timeTooSkewed = "RequestTimeTooSkewed"

// explainSkew says what it means that the store refused the time of a request. The credentials are right, and a worker with a right clock, or this
// one in a while, will be let in: the class is not the one of the status.
func explainSkew(e *storage.Error, reason string) {
	if reason != timeTooSkewed {
		return
	}
	e.Class, e.Message = storage.Unavailable, "the clock of the worker and that of the store differ by more than 15 minutes"
	e.Hint = "Set the clocks, of the workers first; the item can be tried again then."
}

// unanswered classifies a call that has no answer.
func unanswered(op, subject string, err error) error {
	e := storage.Errorf(storage.Unavailable, "s3_unavailable", op, subject, "the S3 endpoint does not answer")
	switch {
	case errors.Is(err, context.Canceled):
		e.Class, e.Code, e.Message = storage.Interrupted, "s3_canceled", "it was canceled"
	case errors.Is(err, context.DeadlineExceeded):
		e.Class, e.Code, e.Message = storage.Timeout, "s3_timeout", "Network timeout: the S3 endpoint does not answer"
	}
	e.Err = err
	if urlErr, ok := errors.AsType[*url.Error](err); ok {
		e.Err = urlErr.Err // a url.Error prints the whole URL with its signature
	}
	return e
}
