package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// batch is a batch as the API shows it. Raw is the whole of what the API said, for --json.
type batch struct {
	Raw json.RawMessage `json:"-"`

	ID        string              `json:"id"`
	Org       string              `json:"org"`
	State     protocol.BatchState `json:"state"`
	Lane      string              `json:"lane"`
	Label     string              `json:"label"`
	Total     int                 `json:"total"`
	Counts    counts              `json:"counts"`
	Bytes     int64               `json:"bytes"`
	Moving    int64               `json:"bytes_moving"`
	CreatedAt time.Time           `json:"created_at"`
	StartedAt time.Time           `json:"started_at"`
	EndedAt   time.Time           `json:"ended_at"`
	Reason    string              `json:"reason"`
	Rates     struct {
		Items float64 `json:"items_per_second"`
		Bytes float64 `json:"bytes_per_second"`
	} `json:"rates"`
	ETA        *float64     `json:"eta_seconds"`
	Groups     []errorGroup `json:"error_groups"`
	GroupsLeft int          `json:"error_groups_left"`
	Attempts   int          `json:"attempts"`
	Rate       float64      `json:"rate"`
	Canary     int          `json:"canary"`
	MaxFailed  any          `json:"max_failed"`
	RerunOf    string       `json:"rerun_of"`
	Reruns     []string     `json:"reruns"`
	Rule       string       `json:"rule"`
	Version    int          `json:"rule_version"`
	Webhook    *struct {
		URL      string `json:"url"`
		State    string `json:"state"`
		Attempts int    `json:"attempts"`
	} `json:"webhook"`
}

type counts struct {
	Queued    int `json:"queued"`
	Running   int `json:"running"`
	Retrying  int `json:"retrying"`
	Succeeded int `json:"succeeded"`
	Failed    int `json:"failed"`
	Canceled  int `json:"canceled"`
	Skipped   int `json:"skipped"`
}

func (c counts) ended() int { return c.Succeeded + c.Failed + c.Canceled + c.Skipped }

