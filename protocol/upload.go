package protocol

import (
	"strconv"
	"time"
)

// A client with a poor connection uploads a file, or a directory as an archive, in parts. The parts of a session are staged as the parts of
// one multipart upload in a bucket of the fleet's own. What became of each part is told as an [UploadReport]; the aggregator keeps them
// in [UploadPage]s and an [UploadProgress]. When all parts are there, the session is published: a batch of one item has a worker
// put them together and copy the whole to where it belongs.

// UploadID names an upload session. It follows from the org, the sandbox and the idempotency key of its creation.
type UploadID string

// UploadState is the state of a session as it is stored. What callers see follows from it, the parts that are there, and the time.
type UploadState string

// The states. The last four are final.
const (
	UploadCreating   UploadState = "creating" // quota is reserved; the multipart upload may not have been begun
	UploadOpen       UploadState = "open"     // parts are taken
	UploadCompleting UploadState = "completing"
	UploadCompleted  UploadState = "completed"
	UploadAborted    UploadState = "aborted"
	UploadExpired    UploadState = "expired"
	UploadFailed     UploadState = "failed"
)

// Final reports whether a session in this state never changes its state again.
func (s UploadState) Final() bool {
	return s == UploadCompleted || s == UploadAborted || s == UploadExpired || s == UploadFailed
}

// UploadKind is what is uploaded.
type UploadKind string

// The kinds. The values are those of the published API.
const (
	UploadFile UploadKind = "file"
	UploadTree UploadKind = "directory_tar"
)

// UploadSource is where a client has the bytes from. It is kept for those who ask; the server treats all alike.
type UploadSource string

// The sources. The values are those of the published API.
const (
	UploadRestartable UploadSource = "restartable_file"
	UploadSpooled     UploadSource = "spooled_stream"
	UploadArchive     UploadSource = "directory_archive"
)

// UploadConflict is what a session does about something that is there already. The values are those of the published API.
type UploadConflict string

// The policies.
const (
	UploadMerge   UploadConflict = "merge"   // files are replaced one by one; of a single file: the same as replace
	UploadReplace UploadConflict = "replace" // what was there is not any more
	UploadError   UploadConflict = "error"   // nothing changes if something is there
)

// Upload is the record of a session. Every change of it is made with the revision that was read.
type Upload struct {
	Version int       `json:"v"`
	ID      UploadID  `json:"id"`
	Org     OrgID     `json:"org"`
	Sandbox SandboxID `json:"sandbox"`
	Pool    string    `json:"pool"`
	Request string    `json:"request"` // hex SHA-256 of what creation asked for; another request under the same key is refused

	Kind       UploadKind     `json:"kind"`
	Source     UploadSource   `json:"source_kind"`
	TargetPath string         `json:"target_path"` // absolute in the sandbox, and clean
	Length     int64          `json:"content_length"`
	PartSize   int64          `json:"part_size"`  // bytes of every part but the last
	PartCount  int            `json:"part_count"` // 0: the content has no bytes
	Conflict   UploadConflict `json:"conflict"`
	User       string         `json:"user,omitempty"`
	Archive    string         `json:"archive_format,omitempty"`
	Whole      string         `json:"whole_checksum_sha256,omitempty"` // lowercase hex
	Metadata   []byte         `json:"metadata,omitempty"`              // JSON, byte for byte as it came
	// Direct says that the content comes in one request to a signed URL: it is staged as an object, without parts. Length is what the request
	// announced until it has come.
	Direct bool `json:"direct,omitempty"`

	// Bucket and Key are where it is staged, Multipart what the store calls the multipart upload; "": there is none (yet).
	Bucket    string `json:"bucket"`
	Key       string `json:"key"`
	Multipart string `json:"multipart,omitempty"`

	State UploadState `json:"state"`
	// Generation counts how often it was begun to publish, and Batch is the batch that does so.
	Generation int     `json:"generation,omitempty"`
	Batch      BatchID `json:"batch,omitempty"`
	// Withdrawn says that the session is to be aborted, and was while nobody had accepted its batch: a worker that reads it from then on publishes nothing.
	Withdrawn bool     `json:"withdrawn,omitempty"`
	Failure   *Failure `json:"failure,omitempty"` // why it failed, or why publishing has to be asked for again

	PublishedBytes int64 `json:"published_bytes,omitempty"`
	PublishedFiles int   `json:"published_file_count,omitempty"`

	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"` // of the record; parts have their own
	Expires time.Time `json:"expires"`
	Ended   time.Time `json:"ended,omitzero"`
	// Have is what [UploadProgress.Have] was when the session ended without being published, though nothing is staged any more: the progress itself
	// is not kept.
	Have []byte `json:"have,omitempty"`
	// Cleaned says that nothing is left of an ended session but this record.
	Cleaned bool `json:"cleaned,omitempty"`
}

// UploadVersion is the version of the records of sessions that this build writes.
const UploadVersion = 1

// Span tells where a part stands in the content. Parts are numbered from 0.
func (u *Upload) Span(number int) (offset, size int64) {
	offset = int64(number) * u.PartSize
	return offset, min(u.PartSize, u.Length-offset)
}

