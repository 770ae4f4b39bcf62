package protocol

import "strings"

// EventKind is the form of a notification of another system, as the subject says it that it is published to.
type EventKind string

// The kinds. The first two are what other systems publish to NATS themselves.
const (
	EventS3    EventKind = "s3"          // a bucket notification, as S3 and MinIO write it
	EventCloud EventKind = "cloudevents" // CloudEvents 1.0 over NATS: headers "ce-…" (binary), or a structured or batched body
	EventSweep EventKind = "sweep"       // ours: objects that a sweep found
)

// EventSubjects is what the stream of events stores. Who publishes to another form of subject gets no acknowledgement.
const EventSubjects = "copyfleet.events.*.*"

// EventSubject is where notifications for an org are published: copyfleet.events.<kind>.<org>.
func EventSubject(kind EventKind, org OrgID) string {
	return "copyfleet.events." + string(kind) + "." + Token(string(org))
}

// EventFilter matches all notifications for an org.
func EventFilter(org OrgID) string { return EventFilterOf(Token(string(org))) }

// EventFilterOf is EventFilter for an org's token, as subjects have it.
func EventFilterOf(token string) string { return "copyfleet.events.*." + token }

// TriggerSubjects is what the stream of journals stores.
const TriggerSubjects = "cf.trigger.>"

// TriggerSubject is where it is recorded what became of the events of an org.
func TriggerSubject(org OrgID) string { return "cf.trigger." + Token(string(org)) }

// RuleKey is the KV key of a rule, SecretKey of a named secret, TriggerKey of what is shown of a rule.
func RuleKey(org OrgID, name string) string { return Token(string(org)) + ".rule." + Token(name) }

// SecretKey is the KV key of a named secret of an org.
func SecretKey(org OrgID, name string) string { return Token(string(org)) + ".secret." + Token(name) }

// TriggerKey is the KV key of the counts of a rule, as far as they were saved.
func TriggerKey(org OrgID, rule string) string { return Token(string(org)) + ".counts." + Token(rule) }

// SweepKey is the KV key of a rule's last sweep.
func SweepKey(org OrgID, rule string) string { return Token(string(org)) + ".sweep." + Token(rule) }

// TrailHeader is the name, without "x-amz-meta-", of an object's metadata that says which rules it came through: "ORG/rule", the first one first, divided
// by commas.
const TrailHeader = "copyfleet-trail"

// JoinTrail is a trail as an object carries it; "": there is none.
func JoinTrail(trail []string) string { return strings.Join(trail, ",") }

// SplitTrail is the trail that an object carries. Spaces around the commas, and empty elements, are not part of it.
func SplitTrail(value string) []string {
	var trail []string
	for step := range strings.SplitSeq(value, ",") {
		if step = strings.TrimSpace(step); step != "" {
			trail = append(trail, step)
		}
	}
	return trail
}
