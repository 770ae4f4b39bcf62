package triggers

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/copyfleet/copyfleet/producer/events"
	"github.com/copyfleet/copyfleet/producer/rules"
	"github.com/copyfleet/copyfleet/protocol"
)

// recordVersion is the version of journal records. One that is newer is not read: the org waits for a process that can.
const recordVersion = 1

// record is what one round decided on. What it says holds from when it is durable in the journal.
type record struct {
	Version int       `json:"v"`
	Journal string    `json:"journal"` // its name, the same in all records
	N       uint64    `json:"n"`       // of the org, from 1, without a gap
	At      time.Time `json:"at"`

	// Through is the sequence of the notification up to which all is decided but what is parked. Of the one that Partial names some is.
	Through uint64   `json:"through"`
	Partial *partial `json:"partial,omitempty"`
	Parked  []parked `json:"parked,omitempty"` // all that are, in order

	Rules      []string  `json:"rules,omitempty"` // the names that decisions refer to by index
	Copies     []copied  `json:"copies,omitempty"`
	Refused    []refused `json:"refused,omitempty"`
	Superseded []hash    `json:"superseded,omitempty"` // fingerprints: a repetition of such an event is a duplicate
	Batches    []batched `json:"batches,omitempty"`

	// Counts are those of all rules that the record is about, from the beginning. A record that stands first in its journal has those of all.
	Counts   map[string]Counts           `json:"counts,omitempty"`
	Problems map[string][]Trouble        `json:"problems,omitempty"` // of all rules, in a record that may stand first; those of its own are in Refused
	Newest   map[string]protocol.BatchID `json:"newest,omitempty"`   // as Problems: the newest batch of each rule
	Sweeps   map[string]*sweepState      `json:"sweeps,omitempty"`   // by rule: sweeps that are under way, all

	// Submitted is the number of the last record all of whose batches were accepted, and those of all before it.
	Submitted uint64 `json:"submitted"`
}

// partial says that of a notification the events before one are decided, and of that one perhaps for some rules.
type partial struct {
	Seq   uint64 `json:"seq"`
	Event int    `json:"event"` // from 0
}

// parked is an event that waits, for one rule, until an earlier copy to the same destination has ended.
type parked struct {
	Seq   uint64 `json:"s"`
	Event int    `json:"e,omitempty"`
	Rule  string `json:"r"`
}

// copied is a copy that is asked for.
type copied struct {
	Rule      int    `json:"r"`
	Print     hash   `json:"p"`
	Source    hash   `json:"s"` // zero: it is no object
	Dest      hash   `json:"d"`
	Sequencer string `json:"q,omitempty"`
	ETag      hash   `json:"e"`           // of the source; zero: not told
	Time      int64  `json:"t,omitempty"` // of the event, in ns since 1970; 0: not told
	Swept     int64  `json:"w,omitempty"` // when the listing was stored that it comes from, in ns; 0: from none
	Batch     int    `json:"b"`           // among the batches of the record
	Index     int    `json:"i"`           // of the item
}

// refused is an event of which no copy is made though its rule matched.
type refused struct {
	Rule    int       `json:"r"`
	Print   hash      `json:"p"`
	At      time.Time `json:"at"`
	Event   string    `json:"event"`
	Code    string    `json:"code"`
	Message string    `json:"message"`
}

func (r *refused) trouble() Trouble {
	return Trouble{At: r.At, Event: r.Event, Code: r.Code, Message: r.Message}
}

// batched is a batch that is submitted once its record is durable.
type batched struct {
	Rule    string           `json:"rule"`
	Version int              `json:"version"`
	Pool    string           `json:"pool"`
	Options rules.Options    `json:"options"`
	ID      protocol.BatchID `json:"id"`
	Items   []byte           `json:"items"` // [protocol.Sealer.SealPage]
}

// sweepState is a sweep as far as it was decided on.
type sweepState struct {
	ID    string     `json:"id"`
	Tally sweepTally `json:"tally"`
	Ended bool       `json:"ended,omitempty"` // its end mark was read
}

// batchID names a batch by its place in the journal, so that it is the same batch whoever submits it, and how often. A journal that was begun anew, after it
// was lost, counts from 1 again: its own name keeps its batches apart from those that are there already.
func batchID(org protocol.OrgID, journal, rule string, n uint64, k int) protocol.BatchID {
	return protocol.KeyedBatchID(org, "rule\x00"+journal+"\x00"+rule+"\x00"+strconv.FormatUint(n, 10)+"\x00"+strconv.Itoa(k))
}

// hash tells things apart without their text. The zero value stands for nothing.
type hash [16]byte

// hashOf hashes texts so that no other ones give the same, whatever is in them.
func hashOf(parts ...string) hash {
	var buf [512]byte
	text := buf[:0]
	for _, p := range parts {
		text = strconv.AppendInt(text, int64(len(p)), 10)
		text = append(text, ':')
		text = append(text, p...)
	}
	sum := sha256.Sum256(text)
	return hash(sum[:16])
}

// MarshalText implements encoding.TextMarshaler.
func (h hash) MarshalText() ([]byte, error) {
	if h == (hash{}) {
		return nil, nil
	}
	return base64.RawStdEncoding.AppendEncode(nil, h[:]), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *hash) UnmarshalText(text []byte) error {
	*h = hash{}
	if len(text) == 0 {
		return nil
	}
	if len(text) != base64.RawStdEncoding.EncodedLen(len(h)) {
		return fmt.Errorf("a fingerprint of %d characters", len(text))
	}
	_, err := base64.RawStdEncoding.Decode(h[:], text)
	return err //nolint:wrapcheck // says what is wrong
}

// fingerprint tells an event from all others that a rule decides on.
func fingerprint(rule string, e *events.Event) hash { return hashOf(rule, e.Identity()) }

// sourceOf names the object of an event, for a rule. It is zero if the event is about none.
func sourceOf(rule string, e *events.Event) hash {
	if e.Source == events.CloudEvents {
		return hash{}
	}
	return hashOf(rule, e.Bucket, e.Key)
}

func etagOf(e *events.Event) hash {
	if e.ETag == "" {
		return hash{}
	}
	return hashOf(e.ETag)
}

func nanoOf(e *events.Event) int64 {
	if e.Time.IsZero() {
		return 0
	}
	return e.Time.UnixNano()
}

func (r *record) encode() ([]byte, error) {
	r.Version = recordVersion
	text, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode record %d: %w", r.N, err)
	}
	return text, nil
}

func decodeRecord(text []byte) (*record, error) {
	var r record
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("read a record of the journal: %w", err)
	}
	if r.Version != recordVersion {
		return nil, fmt.Errorf("record %d of the journal has version %d; this process knows version %d", r.N, r.Version, recordVersion)
	}
	return &r, nil
}
