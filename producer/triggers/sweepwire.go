package triggers

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/copyfleet/copyfleet/producer/events"
)

// sweptType is the type of the event of an object that a sweep found. Rules see it as a creation.
const sweptType = "s3:ObjectCreated:Sweep"

// Bounds of a message of a sweep.
const (
	sweepChunk = 100       // objects
	sweepBytes = 256 << 10 // of their keys and the like, about
)

// sweepMessage is a notification of kind [protocol.EventSweep]: some of the objects that a sweep of a rule found, or its end.
type sweepMessage struct {
	Sweep   string        `json:"sweep"` // [Swept.ID]
	Rule    string        `json:"rule"`
	Bucket  string        `json:"bucket"`
	Started time.Time     `json:"started_at"` // of the listing
	Objects []sweptObject `json:"objects,omitempty"`
	End     *sweepEnd     `json:"end,omitempty"` // nil: more follows
}

// sweepEnd says that a sweep lists nothing more.
type sweepEnd struct {
	Listed int  `json:"listed"` // objects in all messages of the sweep
	Failed bool `json:"failed"` // not all were listed: what was found is copied, and the sweep is not done
}

// sweptObject is an object that was listed.
type sweptObject struct {
	Key      string    `json:"key"`
	ETag     string    `json:"etag"`
	Version  string    `json:"version,omitempty"`
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified"`
}

// decodeSweep reads a message of a sweep.
func decodeSweep(body []byte) (*sweepMessage, error) {
	var m sweepMessage
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, fmt.Errorf("the message of a sweep cannot be read: %w", err)
	}
	return &m, nil
}

// events are what rules decide on, one for each object.
func (m *sweepMessage) events() []events.Event {
	list := make([]events.Event, len(m.Objects))
	for i := range m.Objects {
		list[i] = m.event(&m.Objects[i])
	}
	return list
}

func (m *sweepMessage) event(o *sweptObject) events.Event {
	return events.Event{
		Source: events.Sweep, Type: sweptType, Time: o.Modified, Bucket: m.Bucket, Key: o.Key, Version: o.Version, ETag: o.ETag, Size: o.Size,
		Fields: sweptFields(m.Bucket, o), Sweep: m.Sweep, Rule: m.Rule,
	}
}

// sweptFields is the event as rules see it: with the members of a notification, as far as a listing tells them.
func sweptFields(bucket string, o *sweptObject) map[string]any {
	at := o.Modified.UTC().Format(time.RFC3339Nano)
	object := map[string]any{"key": url.QueryEscape(o.Key), "size": json.Number(strconv.FormatInt(o.Size, 10)), "eTag": o.ETag}
	if o.Version != "" {
		object["versionId"] = o.Version
	}
	return map[string]any{
		"source": "copyfleet:sweep", "type": sweptType, "time": at,
		"data": map[string]any{
			"eventName": sweptType, "eventTime": at, "eventSource": "copyfleet:sweep",
			"s3": map[string]any{"bucket": map[string]any{"name": bucket}, "object": object},
		},
	}
}

// sweepTally is what was decided on the objects of a sweep.
type sweepTally struct {
	Listed    int `json:"listed"`
	Known     int `json:"known"`
	Recovered int `json:"recovered"`
	Refused   int `json:"refused"`
}
