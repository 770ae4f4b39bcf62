package producer

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/copyfleet/copyfleet/producer/uploads"
)

// Code names a kind of refusal. Codes are part of the contract: they are added, never changed.
type Code string

// The codes. problemTable gives each its status and title.
const (
	CodeInvalidJSON         Code = "invalid_json"
	CodeInvalidRequest      Code = "invalid_request"
	CodeInvalidHeader       Code = "invalid_header"
	CodeMixedPools          Code = "mixed_pools"
	CodeBodyIncomplete      Code = "body_incomplete"
	CodeUnauthorized        Code = "unauthorized"
	CodeForbidden           Code = "forbidden"
	CodeWrongOrg            Code = "wrong_org"
	CodeBucketNotGranted    Code = "bucket_not_granted"
	CodeNotFound            Code = "not_found"
	CodeSandboxNotFound     Code = "sandbox_not_found"
	CodeBatchNotFound       Code = "batch_not_found"
	CodeItemNotFound        Code = "item_not_found"
	CodeManifestNotFound    Code = "manifest_not_found"
	CodeBucketNotFound      Code = "bucket_not_found"
	CodeOrgNotFound         Code = "org_not_found"
	CodeGrantNotFound       Code = "grant_not_found"
	CodeKeyNotFound         Code = "key_not_found"
	CodeDeadLetterNotFound  Code = "dead_letter_not_found"
	CodeMethodNotAllowed    Code = "method_not_allowed"
	CodeIdempotencyConflict Code = "idempotency_conflict"
	CodeBatchEnded          Code = "batch_ended"
	CodeBatchCanceling      Code = "batch_canceling"
	CodeNothingToRetry      Code = "nothing_to_retry"
	CodeRerunPending        Code = "rerun_pending"
	CodeRerunTaken          Code = "rerun_taken"
	CodeRerunScattered      Code = "rerun_scattered"
	CodeOwnKey              Code = "own_key"
	CodeBodyTooLarge        Code = "body_too_large"
	CodePlanTooLarge        Code = "plan_too_large"
	CodeUnsupportedMedia    Code = "unsupported_media_type"
	CodeQueueFull           Code = "queue_full"
	CodeInternal            Code = "internal"
	CodeBusy                Code = "busy"
	CodeNotReady            Code = "not_ready"
	CodeNoWorker            Code = "no_worker"
	CodeUnavailable         Code = "unavailable"
	CodeStorageUnavailable  Code = "storage_unavailable"
	CodeShuttingDown        Code = "shutting_down"
	CodeNoSpace             Code = "no_space"
	CodeStillRunning        Code = "still_running"
	CodeBatchOfUpload       Code = "batch_of_upload"
	CodePartOutOfRange      Code = "part_out_of_range"
	CodePartLength          Code = "part_length_wrong"
	CodeUploadNotFound      Code = "upload_not_found"
	CodeStagingQuota        Code = "staging_quota_exceeded"
	CodeTooManyUploads      Code = "too_many_uploads"
	CodePartsMissing        Code = "upload_parts_missing"
	CodeWholeChecksum       Code = "whole_checksum_conflict"
	CodeUploadCompleting    Code = "upload_completing"
	CodeUploadCompleted     Code = "upload_completed"
	CodeUploadAborted       Code = "upload_aborted"
	CodeUploadExpired       Code = "upload_expired"
	CodeUploadURLExpired    Code = "upload_url_expired"
	CodeLengthRequired      Code = "length_required"
	CodeUploadTooLarge      Code = "upload_too_large"
	CodePartChecksum        Code = "part_checksum_mismatch"
	CodeUploadFailed        Code = "upload_failed"
	CodeTooManyParts        Code = "too_many_parts_at_once"
	CodeUploadNotPublished  Code = "upload_not_published"
	CodeEventMalformed      Code = "event_malformed"
	CodeEventsFull          Code = "events_full"
	CodeRuleInvalid         Code = "rule_invalid"
	CodeRuleNotFound        Code = "rule_not_found"
	CodeSecretNotFound      Code = "secret_not_found"
	CodeTooManyRules        Code = "too_many_rules"
	CodeNotSweepable        Code = "rule_not_sweepable"
)

type problemKind struct {
	status int
	title  string
}

