package protocol

import "unicode/utf8"

// Class says what kind of failure it was, apart from what to do about it. Drivers classify; the
// worker decides from class and attempt.
type Class string

// The classes. Those up to Corrupt are permanent: the same attempt would fail again.
const (
	NotFound         Class = "not_found"         // the source is not there
	Denied           Class = "denied"            // credentials are missing, wrong or expired
	Invalid          Class = "invalid"           // the request cannot be carried out as it stands
	Conflict         Class = "conflict"          // the destination is something that may not be replaced
	TooLarge         Class = "too_large"         // beyond a limit of the receiver or of ours
	NoSpace          Class = "no_space"          // the destination is full
	ForbiddenAddress Class = "forbidden_address" // the address guard refused to dial
	Corrupt          Class = "corrupt"           // the bytes are not those that were promised

	Throttled   Class = "throttled"   // the peer asked us to slow down
	Unavailable Class = "unavailable" // the peer failed or cannot be reached
	Timeout     Class = "timeout"     // a named wait passed its limit
	Interrupted Class = "interrupted" // the transfer broke off midway
	Internal    Class = "internal"    // our own fault
	Lost        Class = "lost"        // the workers that ran the item died or lost it
	Canceled    Class = "canceled"    // the caller did not want it any more
)

// Failure tells why an attempt or an item failed. Message is fit for the caller: it names no
// credential, neither does Cause.
type Failure struct {
	Class   Class  `json:"class"`
	Code    string `json:"code"`             // stable, finer than the class: "source_http_404"
	Message string `json:"message"`          // the published text where the page gives one
	Cause   string `json:"cause,omitempty"`  // what lay behind it, for the operator
	Hint    string `json:"hint,omitempty"`   // what the reader may do about it
	Status  int    `json:"status,omitempty"` // HTTP status of the peer; 0: none
	Part    int    `json:"part,omitempty"`   // which part of an item that was moved in parts it was, from 1; 0: none
	Host    string `json:"host,omitempty"`   // whose failure it was: a host, or s3://bucket or the sandbox; "": nobody's
}

// Limits of the texts of a failure, in bytes. They keep a page of receipts below the message limit of a broker (1 MiB by
// default), whatever callers name their files.
const (
	maxMessage        = 1024
	maxCause          = 256
	maxHint           = 256
	maxAttemptMessage = 128
)

// Clipped returns the failure with its texts cut to their limits.
func (f Failure) Clipped() Failure {
	f.Message, f.Cause, f.Hint = clip(f.Message, maxMessage), clip(f.Cause, maxCause), clip(f.Hint, maxHint)
	return f
}

// Brief returns what an attempt keeps of its failure; the receipt has the whole of the last one.
func (f Failure) Brief() Failure {
	return Failure{Class: f.Class, Code: f.Code, Message: clip(f.Message, maxAttemptMessage), Status: f.Status, Part: f.Part}
}

func clip(text string, most int) string {
	if len(text) <= most {
		return text
	}
	end := most - len("…")
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}
