package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
)

// The retries of a notice: 5 s after the first attempt, three times as long after each further one, at most an hour. A receiver may
// be away for some hours.
const (
	noticeAttempts    = 12
	noticeBackoff     = 5 * time.Second
	noticeBackoffMost = time.Hour
	noticeGrowth      = 3

	noticeReads   = 5 * time.Second // for the records of the batch
	noticeExcerpt = 128             // bytes of a refusal that are kept
	noticeSecret  = 6               // from so many bytes on a value in a URL may be a credential
	noticeStart   = 16              // bytes of one by which it is found again
)

// notices bounds how many notices run at once: receivers that hang must not take the slots of those who wait for an answer.
type notices struct {
	mu   sync.Mutex
	free int
}

const (
	noticeShare = 8               // of the slots, one in so many, and at least one
	noticeCrowd = 2 * time.Second // until a notice for which there was no room is looked at again, here or elsewhere
)

func newNotices(slots int) *notices { return &notices{free: max(1, slots/noticeShare)} }

// admit takes room for a notice and reports whether there was any. What is no notice needs none.
func (n *notices) admit(work *protocol.Work) bool {
	if work.Kind != protocol.KindWebhook {
		return true
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.free == 0 {
		return false
	}
	n.free--
	return true
}

// leave gives the room back that admit took.
func (n *notices) leave(work *protocol.Work) {
	if work.Kind != protocol.KindWebhook {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.free++
}

// leaveSlot gives back the slot of an admitted item, and what else was taken with it.
func (w *Worker) leaveSlot(j *job) {
	w.notices.leave(&j.work)
	w.slots.give(j.bulk())
}

// notifier posts a small body; package storage/http has one.
type notifier interface {
	Notify(ctx context.Context, url string, headers map[string]string, body []byte) (storage.Answer, error)
}

// errUnwanted is why something is dropped without a word: what it belongs to was removed, or it has its outcome.
var errUnwanted = errors.New("nobody waits for it any more")

// notify tells who asked for it that a batch has ended. It holds its slot for the time of one POST.
func (w *Worker) notify(ctx context.Context, j *job) (copied, error) {
	record, summary, err := w.ended(ctx, &j.work)
	if err != nil {
		return copied{}, err
	}
	target, err := w.noticeTarget(&record)
	if err != nil {
		return copied{}, err
	}
	body, err := protocol.Encode(noticeOf(&record, &summary))
	if err != nil {
		return copied{}, fmt.Errorf("notify of %s: %w", j.work.Batch, err)
	}
	n, ok := w.copier.drivers.HTTP.(notifier)
	if !ok {
		return copied{}, storage.Errorf(storage.Internal, "webhook_unsupported", "notify", "", "this worker cannot deliver notices")
	}
	headers := map[string]string{
		"Content-Type":       "application/json",
		"Copyfleet-Batch":    string(record.Batch),
		"Copyfleet-Delivery": record.DeliveryID(),
		"Copyfleet-Attempt":  strconv.Itoa(len(j.work.Attempts) + 1),
	}
	if target.Secret != "" {
		headers["Copyfleet-Signature"] = protocol.SignNotice(target.Secret, time.Now(), body)
	}
	answer, err := n.Notify(ctx, target.URL, headers, body)
	if err != nil {
		err = &placedError{host: hostOf(protocol.Location{Type: protocol.HTTPPut, URL: target.URL}), err: refused(target, answer, err)}
	}
	if err == nil {
		failpoint.Hit(failpoint.NoticeSent)
	}
	return copied{status: answer.Status}, err
}

// ended reads what is to be told. A batch that was removed, or whose notice has its outcome, is told nobody.
func (w *Worker) ended(ctx context.Context, work *protocol.Work) (protocol.Acceptance, protocol.Summary, error) {
	ctx, cancel := context.WithTimeout(ctx, noticeReads)
	defer cancel()
	var record protocol.Acceptance
	var summary protocol.Summary
	if err := w.read(ctx, protocol.AcceptKey(work.Org, work.Batch), &record); err != nil {
		return record, summary, err
	}
	if err := w.read(ctx, protocol.SummaryKey(work.Org, work.Batch), &summary); err != nil {
		return record, summary, err
	}
	switch {
	case record.Options.Webhook == nil:
		return record, summary, fmt.Errorf("notice of %s: %w", work.Batch, errUnwanted)
	case summary.Webhook != nil && (summary.Webhook.State.Final() || len(summary.Webhook.Attempts) > len(work.Attempts)):
		// It has its outcome; or this attempt was made before, and the next one is planned.
		return record, summary, fmt.Errorf("notice of %s: %w", work.Batch, errUnwanted)
	case !summary.State.Final():
		return record, summary, storage.Errorf(storage.Unavailable, "webhook_early", "notify", string(work.Batch), "the batch has not ended yet")
	}
	return record, summary, nil
}

func (w *Worker) read(ctx context.Context, key string, into any) error {
	entry, err := w.claims.batches.Get(ctx, key)
	if errors.Is(err, broker.ErrNotFound) {
		return fmt.Errorf("notice: read %s: %w", key, errUnwanted)
	}
	if err != nil {
		return storage.Errorf(storage.Unavailable, "webhook_unread", "notify", key, "the records of the batch cannot be read")
	}
	if err := json.Unmarshal(entry.Value, into); err != nil {
		return fmt.Errorf("notice: read %s: %w", key, err)
	}
	return nil
}

func (w *Worker) noticeTarget(record *protocol.Acceptance) (protocol.WebhookTarget, error) {
	var target protocol.WebhookTarget
	text, err := w.sealer.OpenText(record.Org, record.Batch, record.Options.Webhook.Sealed)
	if err == nil {
		err = json.Unmarshal([]byte(text), &target)
	}
	if err != nil {
		return target, &failureError{protocol.Failure{
			Class: protocol.Invalid, Code: "seal_unreadable", Message: "This worker cannot read where the notice goes",
			Hint: "Give every role the same COPYFLEET_SEAL_KEY, or none.", // the cause may quote the target
		}}
	}
	return target, nil
}

// refused adds to an error what the receiver said, if that is fit to be shown.
func refused(target protocol.WebhookTarget, answer storage.Answer, err error) error {
	e, ok := errors.AsType[*storage.Error](err)
	text := excerpt(target, answer.Excerpt)
	if !ok || text == "" {
		return err
	}
	said := *e
	said.StatusText = strings.TrimSpace(said.StatusText + ": " + text)
	return &said
}

// excerpt is what a receipt shows of an answer: its first 128 bytes as one line, or nothing if it repeats what may be a credential.
func excerpt(target protocol.WebhookTarget, answer []byte) string {
	whole := string(answer)
	for _, secret := range secretsOf(target) {
		// Its beginning tells it: the rest may be beyond what was read of the answer, or escaped.
		if strings.Contains(whole, secret[:min(len(secret), noticeStart)]) {
			return ""
		}
	}
	text := whole
	if len(text) > noticeExcerpt {
		text = text[:noticeExcerpt]
		for !utf8.ValidString(text) && len(text) > noticeExcerpt-utf8.UTFMax {
			text = text[:len(text)-1]
		}
	}
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || !unicode.IsPrint(r) || r == utf8.RuneError {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, " "))
	return strings.Join(strings.Fields(text), " ")
}

// secretsOf lists what an answer must not repeat: the secret, and the query of the URL in each form in which a server may print it.
func secretsOf(target protocol.WebhookTarget) []string {
	var list []string
	if target.Secret != "" {
		list = append(list, target.Secret)
	}
	u, err := url.Parse(target.URL)
	if err != nil || u.RawQuery == "" {
		return list
	}
	list = append(list, u.RawQuery)
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		name, raw, _ := strings.Cut(pair, "=")
		for _, value := range []string{name, raw} {
			if len(value) >= noticeSecret {
				list = append(list, value)
			}
			if plain, err := url.QueryUnescape(value); err == nil && len(plain) >= noticeSecret {
				list = append(list, plain)
			}
		}
	}
	return list
}

