package main

import (
	"fmt"
	"io"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// newView returns how a batch is watched: as JSON, as a block that moves on a terminal, else as a line at each change of state.
func newView(env *environment) view {
	switch term := terminalOf(env.stdout); {
	case env.json:
		return &jsonView{env: env}
	case term.live():
		return newLiveView(env, term)
	}
	return &plainView{env: env}
}

// jsonView prints the batch at each change of its state; the last line is the summary.
type jsonView struct {
	env   *environment
	state protocol.BatchState // printed last
	err   error
}

func (v *jsonView) batch(b *batch) {
	if b.State != v.state && !b.State.Final() && v.err == nil {
		v.state = b.State
		v.err = printJSON(v.env, b)
	}
}

func (v *jsonView) item(*itemProgress) {}

func (v *jsonView) note(text string) { v.env.note(text) }

func (v *jsonView) close(b *batch) error {
	if v.err != nil || b == nil || b.State == v.state {
		return v.err
	}
	return printJSON(v.env, b)
}

// plainView prints a line at each change of state, for logs and pipes.
type plainView struct {
	env   *environment
	state protocol.BatchState
	err   error
}

func (v *plainView) batch(b *batch) {
	if b.State == v.state || b.State.Final() || v.err != nil {
		return
	}
	v.state = b.State
	_, v.err = fmt.Fprintf(v.env.stdout, "%s %s: %s\n", clean(b.ID), clean(string(b.State)), b.progress())
}

func (v *plainView) item(*itemProgress) {}

func (v *plainView) note(text string) { v.env.note(text) }

// close prints what there is to say of a batch that is over.
func (v *plainView) close(b *batch) error {
	if v.err != nil || b == nil || !b.State.Final() {
		return wrapPrint(v.err)
	}
	return b.writeEnd(v.env.stdout, terminal{}, time.Now())
}

// writeEnd tells the result of a batch that is over, shorter than all that is known of it.
func (b *batch) writeEnd(w io.Writer, term terminal, now time.Time) error {
	l := &lines{}
	b.errors(l)
	text := clean(fmt.Sprintf(": %s, %s", b.Counts.each(), size(b.Bytes)))
	if took := b.took(now); took > 0 {
		text += " in " + span(took)
		if took >= time.Second && b.State == protocol.BatchSucceeded {
			text += fmt.Sprintf(" (%s, %s/s)", rate(float64(b.Counts.ended())/took.Seconds()), size(int64(float64(b.Bytes)/took.Seconds())))
		}
	}
	fmt.Fprintf(&l.b, "%s %s%s\n", clean(b.ID), term.paint(stateColor(string(b.State)), clean(string(b.State))), text)
	return l.write(w)
}
