package join

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/loadtest"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
)

// Protocol is the version of what generators and coordinators say to each other. Both must have the same.
const Protocol = 1

// hello is a generator's answer to a roll call. Its fields keep their meaning in every version of the protocol, so that generators of another one are told
// apart. It is not sealed: one of another key is to be told apart, too.
type hello struct {
	ID       string `json:"id"`   // of the process, random
	Name     string `json:"name"` // for people
	Version  string `json:"version"`
	Protocol int    `json:"protocol"`
	Key      string `json:"key"`             // the id of its sealing key
	Lease    string `json:"lease,omitempty"` // that the next coordinator may take
	Taken    string `json:"taken,omitempty"` // the name of the coordinator that has it
}

// verb is what a coordinator asks for.
type verb string

const (
	take    verb = "take"
	put     verb = "put" // a part of the job
	open    verb = "open"
	prepare verb = "prepare"
	start   verb = "run"
	beat    verb = "beat"
	stop    verb = "stop"
	fetch   verb = "fetch" // a part of the result
	leave   verb = "close"
)

// ask is what a coordinator asks of a generator, sealed.
type ask struct {
	Lease string `json:"lease"`
	Crew  string `json:"crew"` // a random id of the coordinator
	Seq   uint64 `json:"seq"`  // of the lease, from 1, each more than the last: one that is sent again by others is not heard twice
	Verb  verb   `json:"verb"`

	Name     string          `json:"name,omitempty"`     // take: of the coordinator, for people
	Version  string          `json:"version,omitempty"`  // take
	Protocol int             `json:"protocol,omitempty"` // take
	Place    *loadtest.Place `json:"place,omitempty"`    // open
	Digest   string          `json:"digest,omitempty"`   // open: of the packed job
	Offset   int             `json:"offset,omitempty"`   // put, fetch
	Size     int             `json:"size,omitempty"`     // put: of the packed job; fetch: of the part, at most
	Data     []byte          `json:"data,omitempty"`     // put
	In       time.Duration   `json:"in,omitempty"`       // run: from when it arrives
}

// answer is what a generator answers, sealed.
type answer struct {
	Lease   string `json:"lease"`
	Seq     uint64 `json:"seq"`
	Gone    bool   `json:"gone,omitempty"`    // the coordinator does not have this lease
	Refused *fault `json:"refused,omitempty"` // why it does not do what was asked

	State    state              `json:"state"`
	Fault    *fault             `json:"fault,omitempty"`    // failed: why
	Since    *time.Duration     `json:"since,omitempty"`    // the start, once it has begun
	Progress *loadtest.Progress `json:"progress,omitempty"` // the last one
	Size     int                `json:"size,omitempty"`     // of the packed result
	Digest   string             `json:"digest,omitempty"`
	Data     []byte             `json:"data,omitempty"` // fetch
}

// fault is an error on its way.
type fault struct {
	Class   string `json:"class"`
	Code    string `json:"code"`
	Op      string `json:"op"`
	Subject string `json:"subject,omitempty"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
	Status  int    `json:"status,omitempty"`
}

// Bounds of a fault, in bytes: it has to fit into a message beside other things.
const (
	mostMessage = 1000
	mostWord    = 400
)

func cut(text string, most int) string { return strings.ToValidUTF8(text[:min(len(text), most)], "") }

func faultOf(op string, err error) *fault {
	f := wholeFault(op, err)
	f.Message = cut(f.Message, mostMessage)
	for _, word := range []*string{&f.Class, &f.Code, &f.Op, &f.Subject, &f.Hint} {
		*word = cut(*word, mostWord)
	}
	return f
}

func wholeFault(op string, err error) *fault {
	if e, ok := errors.AsType[*storage.Error](err); ok {
		f := &fault{Class: e.Class.String(), Code: e.Code, Op: e.Op, Subject: e.Subject, Message: e.Message, Hint: e.Hint, Status: e.Status}
		if e.Err != nil && !strings.Contains(e.Message, e.Err.Error()) {
			f.Message += ": " + e.Err.Error() // the cause itself does not travel
		}
		return f
	}
	if e, ok := errors.AsType[*loadtest.PrepareError](err); ok {
		return &fault{Class: e.Fault.Class, Code: e.Fault.Code, Op: op, Message: e.Fault.Message}
	}
	if errors.Is(err, context.Canceled) {
		return &fault{Class: storage.Interrupted.String(), Code: "generator_stopped", Op: op, Message: loadtest.Interrupted}
	}
	return &fault{Class: storage.Internal.String(), Code: "generator_failed", Op: op, Message: err.Error()}
}

// by is the error as one of the generator of a name.
func (f *fault) by(name string) error {
	e := &storage.Error{Class: storage.Internal, Code: f.Code, Op: f.Op, Subject: f.Subject, Message: f.Message, Hint: f.Hint, Status: f.Status}
	for class := storage.Internal; class <= storage.Interrupted; class++ {
		if class.String() == f.Class {
			e.Class = class
		}
	}
	e.Subject = cmp.Or(e.Subject, "the load")
	return fmt.Errorf("generator %s: %w", name, e)
}

// refusal is an error of the coordinator's or the generator's own.
func refusal(class storage.Class, code, hint, format string, args ...any) *storage.Error {
	e := storage.Errorf(class, code, "join", "load generators", format, args...)
	e.Hint = hint
	return e
}

// What each message is sealed for: one that is for another generator, or answers another question, is not what was asked for.
func askPurpose(id string) string { return "bench ask\x00" + id }

func answerPurpose(id string) string { return "bench answer\x00" + id }

func seal(sealer *protocol.Sealer, purpose string, message any) ([]byte, error) {
	plain, err := json.Marshal(message)
	if err != nil {
		return nil, fmt.Errorf("say something to the other side: %w", err)
	}
	return sealer.SealToken(purpose, plain), nil
}

func unseal(sealer *protocol.Sealer, purpose string, sealed []byte, message any) error {
	plain, err := sealer.OpenToken(purpose, sealed)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(plain, message); err != nil {
		return fmt.Errorf("read what the other side says: %w", err)
	}
	return nil
}