// decide is what becomes of a piece of work after a failed attempt.
func (j *job) decide(res *result) verdict {
	if j.work.Kind == protocol.KindWebhook {
		return decideNotice(res.failure, res.attempt.Number)
	}
	return decideFailure(res.failure, res.unsure, res.attempt.Number, j.maxAttempts())
}

// decideNotice is the retry policy of notices. Receivers are often misconfigured for a while, so nearly everything is tried again;
// not what the receiver calls gone, nor what could not be sent at all.
func decideNotice(failure *protocol.Failure, attempt int) verdict {
	switch {
	case failure.Status == http.StatusGone, attempt >= noticeAttempts:
		return giveUp
	case failure.Status == 0 && (failure.Class == protocol.Invalid || failure.Class == protocol.ForbiddenAddress):
		return giveUp
	}
	return retry
}

// backoff is how long to wait before the next attempt.
func (j *job) backoff(res *result) time.Duration {
	if j.work.Kind == protocol.KindWebhook {
		return noticeWait(res.attempt.Number, res.retryAfter)
	}
	return backoff(res.attempt.Number, res.retryAfter)
}

// noticeWait is how long to wait after an attempt at a notice: between a half and the whole of its step, and at least what the receiver
// asked for, up to an hour.
func noticeWait(attempt int, retryAfter time.Duration) time.Duration {
	step := noticeBackoff
	for range attempt - 1 {
		if step = min(step*noticeGrowth, noticeBackoffMost); step == noticeBackoffMost {
			break
		}
	}
	wait := step/2 + rand.N(step/2) //nolint:gosec // jitter needs no secrecy
	return max(wait, min(retryAfter, noticeBackoffMost))
}

func (j *job) watched() *protocol.Work { return &j.work }

// status is the HTTP status of the last answer of a peer, 0 if there was none.
func (r *result) status() int {
	if r.failure != nil && r.failure.Status != 0 {
		return r.failure.Status
	}
	return r.copied.status
}