// UploadQuota is how much of a sandbox's staging quota is taken, and by which sessions. It changes together with their records.
type UploadQuota struct {
	Version  int              `json:"v"`
	Reserved []ReservedUpload `json:"reserved"`
}

// ReservedUpload is the share of a session.
type ReservedUpload struct {
	ID    UploadID `json:"id"`
	Bytes int64    `json:"bytes"`
	// Expires is when the session does, so that a full quota tells which sessions are worth a look.
	Expires time.Time `json:"expires"`
}

// Sum is the number of bytes that are taken.
func (q *UploadQuota) Sum() int64 {
	var sum int64
	for _, r := range q.Reserved {
		sum += r.Bytes
	}
	return sum
}

// UploadPart is what is known of a part of a session: the last word on it.
type UploadPart struct {
	Number   int    `json:"n"` // from 0
	Size     int64  `json:"size"`
	SHA256   string `json:"sha256,omitempty"`   // lowercase hex, of the bytes that were stored
	ETag     string `json:"etag,omitempty"`     // as the store told it, without quotes
	Checksum string `json:"checksum,omitempty"` // as storage.PartStored has it
	// Stored is when the store had it. Of two words on a part the later one counts, and of two at the same time that with the greater ETag.
	Stored time.Time `json:"stored"`
	// Lost says that the store does not have it, or has something else in its place: it is missing.
	Lost bool `json:"lost,omitempty"`
}

// UploadReport is the news of a part on its way to the aggregator.
type UploadReport struct {
	Org       OrgID      `json:"o"`
	Sandbox   SandboxID  `json:"s"`
	Upload    UploadID   `json:"u"`
	Multipart string     `json:"m"` // reports of another multipart upload than the session's do not count
	Part      UploadPart `json:"p"`
}

// UploadPage holds what is known of parts, from PageSize*page on, in order.
type UploadPage struct {
	Version   int          `json:"v"`
	Multipart string       `json:"multipart"`
	Parts     []UploadPart `json:"parts"`
}

// UploadProgress tells which parts are there. It changes together with the pages.
type UploadProgress struct {
	Version int       `json:"v"`
	Have    []byte    `json:"have"`    // a bit a part, the lowest bit of the first byte is part 0; bits beyond are 0
	Updated time.Time `json:"updated"` // when the newest change of a part was stored
}

// Has reports whether a part is there.
func (p *UploadProgress) Has(number int) bool {
	return number>>3 < len(p.Have) && p.Have[number>>3]&(1<<(number&7)) != 0
}

// Set notes that a part is there, or is not.
func (p *UploadProgress) Set(number int, there bool) {
	for len(p.Have) <= number>>3 {
		p.Have = append(p.Have, 0)
	}
	if there {
		p.Have[number>>3] |= 1 << (number & 7)
	} else {
		p.Have[number>>3] &^= 1 << (number & 7)
	}
}

// Keys of the upload bucket.
const (
	UploadSessionEnd  = ".session"
	UploadProgressEnd = ".progress"
	UploadQuotaEnd    = ".quota"
)

func sandboxKey(org OrgID, sandbox SandboxID) string {
	return Token(string(org)) + "." + Token(string(sandbox))
}

func uploadKey(org OrgID, sandbox SandboxID, id UploadID) string {
	return sandboxKey(org, sandbox) + "." + Token(string(id))
}

// UploadSessionKey is the key of an [Upload].
func UploadSessionKey(org OrgID, sandbox SandboxID, id UploadID) string {
	return uploadKey(org, sandbox, id) + UploadSessionEnd
}

// UploadSessionFilter matches the sessions of a sandbox; with an empty org and sandbox, all sessions.
func UploadSessionFilter(org OrgID, sandbox SandboxID) string {
	if org == "" && sandbox == "" {
		return "*.*.*" + UploadSessionEnd
	}
	return sandboxKey(org, sandbox) + ".*" + UploadSessionEnd
}

// UploadProgressKey is the key of an [UploadProgress].
func UploadProgressKey(org OrgID, sandbox SandboxID, id UploadID) string {
	return uploadKey(org, sandbox, id) + UploadProgressEnd
}

// UploadPageKey is the key of an [UploadPage]. Pages are numbered from 0.
func UploadPageKey(org OrgID, sandbox SandboxID, id UploadID, page int) string {
	return uploadKey(org, sandbox, id) + ".page." + strconv.Itoa(page)
}

// UploadPageFilter matches the pages of a session.
func UploadPageFilter(org OrgID, sandbox SandboxID, id UploadID) string {
	return uploadKey(org, sandbox, id) + ".page.*"
}

// UploadQuotaKey is the key of an [UploadQuota].
func UploadQuotaKey(org OrgID, sandbox SandboxID) string {
	return sandboxKey(org, sandbox) + UploadQuotaEnd
}

// UploadChanged is where the aggregator tells, over core NATS, that parts of a session are in KV.
func UploadChanged(org OrgID, sandbox SandboxID, id UploadID) string {
	return UploadSubject + uploadKey(org, sandbox, id)
}
