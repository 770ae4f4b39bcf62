package s3server

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/versity/versitygw/backend"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/s3err"
	"github.com/versity/versitygw/s3response"
)

// refused returns the error for a key that the library would turn into another key, and nil for all others. The
// library takes a key for a path and cleans it: "a//b" and "a/./b" would be "a/b", and would be answered with success.
// Its own directory is refused too.
func refused(key string) error {
	segments := strings.Split(strings.TrimSuffix(key, "/"), "/")
	for _, segment := range segments {
		if segment == "" || segment == "." || segment == ".." {
			return s3err.GetAPIError(s3err.ErrInvalidURI)
		}
	}
	if segments[0] == posix.MetaTmpDir {
		return s3err.GetAPIError(s3err.ErrInvalidURI)
	}
	return nil
}

// refusedSource is refused for the header x-amz-copy-source.
func refusedSource(source *string) error {
	_, key, _, err := backend.ParseCopySource(text(source))
	if err != nil {
		return err
	}
	return refused(key)
}

func text(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

// settle returns what a call that changed something answers: its error, or whether the change is on disk. An error
// without a place in S3 is logged here; the library would print it.
func (s *store) settle(op string, err error) error {
	if err == nil {
		err = s.disk.settle()
	}
	if err == nil {
		return nil
	}
	if known, ok := errors.AsType[s3err.S3Error](err); ok {
		return known // unwrapped: the library looks no deeper
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		s.log.Debug("the embedded S3 was sent less than announced", "operation", op)
		return s3err.GetAPIError(s3err.ErrIncompleteBody)
	}
	s.log.Error("the embedded S3 failed", "operation", op, "error", err)
	return s3err.GetAPIError(s3err.ErrInternalError)
}

// CreateBucket implements the library's interface, as do the methods below: those that change what the fleet uses.
func (s *store) CreateBucket(ctx context.Context, in *s3.CreateBucketInput, acl []byte) error {
	return s.settle("create bucket", s.Posix.CreateBucket(ctx, in, acl))
}

// DeleteBucket deletes an empty bucket.
func (s *store) DeleteBucket(ctx context.Context, bucket string) error {
	return s.settle("delete bucket", s.Posix.DeleteBucket(ctx, bucket))
}

// PutObject stores an object.
func (s *store) PutObject(ctx context.Context, in s3response.PutObjectInput) (out s3response.PutObjectOutput, err error) {
	name := createdPut
	if _, isForm := in.Body.(form); isForm {
		name = createdPost
	}
	in.Body = newWhole(in.Body, in.ContentLength)
	if err = refused(text(in.Key)); err == nil {
		out, err = s.Posix.PutObject(ctx, in)
	}
	if err = s.settle("put object", err); err == nil {
		s.toldPut(&in, name, &out)
	}
	return out, err
}

// CopyObject copies an object.
func (s *store) CopyObject(ctx context.Context, in s3response.CopyObjectInput) (out s3response.CopyObjectOutput, err error) {
	if err = errors.Join(refused(text(in.Key)), refusedSource(in.CopySource)); err == nil {
		out, err = s.Posix.CopyObject(ctx, in)
	}
	if err = s.settle("copy object", err); err == nil && out.CopyObjectResult != nil {
		s.toldMade(ctx, createdCopy, in.Bucket, in.Key, text(out.CopyObjectResult.ETag))
	}
	return out, err
}

// GetObject opens an object.
func (s *store) GetObject(ctx context.Context, in *s3.GetObjectInput) (*s3.GetObjectOutput, error) {
	if err := refused(text(in.Key)); err != nil {
		return nil, err
	}
	return s.Posix.GetObject(ctx, in)
}

// HeadObject describes an object.
func (s *store) HeadObject(ctx context.Context, in *s3.HeadObjectInput) (*s3.HeadObjectOutput, error) {
	if err := refused(text(in.Key)); err != nil {
		return nil, err
	}
	return s.Posix.HeadObject(ctx, in)
}

// DeleteObject deletes an object.
func (s *store) DeleteObject(ctx context.Context, in *s3.DeleteObjectInput) (out *s3.DeleteObjectOutput, err error) {
	if err = refused(text(in.Key)); err == nil {
		out, err = s.Posix.DeleteObject(ctx, in)
	}
	if err = s.settle("delete object", err); err == nil {
		s.toldRemoved(in.Bucket, in.Key)
	}
	return out, err
}

// DeleteObjects deletes several objects. If one of the keys is refused, none is deleted.
func (s *store) DeleteObjects(ctx context.Context, in *s3.DeleteObjectsInput) (out s3response.DeleteResult, err error) {
	if in.Delete != nil {
		for i := range in.Delete.Objects {
			err = errors.Join(err, refused(text(in.Delete.Objects[i].Key)))
		}
	}
	if err == nil {
		out, err = s.Posix.DeleteObjects(ctx, in)
	}
	if err = s.settle("delete objects", err); err == nil {
		for i := range out.Deleted {
			s.toldRemoved(in.Bucket, out.Deleted[i].Key)
		}
	}
	return out, err
}

// CreateMultipartUpload begins an upload in parts.
func (s *store) CreateMultipartUpload(ctx context.Context, in s3response.CreateMultipartUploadInput) (out s3response.InitiateMultipartUploadResult, err error) {
	if err = refused(text(in.Key)); err == nil {
		out, err = s.Posix.CreateMultipartUpload(ctx, in)
	}
	return out, s.settle("create multipart upload", err)
}

// UploadPart stores a part.
func (s *store) UploadPart(ctx context.Context, in *s3.UploadPartInput) (*s3.UploadPartOutput, error) {
	in.Body = newWhole(in.Body, in.ContentLength)
	out, err := s.Posix.UploadPart(ctx, in)
	return out, s.settle("upload part", err)
}

// UploadPartCopy stores a part that is copied from an object.
func (s *store) UploadPartCopy(ctx context.Context, in *s3.UploadPartCopyInput) (out s3response.CopyPartResult, err error) {
	if err = refusedSource(in.CopySource); err == nil {
		out, err = s.Posix.UploadPartCopy(ctx, in)
	}
	return out, s.settle("upload part copy", err)
}

// CompleteMultipartUpload makes an object of the parts.
func (s *store) CompleteMultipartUpload(ctx context.Context, in *s3.CompleteMultipartUploadInput) (s3response.CompleteMultipartUploadResult, string, error) {
	// The library answers with success for an upload that is not there if there is an object.
	one, first := int32(1), ""
	listed := &s3.ListPartsInput{Bucket: in.Bucket, Key: in.Key, UploadId: in.UploadId, MaxParts: &one, PartNumberMarker: &first}
	if _, err := s.Posix.ListParts(ctx, listed); err != nil {
		return s3response.CompleteMultipartUploadResult{}, "", s.settle("complete multipart upload", err)
	}
	out, version, err := s.Posix.CompleteMultipartUpload(ctx, in)
	if err = s.settle("complete multipart upload", err); err == nil {
		s.toldMade(ctx, createdMultipart, in.Bucket, in.Key, text(out.ETag))
	}
	return out, version, err
}

// AbortMultipartUpload removes the parts.
func (s *store) AbortMultipartUpload(ctx context.Context, in *s3.AbortMultipartUploadInput) error {
	return s.settle("abort multipart upload", s.Posix.AbortMultipartUpload(ctx, in))
}