// each tells the counts that are not 0, in the order of an item's life.
func (c counts) each() string {
	var parts []string
	for _, p := range []struct {
		name string
		n    int
	}{
		{"queued", c.Queued}, {"running", c.Running}, {"retrying", c.Retrying}, {"succeeded", c.Succeeded},
		{"failed", c.Failed}, {"canceled", c.Canceled}, {"skipped", c.Skipped},
	} {
		if p.n > 0 {
			parts = append(parts, number(p.n)+" "+p.name)
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

type errorGroup struct {
	Class   string `json:"class"`
	Code    string `json:"code"`
	Host    string `json:"host"`
	Count   int    `json:"count"`
	Example int    `json:"example"`
	Message string `json:"message"`
}

// at tells the host of a failure, if it has one.
func (g *errorGroup) at() string {
	if g.Host == "" {
		return ""
	}
	return " at " + g.Host
}

// UnmarshalJSON keeps the text beside the fields.
func (b *batch) UnmarshalJSON(data []byte) error {
	type fields batch
	if err := json.Unmarshal(data, (*fields)(b)); err != nil {
		return fmt.Errorf("a batch: %w", err)
	}
	b.Raw = append(json.RawMessage(nil), data...)
	if b.ID == "" {
		return errors.New("a batch: it has no id")
	}
	return nil
}

// MarshalJSON gives the text back as it came.
func (b *batch) MarshalJSON() ([]byte, error) {
	if len(b.Raw) == 0 {
		return nil, errors.New("a batch: it was not read")
	}
	return b.Raw, nil
}

// progress is how far the batch came: "12 of 1,000 items".
func (b *batch) progress() string {
	if b.State == protocol.BatchAccepting && b.Total == 0 {
		return "being accepted"
	}
	return number(b.Counts.ended()) + " of " + several(b.Total, "item", "items")
}

// took is how long the batch has been at work.
func (b *batch) took(now time.Time) time.Duration {
	switch {
	case b.StartedAt.IsZero():
		return 0
	case b.EndedAt.IsZero():
		return now.Sub(b.StartedAt)
	}
	return b.EndedAt.Sub(b.StartedAt)
}

// reasons are the words of the API for why a batch stands still or was stopped.
var reasons = map[string]string{
	protocol.ReasonCaller:    "it was asked for",
	protocol.ReasonCanary:    "the canary has run; look at it, then resume",
	protocol.ReasonMaxFailed: "too many items failed (max_failed)",
}

func (b *batch) because() string {
	if text, ok := reasons[b.Reason]; ok {
		return text
	}
	return b.Reason
}

// outcome is the error for a batch that is over, nil if all of it succeeded.
func (b *batch) outcome() error {
	switch b.State {
	case protocol.BatchSucceeded:
		return nil
	case protocol.BatchCompletedWithErrors, protocol.BatchFailed:
		text := fmt.Sprintf("%s of %s failed in batch %s", number(b.Counts.Failed), several(b.Total, "item", "items"), b.ID)
		if b.Counts.Failed == 0 {
			text = "batch " + b.ID + " " + string(b.State)
		}
		return &exitError{code: exitFailed, err: fmt.Errorf("%s", text),
			hint: fmt.Sprintf("copyfleet report %s --state failed; to run them again: copyfleet retry %s", b.ID, b.ID)}
	case protocol.BatchCanceled:
		return &exitError{code: exitCanceled, err: fmt.Errorf("batch %s was canceled: %s", b.ID, b.because())}
	case protocol.BatchPaused:
		return &exitError{code: exitTemporary, reason: "paused", err: fmt.Errorf("batch %s is paused: %s", b.ID, b.because()),
			hint: fmt.Sprintf("copyfleet resume %s && copyfleet watch %s; or copyfleet cancel %s", b.ID, b.ID, b.ID)}
	case protocol.BatchAccepting, protocol.BatchQueued, protocol.BatchRunning, protocol.BatchCanceling:
	}
	return exitWith(exitTemporary, "batch %s is %s", b.ID, b.State)
}

// moved tells the bytes of the items that have ended, and of those that run.
func (b *batch) moved() string {
	if b.Moving == 0 {
		return size(b.Bytes)
	}
	return size(b.Bytes) + ", and " + size(b.Moving) + " of what runs"
}

// write tells a batch to a person.
func (b *batch) write(w io.Writer, term terminal, now time.Time) error {
	t := &lines{}
	t.field("batch", b.ID)
	t.field("label", b.Label)
	state := term.paint(stateColor(string(b.State)), clean(string(b.State)))
	if b.Reason != "" {
		state += " (" + clean(b.because()) + ")"
	}
	t.painted("state", state)
	t.field("items", b.progress()+": "+b.Counts.each())
	t.field("bytes", b.moved())
	if b.Rates.Items > 0 {
		pace := rate(b.Rates.Items) + ", " + size(int64(b.Rates.Bytes)) + "/s"
		if b.ETA != nil {
			pace += ", done in about " + span(time.Duration(*b.ETA*float64(time.Second)))
		}
		t.field("pace", pace)
	}
	t.field("created", ago(b.CreatedAt, now))
	if !b.StartedAt.IsZero() {
		t.field("started", ago(b.StartedAt, now))
	}
	if !b.EndedAt.IsZero() {
		t.field("ended", ago(b.EndedAt, now)+", after "+span(b.took(now)))
	}
	t.field("options", b.options())
	if b.Rule != "" {
		t.field("rule", b.Rule+", version "+strconv.Itoa(b.Version))
	}
	t.field("rerun of", b.RerunOf)
	t.field("rerun in", strings.Join(b.Reruns, ", "))
	if b.Webhook != nil {
		t.field("webhook", fmt.Sprintf("%s: %s, attempts: %d", b.Webhook.URL, b.Webhook.State, b.Webhook.Attempts))
	}
	b.errors(t)
	return t.write(w)
}

func (b *batch) options() string {
	var parts []string
	add := func(given bool, format string, value any) {
		if given {
			parts = append(parts, fmt.Sprintf(format, value))
		}
	}
	add(b.Lane != "", "lane %s", b.Lane)
	add(b.Attempts > 0, "attempts %d", b.Attempts)
	add(b.Rate > 0, "rate %g/s", b.Rate)
	add(b.Canary > 0, "canary %d", b.Canary)
	add(b.MaxFailed != nil, "max failed %v", b.MaxFailed)
	return strings.Join(parts, ", ")
}

func (b *batch) errors(t *lines) {
	if len(b.Groups) == 0 {
		return
	}
	t.line("errors:")
	for i := range b.Groups {
		t.line(b.Groups[i].String())
	}
	if b.GroupsLeft > 0 {
		t.line("  and " + number(b.GroupsLeft) + " failed items of other kinds")
	}
}

// String tells the group on one line.
func (g *errorGroup) String() string {
	return fmt.Sprintf("  %s × %s/%s%s: %s (item %d)", number(g.Count), g.Class, g.Code, g.at(), g.Message, g.Example)
}

// lines are named values, one a line, made harmless.
type lines struct{ b strings.Builder }

func (l *lines) field(name, value string) {
	if value != "" {
		l.painted(name, clean(value))
	}
}

func (l *lines) painted(name, value string) { fmt.Fprintf(&l.b, "%-9s %s\n", name, value) }

func (l *lines) line(text string) { l.b.WriteString(clean(text) + "\n") }

func (l *lines) write(w io.Writer) error {
	_, err := io.WriteString(w, l.b.String())
	return wrapPrint(err)
}