// problemTable is the one place where a code gets its status.
var problemTable = map[Code]problemKind{
	CodeInvalidJSON:         {400, "The body is not valid JSON"},
	CodeInvalidRequest:      {400, "The request is not valid"},
	CodeInvalidHeader:       {400, "A request header is not valid"},
	CodeMixedPools:          {400, "The sandboxes are reached by different workers"},
	CodeBodyIncomplete:      {400, "The body ended early"},
	CodePartOutOfRange:      {400, "The upload has no such part"},
	CodePartLength:          {400, "The part has another length"},
	CodeRuleInvalid:         {400, "The rules are not valid"},
	CodeEventMalformed:      {400, "The notification cannot be read"},
	CodeUnauthorized:        {401, "A valid API key is required"},
	CodeForbidden:           {403, "The API key may not do this"},
	CodeWrongOrg:            {403, "The API key belongs to another org"},
	CodeBucketNotGranted:    {403, "The org may not use this bucket"},
	CodeNotFound:            {404, "Not found"},
	CodeSandboxNotFound:     {404, "Sandbox not found"},
	CodeBatchNotFound:       {404, "Batch not found"},
	CodeItemNotFound:        {404, "Item not found"},
	CodeBucketNotFound:      {404, "Bucket not found"},
	CodeManifestNotFound:    {404, "Manifest not found"},
	CodeOrgNotFound:         {404, "Org not found"},
	CodeGrantNotFound:       {404, "Grant not found"},
	CodeKeyNotFound:         {404, "API key not found"},
	CodeDeadLetterNotFound:  {404, "Dead letter not found"},
	CodeRuleNotFound:        {404, "Rule not found"},
	CodeSecretNotFound:      {404, "Secret not found"},
	CodeUploadNotFound:      {404, "Upload session not found"},
	CodeMethodNotAllowed:    {405, "Method not allowed"},
	CodeIdempotencyConflict: {409, "The idempotency key was used for another request"},
	CodeTooManyRules:        {409, "The org has as many rules or secrets as it may"},
	CodeNotSweepable:        {409, "The rule has no bucket"},
	CodeBatchOfUpload:       {409, "The batch publishes an upload session"},
	CodeBatchEnded:          {409, "The batch has ended"},
	CodeBatchCanceling:      {409, "The batch is being canceled"},
	CodeNothingToRetry:      {409, "No item is to be run again"},
	CodeRerunPending:        {409, "Another rerun is taking the items"},
	CodeRerunTaken:          {409, "Another rerun has taken the items"},
	CodeRerunScattered:      {409, "The items are too scattered"},
	CodeOwnKey:              {409, "An API key cannot revoke itself"},
	CodeStagingQuota:        {409, "The staging quota of the sandbox is taken"},
	CodeTooManyUploads:      {409, "The sandbox has too many upload sessions"},
	CodePartsMissing:        {409, "Parts are missing"},
	CodeWholeChecksum:       {409, "Another checksum was given before"},
	CodeUploadCompleting:    {409, "The upload is being published"},
	CodeUploadCompleted:     {409, "The upload is published"},
	CodeUploadAborted:       {409, "The upload was aborted"},
	CodeUploadExpired:       {410, "The upload expired"},
	CodeUploadURLExpired:    {410, "The upload URL expired"},
	CodeLengthRequired:      {411, "A Content-Length is required"},
	CodeUploadTooLarge:      {413, "The upload is too large"},
	CodeBodyTooLarge:        {413, "The body is too large"},
	CodePlanTooLarge:        {413, "The plan is too large"},
	CodeUnsupportedMedia:    {415, "Unsupported media type"},
	CodePartChecksum:        {422, "The body has another checksum"},
	CodeUploadFailed:        {422, "The upload failed"},
	CodeTooManyParts:        {429, "Too many parts of the upload are sent at once"},
	CodeQueueFull:           {429, "The queue is full"},
	CodeInternal:            {500, "Internal error"},
	CodeBusy:                {503, "The server is busy"},
	CodeNotReady:            {503, "Not ready"},
	CodeNoWorker:            {503, "No worker runs"},
	CodeUnavailable:         {503, "A service behind the API is unavailable"},
	CodeStorageUnavailable:  {503, "The storage is unavailable"},
	CodeNoSpace:             {503, "The disk is nearly full"},
	CodeUploadNotPublished:  {503, "The upload is not published yet"},
	CodeEventsFull:          {503, "The queue of events is full"},
	CodeShuttingDown:        {503, "The server is shutting down"},
	CodeStillRunning:        {504, "The batch is still running"},
}

// FieldError is one problem of the input.
type FieldError struct {
	Pointer string `json:"pointer"`        // RFC 6901, into the body; "" is the whole of it
	Code    string `json:"code"`           // stable
	Message string `json:"message"`        // one sentence; never holds a URL, a header value or a form value
	Line    int    `json:"line,omitempty"` // of a manifest, from 1; 0: the body is no manifest
}

