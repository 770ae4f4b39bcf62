package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// liveView draws a batch on a terminal, over and over in the same place, at most every drawEvery.
type liveView struct {
	env   *environment
	block *block

	mu    sync.Mutex
	last  *batch
	items map[int]*shownItem
	said  string

	stop func() error
}

type shownItem struct {
	itemProgress

	at time.Time
}

const (
	drawEvery  = 200 * time.Millisecond
	itemStays  = 5 * time.Second // after its last word
	shownItems = 5
	shownKinds = 6 // of errors
	barColumns = 30
	leastBar   = 5 // columns; a shorter bar says nothing
)

func newLiveView(env *environment, term terminal) *liveView {
	v := &liveView{env: env, block: &block{term: term, out: env.stdout}, items: map[int]*shownItem{}}
	v.stop = v.block.keep(v.lines)
	return v
}

func (v *liveView) batch(b *batch) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.last, v.said = b, ""
}

func (v *liveView) item(p *itemProgress) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.items[p.Index] = &shownItem{itemProgress: *p, at: time.Now()}
}

func (v *liveView) note(text string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.said = text
}

// close takes the block away and leaves the result.
func (v *liveView) close(b *batch) error {
	if err := v.stop(); err != nil || b == nil {
		return err
	}
	if !b.State.Final() {
		return b.write(v.env.stdout, v.block.term, time.Now())
	}
	return b.writeEnd(v.env.stdout, v.block.term, time.Now())
}

func (v *liveView) lines(now time.Time) []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.last == nil {
		return nil
	}
	b, term := v.last, v.block.term
	head := term.paint(bold, clean(b.ID)) + "  " + term.paint(stateColor(string(b.State)), clean(string(b.State)))
	if b.Label != "" {
		head += "  " + clean(b.Label)
	}
	if b.State == protocol.BatchPaused || b.State == protocol.BatchCanceling {
		head += "  (" + clean(b.because()) + ")"
	}
	out := []string{head, v.bar(b, now), "  " + b.Counts.each()}
	for i := range b.Groups[:min(len(b.Groups), shownKinds)] {
		out = append(out, term.paint(red, clean(b.Groups[i].String())))
	}
	if more := len(b.Groups) - shownKinds; more > 0 {
		out = append(out, fmt.Sprintf("  and %d other kinds of errors", more))
	}
	out = append(out, v.large(now)...)
	if v.said != "" {
		out = append(out, term.paint(yellow, clean(v.said)))
	}
	return append(out, term.paint(faint, "Ctrl-C stops watching; the batch goes on."))
}

// bar draws how much is done, how fast it goes, and how long it will take.
func (v *liveView) bar(b *batch, now time.Time) string {
	share := 0.0
	if b.Total > 0 {
		share = float64(b.Counts.ended()) / float64(b.Total)
	}
	text := fmt.Sprintf(" %3.0f%%  %s  %s", share*100, b.progress(), b.moved())
	if b.Rates.Items > 0 {
		text += fmt.Sprintf("  %s  %s/s", rate(b.Rates.Items), size(int64(b.Rates.Bytes)))
	}
	if b.ETA != nil && b.State == protocol.BatchRunning {
		text += "  " + span(time.Duration(*b.ETA*float64(time.Second))) + " left"
	} else if took := b.took(now); took > 0 {
		text += "  for " + span(took)
	}
	return barLine(v.block.term.room(), "  ", share, text)
}

// barLine draws a bar between two texts. Where there is little room the bar gives way, for the texts tell more.
func barLine(room int, before string, share float64, after string) string {
	columns := min(barColumns, room-len("[]")-width(before)-width(after))
	if columns < leastBar {
		return before + strings.TrimLeft(after, " ")
	}
	return before + bar(share, columns) + after
}

func bar(share float64, columns int) string {
	full := int(min(max(share, 0), 1) * float64(columns))
	return "[" + strings.Repeat("#", full) + strings.Repeat("-", columns-full) + "]"
}

// large tells the largest of the items that take their time.
func (v *liveView) large(now time.Time) []string {
	var list []*shownItem
	for index, it := range v.items {
		if now.Sub(it.at) > itemStays {
			delete(v.items, index)
			continue
		}
		list = append(list, it)
	}
	slices.SortFunc(list, func(a, b *shownItem) int { return a.Index - b.Index })
	var out []string
	for _, it := range list[:min(len(list), shownItems)] {
		name := fmt.Sprintf("  item %d", it.Index)
		if it.ID != "" {
			name += " " + it.ID
		}
		done := size(it.Bytes)
		if it.Size != nil && *it.Size > 0 {
			done = fmt.Sprintf("%s of %s, %.0f%%", done, size(*it.Size), 100*float64(it.Bytes)/float64(*it.Size))
		}
		out = append(out, clean(name+": "+done))
	}
	if more := len(list) - shownItems; more > 0 {
		out = append(out, fmt.Sprintf("  and %d other large items", more))
	}
	return out
}
