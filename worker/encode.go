package worker

import (
	"strconv"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// The messages that a worker writes for each item, in the form that encoding/json gives them: a test compares the two. Written
// by hand they cost a tenth.

// appendText appends a string. One that has anything in it that JSON escapes takes the long way.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, err := protocol.Encode(s)
			if err != nil {
				return append(b, `""`...) // a string can always be encoded
			}
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

func appendField(b []byte, name, value string) []byte {
	return appendText(append(b, name...), value)
}

func appendNumber(b []byte, name string, n int64) []byte {
	return strconv.AppendInt(append(b, name...), n, 10)
}

func appendTime(b []byte, name string, t time.Time) []byte {
	b = append(append(b, name...), '"')
	return append(t.AppendFormat(b, time.RFC3339Nano), '"')
}

func appendRef(b []byte, ref protocol.Ref) []byte {
	b = appendField(b, `{"o":`, string(ref.Org))
	b = appendField(b, `,"b":`, string(ref.Batch))
	b = appendNumber(b, `,"i":`, int64(ref.Index))
	if ref.Part != 0 {
		b = appendNumber(b, `,"p":`, int64(ref.Part))
	}
	return append(b, '}')
}

// appendHeld appends a [protocol.HeldClaim].
func appendHeld(b []byte, h *protocol.HeldClaim) []byte {
	b = appendRef(append(b, `{"r":`...), h.Ref)
	b = strconv.AppendUint(append(b, `,"f":`...), h.Fence, 10)
	if h.Crashes != 0 {
		b = appendNumber(b, `,"c":`, int64(h.Crashes))
	}
	if h.Waiting {
		b = append(b, `,"w":true`...)
	}
	return append(b, '}')
}

// appendClaimHead appends a [protocol.Claim] up to its first item.
func appendClaimHead(b []byte, c *claims, written time.Time) []byte {
	b = appendNumber(b, `{"v":`, protocol.ClaimVersion)
	b = appendField(b, `,"worker":`, c.worker)
	b = appendTime(b, `,"written":`, written)
	if c.pool != "" {
		b = appendField(b, `,"pool":`, c.pool)
	}
	if c.slots != 0 {
		b = appendNumber(b, `,"slots":`, int64(c.slots))
	}
	return append(b, `,"held":[`...)
}

// appendReport appends a [protocol.Report].
func appendReport(b []byte, r *protocol.Report) ([]byte, error) {
	receipt := &r.Receipt
	if !plain(receipt) {
		long, err := protocol.Encode(r)
		return append(b, long...), err //nolint:wrapcheck // the caller names the item
	}
	b = appendRef(append(b, `{"ref":`...), r.Ref)
	b = appendNumber(b, `,"total":`, int64(r.Total))
	b = appendField(b, `,"lane":`, string(r.Lane))
	b = appendNumber(b, `,"receipt":{"index":`, int64(receipt.Index))
	for _, f := range [...]struct{ name, value string }{{`,"id":`, receipt.ID}, {`,"state":`, string(receipt.State)}} {
		if f.value != "" {
			b = appendField(b, f.name, f.value)
		}
	}
	b = appendNumber(b, `,"bytes":`, receipt.Bytes)
	for _, f := range [...]struct{ name, value string }{{`,"sha256":`, receipt.SHA256}, {`,"etag":`, receipt.ETag}} {
		if f.value != "" {
			b = appendField(b, f.name, f.value)
		}
	}
	b = strconv.AppendBool(append(b, `,"verified":`...), receipt.Verified)
	a := &receipt.Attempts[0]
	b = appendNumber(b, `,"attempts":[{"number":`, int64(a.Number))
	b = appendField(b, `,"worker":`, a.Worker)
	b = appendTime(b, `,"start":`, a.Start)
	b = appendTime(b, `,"end":`, a.End)
	b = appendNumber(b, `,"bytes":`, a.Bytes)
	if a.Resumes != 0 {
		b = appendNumber(b, `,"resumes":`, int64(a.Resumes))
	}
	b = append(b, `}]`...)
	if receipt.Status != 0 {
		b = appendNumber(b, `,"http_status":`, int64(receipt.Status))
	}
	b = appendNumber(b, `,"resumed_from_bytes":`, receipt.ResumedFrom)
	for _, f := range [...]struct{ name, value string }{
		{`,"restart_reason":`, receipt.RestartReason}, {`,"method":`, receipt.Method},
		{`,"skip_reason":`, receipt.SkipReason}, {`,"trace_id":`, receipt.TraceID},
	} {
		if f.value != "" {
			b = appendField(b, f.name, f.value)
		}
	}
	return append(b, `}}`...), nil
}

// plain reports whether a receipt is as most are: of the first attempt, without a failure, and of no archive.
func plain(r *protocol.Receipt) bool {
	return r.Failure == nil && r.Unpacked == nil && len(r.Attempts) == 1 && r.Attempts[0].Failure == nil && r.RetryAt.IsZero() && r.State != ""
}

// appendBundleHead appends a [protocol.ReportBundle] up to its first report.
func appendBundleHead(b []byte, worker string) []byte {
	b = appendNumber(b, `{"v":`, protocol.ReportVersion)
	return append(appendField(b, `,"worker":`, worker), `,"reports":[`...)
}
