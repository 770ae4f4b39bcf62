package events

import (
	"strconv"
	"strings"
	"time"
)

// Source says in which form an event came.
type Source string

// The sources.
const (
	S3          Source = "s3"          // a bucket notification
	CloudEvents Source = "cloudevents" // CloudEvents 1.0
	Sweep       Source = "sweep"       // an object that a sweep found; rules on S3 see it as a creation
)

// Event is something that happened elsewhere.
type Event struct {
	Source Source
	// Type is the name of an S3 event with its prefix ("s3:ObjectCreated:Put"), or the type of a CloudEvent.
	Type string
	Time time.Time // zero: not told

	// ID, Origin (the attribute source) and Subject belong to CloudEvents.
	ID      string
	Origin  string
	Subject string

	// The rest belongs to S3. Key is decoded. Version is "" in a bucket without versions. Sequencer orders the events of one key: of two, the
	// one that is less, as hexadecimal numbers, happened first; upper case; "": not told.
	Bucket    string
	Key       string
	Version   string
	Sequencer string
	ETag      string // without quotes; "": not told
	Size      int64  // bytes; -1: not told
	// Metadata are the object's own, by lowercase name without "x-amz-meta-"; nil: not told.
	Metadata map[string]string

	// Fields is the event as rules see it in expressions and templates: JSON values (map[string]any, []any, string, bool, nil, and [json.Number] as it was
	// written). What was not told is not there. Of a CloudEvent its attributes, extensions and "data": decoded if they are JSON, else a text, or in base64
	// what is none. Of an S3 event "id" (of the request that caused it), "source" ("aws:s3", "minio:s3"), "type", "time", and as "data" the record as
	// it came, with the key encoded.
	Fields map[string]any

	// Sweep and Rule say of a [Sweep] which one found it, and for which rule alone.
	Sweep string
	Rule  string
}

// Created reports whether the event tells that an object came into being or was replaced.
func (e *Event) Created() bool {
	return e.Source == Sweep || e.Source == S3 && strings.HasPrefix(e.Type, "s3:ObjectCreated:")
}

// Identity tells the event from all others of its org. A repetition of it has the same: of a CloudEvent source and id, of an S3 event that an object came
// into being bucket, key, version and sequencer. Without a sequencer, ETag and time stand for it. Other S3 events have type and time beside these: MinIO's
// sequencer is the time at which the object was written, which is the same in each event about it.
func (e *Event) Identity() string {
	switch {
	case e.Source == CloudEvents:
		return identity(string(e.Source), e.Origin, e.ID)
	case e.Source == Sweep:
		return identity(string(e.Source), e.Bucket, e.Key, e.Version, e.ETag, e.Rule, e.Sweep)
	case !e.Created():
		return identity(string(e.Source), e.Bucket, e.Key, e.Version, e.Sequencer, e.ETag, instant(e.Time), e.Type)
	case e.Sequencer == "":
		return identity(string(e.Source), e.Bucket, e.Key, e.Version, "", e.ETag, instant(e.Time))
	}
	return identity(string(e.Source), e.Bucket, e.Key, e.Version, e.Sequencer)
}

func instant(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// identity joins parts so that no other parts give the same, whatever is in them.
func identity(parts ...string) string {
	var b strings.Builder
	for _, part := range parts {
		b.WriteString(strconv.Itoa(len(part)))
		b.WriteByte(':')
		b.WriteString(part)
	}
	return b.String()
}
