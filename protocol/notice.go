package protocol

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"time"
)

// SignNotice is the value of Copyfleet-Signature: the time in Unix seconds, and the HMAC-SHA256 (RFC 2104) of that number, a dot and
// the body, in hex. A receiver compares the digest, and refuses a time that is long past.
func SignNotice(secret string, at time.Time, body []byte) string {
	t := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = mac.Write([]byte(t + ".")) // a hash never fails
	_, _ = mac.Write(body)
	return "t=" + t + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}

// DeliveryID names the notice of the end of a batch. It is the same in all attempts, and another for every batch, also for one that
// has the id of one that was removed.
func (a *Acceptance) DeliveryID() string {
	sum := sha256.Sum256([]byte("delivery\x00" + string(a.Org) + "\x00" + string(a.Batch) + "\x00" + a.Created.UTC().Format(time.RFC3339Nano)))
	return hex.EncodeToString(sum[:16])
}
