package s3server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/versity/versitygw/s3response"
)

// The events that are told, by their names in S3.
const (
	createdPut       = "s3:ObjectCreated:Put"
	createdPost      = "s3:ObjectCreated:Post"
	createdCopy      = "s3:ObjectCreated:Copy"
	createdMultipart = "s3:ObjectCreated:CompleteMultipartUpload"
	removed          = "s3:ObjectRemoved:Delete"
)

// change is what happened to an object.
type change struct {
	name        string
	bucket, key string
	etag        string            // "": it was removed
	size        *int64            // nil: not known
	kind        string            // content type
	metadata    map[string]string // by name without "x-amz-meta-"; nil: not known
}

// record is a change as S3 tells it: Amazon S3 User Guide, "Event message structure". The metadata are as MinIO adds them.
type record struct {
	Version string    `json:"eventVersion"`
	Source  string    `json:"eventSource"`
	Region  string    `json:"awsRegion"`
	Time    time.Time `json:"eventTime"`
	Name    string    `json:"eventName"`
	S3      struct {
		SchemaVersion string       `json:"s3SchemaVersion"`
		Bucket        recordBucket `json:"bucket"`
		Object        recordObject `json:"object"`
	} `json:"s3"`
}

type recordBucket struct {
	Name string `json:"name"`
	ARN  string `json:"arn"`
}

type recordObject struct {
	Key       string            `json:"key"` // escaped as in a form
	Size      *int64            `json:"size,omitempty"`
	ETag      string            `json:"eTag,omitempty"`
	Type      string            `json:"contentType,omitempty"`
	Metadata  map[string]string `json:"userMetadata,omitempty"`
	Sequencer string            `json:"sequencer"`
}

func (c *change) record(sequence uint64, now time.Time) ([]byte, error) {
	r := record{Version: "2.1", Source: "copyfleet:s3", Region: Region, Time: now.UTC().Truncate(time.Millisecond), Name: c.name}
	r.S3.SchemaVersion = "1.0"
	r.S3.Bucket = recordBucket{Name: c.bucket, ARN: "arn:aws:s3:::" + c.bucket}
	r.S3.Object = recordObject{
		Key: url.QueryEscape(c.key), Size: c.size, ETag: strings.Trim(c.etag, `"`), Type: c.kind, Sequencer: fmt.Sprintf("%016X", sequence),
	}
	if c.metadata != nil {
		r.S3.Object.Metadata = map[string]string{"content-type": c.kind} // never empty, so that it is seen that they are told
		for name, value := range c.metadata {
			r.S3.Object.Metadata["X-Amz-Meta-"+name] = value
		}
	}
	return json.Marshal(r)
}

// toldPut tells of an object that was written at once.
func (s *store) toldPut(in *s3response.PutObjectInput, name string, out *s3response.PutObjectOutput) {
	c := change{name: name, bucket: text(in.Bucket), key: text(in.Key), etag: out.ETag, size: out.Size, kind: text(in.ContentType), metadata: in.Metadata}
	if c.metadata == nil {
		c.metadata = map[string]string{}
	}
	s.events.tell(&c)
}

// toldMade tells of an object whose metadata are not known to the call that made it. Should somebody else write it meanwhile, that is told of, too.
func (s *store) toldMade(ctx context.Context, name string, bucket, key *string, etag string) {
	c := change{name: name, bucket: text(bucket), key: text(key), etag: etag}
	if !s.events.wants(&c) {
		return
	}
	head, err := s.Posix.HeadObject(ctx, &s3.HeadObjectInput{Bucket: bucket, Key: key})
	if err == nil && strings.Trim(text(head.ETag), `"`) == strings.Trim(etag, `"`) {
		c.size, c.kind, c.metadata = head.ContentLength, text(head.ContentType), head.Metadata
		if c.metadata == nil {
			c.metadata = map[string]string{}
		}
	}
	s.events.tell(&c)
}

func (s *store) toldRemoved(bucket, key *string) {
	s.events.tell(&change{name: removed, bucket: text(bucket), key: text(key)})
}
