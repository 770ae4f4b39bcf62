package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// problem is what the API answers to a call that it refuses.
type problem struct {
	Status  int       `json:"status"`
	Code    string    `json:"code"`
	Message string    `json:"message"`
	Errors  []mistake `json:"errors,omitempty"`
	Total   int       `json:"errors_total,omitempty"`
	Checks  []struct {
		Name    string `json:"name"`
		OK      bool   `json:"ok"`
		Message string `json:"message"`
	} `json:"checks,omitempty"`

	after time.Duration // what the answer asks to wait before the next try; 0: nothing
}

// mistake is something wrong with what was sent.
type mistake struct {
	Pointer string `json:"pointer"`
	Message string `json:"message"`
	Line    int    `json:"line,omitempty"` // of a manifest or a file of rules, from 1; 0: it has no lines
	File    string `json:"file,omitempty"` // of rules, as it was named to the command
}

// shownErrors is how many of a manifest's errors are told.
const shownErrors = 20

// readErrors is how many mistakes of a manifest the API looks for: where there are so many, there may be more.
const readErrors = 100

// mistakes says how many mistakes a manifest has.
func (p *problem) mistakes() string {
	if n := max(p.Total, len(p.Errors)); n < readErrors {
		return several(n, "mistake", "mistakes")
	}
	return number(readErrors) + " or more mistakes"
}

// Error tells the message and every field, one a line.
func (p *problem) Error() string {
	var text strings.Builder
	list := p.Errors
	message := clean(p.Message)
	switch { // the API's sentence is for those who see nothing else
	case len(list) > 0 && list[0].File != "":
		message = "the rules have " + p.mistakes() + "; nothing was done"
	case len(list) > 0 && list[0].Line > 0:
		message = "the manifest has " + p.mistakes() + "; nothing was accepted"
	}
	text.WriteString(message + " (" + clean(p.Code) + ")")
	if len(list) == 1 && list[0].Line == 0 && list[0].File == "" {
		list = nil // the message says it
	}
	for _, e := range list[:min(len(list), shownErrors)] {
		text.WriteString("\n  ")
		text.WriteString(e.String())
	}
	if more := max(p.Total, len(p.Errors)) - shownErrors; more > 0 && len(list) > 0 {
		open := ""
		if list[0].Line > 0 && more >= readErrors-shownErrors {
			open = " or"
		}
		text.WriteString("\n  and " + number(more) + open + " more")
	}
	return text.String()
}

// String tells a mistake on one line; one in a file as compilers do, so that editors find it.
func (e *mistake) String() string {
	at := clean(e.Pointer)
	switch {
	case e.File != "" && e.Line > 0:
		return clean(e.File) + ":" + strconv.Itoa(e.Line) + ": " + e.field(at)
	case e.File != "":
		return clean(e.File) + ": " + e.field(at)
	case e.Line > 0:
		line := strconv.Itoa(e.Line)
		if at = clean(strings.TrimPrefix(e.Pointer, "/line/"+line)); at != "" {
			at = ", " + at
		}
		at = "line " + line + at
	}
	return at + ": " + clean(e.Message)
}

// field tells the message after the field that it is about, if it is about one.
func (e *mistake) field(name string) string {
	if name == "" {
		return clean(e.Message)
	}
	return name + ": " + clean(e.Message)
}

// refusal is the error of an answer that is not what was asked for.
func refusal(resp *http.Response, body []byte) error {
	p := &problem{}
	if json.Unmarshal(body, p) != nil || p.Message == "" {
		p.Message, p.Code = fmt.Sprintf("the API answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode)), "unknown"
	}
	p.Status = resp.StatusCode
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 {
		p.after = time.Duration(min(seconds, 3600)) * time.Second
	}
	e := &exitError{code: statusExit(resp.StatusCode), reason: p.Code, err: p, hint: problemHints[p.Code]}
	if resp.StatusCode < http.StatusBadRequest {
		e.hint = "--url names something that sends callers elsewhere; give the address of the API itself."
	}
	return e
}

// problemHints say what a person may do about some codes.
var problemHints = map[string]string{ //nolint:gosec // the names of flags and commands are no credentials
	"unauthorized":           "The key is wrong or was revoked: --api-key (COPYFLEET_API_KEY).",
	"forbidden":              "The key's role does not allow this; an admin makes keys with \"copyfleet keys create\".",
	"bucket_not_granted":     "An admin grants buckets: copyfleet orgs grant ORG BUCKET[/PREFIX]",
	"batch_not_found":        "\"copyfleet list\" shows the batches there are; old ones are removed after the retention.",
	"sandbox_not_found":      "Register the sandbox, or run the API with --auto-sandboxes.",
	"queue_full":             "Nothing was accepted. Send it again later.",
	"no_space":               "Nothing was accepted. Make room on the disk of the fleet.",
	"idempotency_conflict":   "Give another --idempotency-key, or none.",
	"nothing_to_retry":       "\"copyfleet show BATCH --state failed\" lists the failed items.",
	"dead_letter_not_found":  "\"copyfleet dead list\" shows the dead letters there are; a letter is BATCH.INDEX.",
	"key_not_found":          "\"copyfleet keys list\" shows the ids of the keys there are.",
	"item_not_found":         "\"copyfleet show BATCH --items\" lists the items; they are numbered from 0.",
	"manifest_not_found":     "Is the name right, s3://BUCKET/KEY, and is the object in a bucket of the fleet's own storage?",
	"plan_too_large":         "Plan a part of the manifest, such as its first 1,000 lines, or submit it with --canary.",
	"upload_not_found":       "Uploads that have ended are forgotten after a day. Without --resume, another one is begun.",
	"upload_expired":         "Without --resume, another one is begun.",
	"staging_quota_exceeded": "Other uploads hold the room of this sandbox; it comes back when they end.",
	"rule_not_found":         "\"copyfleet rules list\" shows the rules there are.",
	"secret_not_found":       "\"copyfleet secrets list\" shows the names of the secrets there are.",
	"batch_ended":            "\"copyfleet show BATCH\" tells how it ended; \"copyfleet retry BATCH\" runs its failed items again.",
}

// noDeadLetters is the hint for a redrive that finds nothing, which is no matter of one batch.
func noDeadLetters(err error) error {
	if p := refused(err); p != nil && p.Code == "nothing_to_retry" {
		return hinted(err, "\"copyfleet dead list\" shows the dead letters there are.")
	}
	return err
}

func statusExit(status int) int {
	switch {
	case status == http.StatusNotFound:
		return exitNotFound
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return exitDenied
	case status == http.StatusTooManyRequests, status >= http.StatusInternalServerError:
		return exitTemporary
	}
	return exitUsage
}

// temporary reports whether the same call may do better a little later, and what the API asks to wait before.
func temporary(err error) (time.Duration, bool) {
	e, ok := errors.AsType[*exitError](err)
	if !ok || e.code != exitTemporary {
		return 0, false
	}
	if p, ok := errors.AsType[*problem](err); ok {
		return p.after, true
	}
	return 0, true
}

// refused returns the problem that an error is, nil if it is another.
func refused(err error) *problem {
	p, _ := errors.AsType[*problem](err)
	return p
}