// Problem is the body of every error answer (RFC 9457). Beside the standard members it has code and message,
// which SDKs read.
type Problem struct {
	Type     string       `json:"type"`
	Title    string       `json:"title"`
	Status   int          `json:"status"`
	Detail   string       `json:"detail"`
	Instance string       `json:"instance,omitempty"`
	Code     Code         `json:"code"`
	Message  string       `json:"message"`
	Errors   []FieldError `json:"errors,omitempty"`       // at most [MaxProblems]
	Total    int          `json:"errors_total,omitempty"` // how many there were; at least so many where reading stopped at [MaxProblems]
	Checks   []Check      `json:"checks,omitempty"`       // not_ready: every check that failed

	Missing    []uploads.Range `json:"missing_parts,omitempty"`           // upload_parts_missing: at most [maxMissingShown]
	MissingCut bool            `json:"missing_parts_truncated,omitempty"` // there are more

	retryAfter int // seconds; 0: [defaultRetryAfter] where the status asks for the header
}

// defaultRetryAfter is the Retry-After in seconds of an answer that has no better figure.
const defaultRetryAfter = 1

// maxInstance bounds the path that an answer repeats, in bytes.
const maxInstance = 512

// newProblem returns the problem of a code. The message is for the caller; it must hold no secret.
func newProblem(code Code, message string) Problem {
	kind, ok := problemTable[code]
	if !ok {
		code, kind = CodeInternal, problemTable[CodeInternal]
	}
	return Problem{
		Type:    "urn:problem-type:copyfleet:" + string(code),
		Title:   kind.title,
		Status:  kind.status,
		Detail:  message,
		Code:    code,
		Message: message,
	}
}

// writeProblem answers with a problem. The caller has written nothing yet.
func writeProblem(w http.ResponseWriter, r *http.Request, p Problem) {
	// Problems end up in logs. A path that is none of ours may be a mistyped one that has a token in it.
	if path := r.URL.EscapedPath(); len(path) <= maxInstance && !carriesToken(r.Pattern) {
		p.Instance = path
	}
	if p.Status == http.StatusTooManyRequests || p.Status == http.StatusServiceUnavailable {
		wait := p.retryAfter
		if wait <= 0 {
			wait = defaultRetryAfter
		}
		w.Header().Set("Retry-After", strconv.Itoa(wait))
	}
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="copyfleet"`)
	}
	writeBody(w, p.Status, "application/problem+json", p)
}

// carriesToken reports whether the paths of a route may have a credential in them. What no route was found for has the pattern "", or "/".
func carriesToken(pattern string) bool {
	return pattern == "" || pattern == "/" || strings.HasPrefix(pattern, directPath)
}

// writeJSON answers with a value that encodes without fail: all answers are plain structs.
func writeJSON(w http.ResponseWriter, status int, v any) {
	writeBody(w, status, "application/json", v)
}

func writeBody(w http.ResponseWriter, status int, contentType string, v any) {
	writeEncoded(w, status, contentType, encodeBody(v))
}

func encodeBody(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // a signed URL stays readable; nosniff keeps it from being HTML
	if err := enc.Encode(v); err != nil {
		panic(err) //nolint:forbidigo // plain structs always encode; else it becomes a 500 in the recovery; nothing is written yet
	}
	return b.Bytes()
}

func writeEncoded(w http.ResponseWriter, status int, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client is gone: there is nobody left to tell
}

// problems collects what is wrong with a request.
type problems struct {
	list  []FieldError
	total int
	line  int  // that is being read
	open  bool // reading stopped at [MaxProblems]: there may be more
}

func (p *problems) add(pointer, code, message string) {
	p.total++
	if len(p.list) < MaxProblems {
		p.list = append(p.list, FieldError{pointer, code, message, p.line})
	}
}

// problem returns the answer for what was collected. Its message names the first one, because
// SDKs show the message only. There is at least one.
func (p *problems) problem(code Code) *Problem {
	first := p.list[0]
	where := first.Pointer
	if where == "" {
		where = "the body"
	}
	message := where + ": " + first.Message
	total := p.total
	switch {
	case p.open:
		total = len(p.list)
		message = strings.TrimSuffix(message, ".") + " (at least " + strconv.Itoa(total) + " problems; reading stopped there)."
	case total > 1:
		message = strings.TrimSuffix(message, ".") + " (and " + strconv.Itoa(total-1) + " more)."
	}
	out := newProblem(code, message)
	out.Errors, out.Total = p.list, total
	return &out
}

// full reports that so much is wrong that nothing more is to be read.
func (p *problems) full() bool {
	p.open = p.open || p.total >= MaxProblems
	return p.open
}

// withoutURL returns an error fit for the log: net/http's url.Error prints the whole URL with its signature.
func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return errors.Join(errors.New(strings.ToLower(e.Op)), e.Err)
	}
	return err
}

// pointer appends a member name to a JSON pointer (RFC 6901), shortened so that an answer does not repeat
// megabytes of what was sent.
func pointer(base, name string) string {
	const most = 128
	if len(name) > most {
		name = strings.ToValidUTF8(name[:most], "") + "…"
	}
	return base + "/" + pointerEscaper.Replace(name)
}

var pointerEscaper = strings.NewReplacer("~", "~0", "/", "~1")
