package events

import (
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	s3Prefix   = "s3:"
	metaPrefix = "x-amz-meta-"
	testEvent  = "s3:TestEvent" // what S3 sends when a notification is configured
	minioEvent = "minio:s3"     // eventSource of MinIO
)

// The most bytes of what a record of S3 says.
const (
	maxName      = 255  // of an event, a bucket
	maxVersion   = 1024 // as S3 bounds it
	maxSequencer = 64
	maxShort     = 256
)

// ParseS3 reads a notification of S3 or MinIO. The test event that S3 sends has no records, and is no error.
//
// The format is "Event message structure" of the Amazon S3 User Guide, versions 2.0 to 2.3. MinIO puts EventName and Key around it, which say nothing
// more.
func ParseS3(body []byte) ([]Event, error) {
	if len(body) > MaxBody {
		return nil, tooLong()
	}
	var d decoder
	root, err := d.decode("", body)
	if err != nil {
		return nil, err
	}
	top, ok := root.(map[string]any)
	if !ok {
		return nil, malformed("", "must be an object")
	}
	records, ok := top["Records"].([]any)
	if !ok && top["Records"] == nil && top["Event"] == testEvent {
		return nil, nil
	}
	switch {
	case !ok:
		return nil, malformed("/Records", "must be a list")
	case len(records) > MaxEvents:
		return nil, tooMany("/Records")
	}
	list := make([]Event, 0, len(records))
	for i, record := range records {
		e, err := s3Event("/Records/"+strconv.Itoa(i), record)
		if err != nil {
			return nil, err
		}
		list = append(list, e)
	}
	return list, nil
}

// s3Event reads a record.
func s3Event(at string, record any) (Event, error) {
	in, ok := record.(map[string]any)
	if !ok {
		return Event{}, malformed(at, "must be an object")
	}
	var wrong error
	r := members{at, in, &wrong}
	s3 := r.object("s3")
	bucket, object := s3.object("bucket"), s3.object("object")
	e := Event{
		Source:    S3,
		Type:      eventName(r),
		Time:      eventTime(r),
		Bucket:    bucket.text("name", maxName),
		Version:   object.text("versionId", maxVersion),
		Sequencer: sequencer(object),
		ETag:      strings.Trim(object.text("eTag", maxShort), `"`),
		Metadata:  metadata(object),
	}
	origin := r.text("eventSource", maxShort)
	e.Key = objectKey(object, e.Type)
	e.Size = size(object, origin == minioEvent && e.ETag != "")
	if e.Bucket == "" {
		bucket.fail("name", "is required")
	}
	if e.Version == "null" { // of an object that was written while the bucket kept no versions
		e.Version = ""
	}
	if wrong != nil {
		return Event{}, wrong
	}
	e.Fields = s3Fields(&e, in, origin)
	return e, nil
}

// eventName returns the name of an event with its prefix, which S3 leaves out in its records and MinIO does not.
func eventName(r members) string {
	name := r.text("eventName", maxName)
	switch {
	case name == "" || name == s3Prefix:
		r.fail("eventName", "is required")
	case !strings.HasPrefix(name, s3Prefix):
		name = s3Prefix + name
	}
	return name
}

func eventTime(r members) time.Time {
	text := r.text("eventTime", maxShort)
	if text == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		r.fail("eventTime", "must be a time (RFC 3339)")
	}
	return t
}

// objectKey decodes a key, which is encoded as a form is: a space is '+', a plus "%2B". It is done once: a key may have '%' in it. Of a bucket itself
// (s3:BucketCreated) there is none.
func objectKey(object members, name string) string {
	raw := object.text("key", MaxBody)
	key, err := url.QueryUnescape(raw)
	switch {
	case err != nil:
		object.fail("key", "is not encoded as S3 encodes keys")
	case len(key) > maxKey:
		object.fail("key", "has "+strconv.Itoa(len(key))+" bytes; a key of S3 has at most "+strconv.Itoa(maxKey))
	case !utf8.ValidString(key):
		object.fail("key", "is not UTF-8")
	case key == "" && !strings.HasPrefix(name, "s3:Bucket"):
		object.fail("key", "is required")
	}
	return key
}

// sequencer returns it in upper case. What is no hexadecimal number orders nothing, and is as good as none.
func sequencer(object members) string {
	text := object.text("sequencer", MaxBody)
	if len(text) > maxSequencer || strings.Trim(text, "0123456789abcdefABCDEF") != "" {
		return ""
	}
	return strings.ToUpper(text)
}

// size returns the size of an object, or -1. MinIO leaves out the 0 of an empty one, and writes a negative one where it does not know it.
func size(object members, emptyIfAbsent bool) int64 {
	v, there := object.in["size"]
	if !there || v == nil {
		if emptyIfAbsent {
			return 0
		}
		return -1
	}
	number, ok := v.(json.Number)
	n, err := strconv.ParseInt(string(number), 10, 64)
	if !ok || err != nil {
		object.fail("size", "must be a whole number")
	}
	return max(n, -1)
}

// metadata returns what an object says of itself, of all that MinIO calls userMetadata: content-type and the like stand there, too. Without that member
// nothing is told.
func metadata(object members) map[string]string {
	v, there := object.in["userMetadata"]
	if !there || v == nil {
		return nil
	}
	given := object.object("userMetadata")
	own := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(given.in)) {
		short, ok := strings.CutPrefix(strings.ToLower(name), metaPrefix)
		if !ok {
			continue
		}
		value, ok := given.in[name].(string)
		if _, twice := own[short]; !ok || twice {
			object.fail("userMetadata", "must have strings, and no name twice in different cases")
		}
		own[short] = value
	}
	return own
}

// s3Fields is what rules see.
func s3Fields(e *Event, record map[string]any, origin string) map[string]any {
	fields := map[string]any{"type": e.Type, "data": record}
	if origin != "" {
		fields["source"] = origin
	}
	if !e.Time.IsZero() {
		fields["time"] = e.Time.UTC().Format(time.RFC3339Nano)
	}
	if response, ok := record["responseElements"].(map[string]any); ok {
		if id, ok := response["x-amz-request-id"].(string); ok && id != "" {
			fields["id"] = id
		}
	}
	return fields
}
