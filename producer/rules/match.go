package rules

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/copyfleet/copyfleet/producer/events"
)

// creations is what a rule on S3 is about that names no events, and what an object is to it that a sweep found.
const creations = "s3:ObjectCreated:*"

// onlyNotes are events that MinIO counts among the creations though the bytes of the object stay what they are. They match by their own name alone.
var onlyNotes = []string{
	"s3:ObjectCreated:PutRetention", "s3:ObjectCreated:PutLegalHold", "s3:ObjectCreated:PutTagging", "s3:ObjectCreated:DeleteTagging",
}

// knownEvents are the names of events: those of the Amazon S3 User Guide ("Supported event types for SQS, SNS, and Lambda") and those of MinIO
// (internal/event/name.go).
var knownEvents = slices.Concat(onlyNotes, []string{
	"s3:ObjectCreated:Put", "s3:ObjectCreated:Post", "s3:ObjectCreated:Copy", "s3:ObjectCreated:CompleteMultipartUpload",
	"s3:ObjectRemoved:Delete", "s3:ObjectRemoved:DeleteMarkerCreated", "s3:ObjectRemoved:NoOP", "s3:ObjectRemoved:DeleteAllVersions",
	"s3:ObjectAccessed:Get", "s3:ObjectAccessed:Head", "s3:ObjectAccessed:GetRetention", "s3:ObjectAccessed:GetLegalHold", "s3:ObjectAccessed:Attributes",
	"s3:ObjectRestore:Post", "s3:ObjectRestore:Completed", "s3:ObjectRestore:Delete",
	"s3:ObjectTransition:Complete", "s3:ObjectTransition:Failed",
	"s3:ObjectTagging:Put", "s3:ObjectTagging:Delete", "s3:ObjectAcl:Put", "s3:ReducedRedundancyLostObject",
	"s3:LifecycleExpiration:Delete", "s3:LifecycleExpiration:DeleteMarkerCreated", "s3:LifecycleDelMarkerExpiration:Delete",
	"s3:LifecycleTransition", "s3:IntelligentTiering",
	"s3:Replication:OperationFailedReplication", "s3:Replication:OperationCompletedReplication", "s3:Replication:OperationMissedThreshold",
	"s3:Replication:OperationReplicatedAfterThreshold", "s3:Replication:OperationNotTracked",
	"s3:Scanner:ManyVersions", "s3:Scanner:LargeVersions", "s3:Scanner:BigPrefix",
})

// eventFault returns what is wrong with a pattern of event names, or "".
func eventFault(pattern string) string {
	name, open := strings.CutSuffix(pattern, "*")
	switch {
	case strings.Contains(name, "*"):
		return "A '*' may stand at the end only."
	case open && strings.HasSuffix(name, ":") && slices.ContainsFunc(knownEvents, func(known string) bool { return strings.HasPrefix(known, name) }):
		return ""
	case !open && slices.Contains(knownEvents, name):
		return ""
	}
	return fmt.Sprintf("There is no event %q; known are such as s3:ObjectCreated:*, s3:ObjectCreated:Put and s3:ObjectRemoved:*.", short(pattern))
}

// eventMatches reports whether a pattern is about the name of an event.
func eventMatches(pattern, name string) bool {
	if prefix, open := strings.CutSuffix(pattern, "*"); open {
		return strings.HasPrefix(name, prefix) && !slices.Contains(onlyNotes, name)
	}
	return pattern == name
}

// startsAs is for patterns of other names: one that ends in "*" stands for all that begin so.
func startsAs(pattern, name string) bool {
	if prefix, open := strings.CutSuffix(pattern, "*"); open {
		return strings.HasPrefix(name, prefix)
	}
	return pattern == name
}

var errLongKey = errors.New("the key has more than 1024 bytes, more than an object's can have")

// Matches reports whether the rule is about an event. An error is of its expression, which failed, cost too much or was interrupted, or says that the
// event's key is longer than any object's.
func (r *Rule) Matches(ctx context.Context, e *events.Event) (bool, error) {
	if !r.about(e) {
		return false, nil
	}
	if len(e.Key) > maxKey {
		return false, errLongKey
	}
	if r.glob != nil && !r.glob.MatchString(e.Key) {
		return false, nil
	}
	if r.when == nil {
		return true, nil
	}
	return r.when.holds(ctx, e)
}

// about decides by what the match says literally.
func (r *Rule) about(e *events.Event) bool {
	if e.Rule != "" && e.Rule != r.Name {
		return false
	}
	if e.Source == events.CloudEvents {
		fits := func(patterns []string, name string) bool {
			return len(patterns) == 0 || slices.ContainsFunc(patterns, func(p string) bool { return startsAs(p, name) })
		}
		return r.Match.Source == events.CloudEvents && fits(r.types, e.Type) && fits(r.origins, e.Origin)
	}
	return r.Match.Source == events.S3 && e.Bucket == r.Match.Bucket &&
		strings.HasPrefix(e.Key, r.Match.Prefix) && strings.HasSuffix(e.Key, r.suffix) &&
		len(e.Key) >= len(r.Match.Prefix)+len(r.suffix) && r.names(e)
}

// names reports whether the rule is about events of this name.
func (r *Rule) names(e *events.Event) bool {
	if len(r.types) == 0 {
		return e.Source == events.Sweep || eventMatches(creations, e.Type)
	}
	return slices.ContainsFunc(r.types, func(pattern string) bool {
		if e.Source == events.Sweep { // a listing does not tell how an object came into being
			return strings.HasPrefix(pattern, strings.TrimSuffix(creations, "*")) && !slices.Contains(onlyNotes, pattern)
		}
		return eventMatches(pattern, e.Type)
	})
}

// compileGlob turns a glob into an expression that takes time linear in the key (RE2), or says what is wrong with it.
func compileGlob(glob string) (*regexp.Regexp, string) {
	if len(glob) > maxKey {
		return nil, "A glob may have 1024 bytes at most."
	}
	var b strings.Builder
	b.WriteString(`(?s)\A`)
	for at := 0; at < len(glob); {
		rest := glob[at:]
		switch {
		case strings.HasPrefix(rest, "***"):
			return nil, "A glob has '*', '**' and '?', and no more than two stars in a row."
		case strings.HasPrefix(rest, "**/"):
			b.WriteString(`(?:.*/)?`)
			at += 3
		case strings.HasPrefix(rest, "**"):
			b.WriteString(`.*`)
			at += 2
		case rest[0] == '*':
			b.WriteString(`[^/]*`)
			at++
		case rest[0] == '?':
			b.WriteString(`[^/]`)
			at++
		case strings.IndexByte(`[]{}\`, rest[0]) >= 0:
			return nil, "A glob has '*', '**' and '?' only; '[', ']', '{', '}' and '\\' mean nothing here, and '?' matches each of them."
		default:
			next := strings.IndexAny(rest, `*?[]{}\`)
			if next < 0 {
				next = len(rest)
			}
			b.WriteString(regexp.QuoteMeta(rest[:next]))
			at += next
		}
	}
	b.WriteString(`\z`)
	compiled, err := regexp.Compile(b.String())
	if err != nil {
		return nil, "The glob cannot be read."
	}
	return compiled, ""
}
