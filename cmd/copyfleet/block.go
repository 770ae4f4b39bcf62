package main

import (
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/internal/display"
)

// block is some lines on a terminal that are drawn again in the same place.
type block struct {
	term terminal
	out  io.Writer

	drawn []int // the width of each line that stands there
}

// keep draws lines over and over, at most every drawEvery, until stop is called, which takes the block away. A terminal that takes nothing any
// more is told of by stop.
func (b *block) keep(lines func(now time.Time) []string) (stop func() error) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(drawEvery)
		defer tick.Stop()
		var drawn []string
		for {
			select {
			case <-quit:
				return
			case now := <-tick.C:
				if lines := lines(now); !slices.Equal(lines, drawn) {
					_ = b.draw(lines) // stop tries again and tells
					drawn = lines
				}
			}
		}
	}()
	return func() error {
		close(quit)
		<-done
		return b.draw(nil)
	}
}

// draw replaces the lines that stand there; none takes the block away. Lines are cut to the width of the terminal, since one that
// wraps could not be drawn over, and left out where they are more than fit.
func (b *block) draw(lines []string) error {
	columns, rows := b.term.size()
	if len(lines) > rows-1 {
		lines = lines[:max(rows-1, 0)]
	}
	var text strings.Builder
	up := 0
	for _, w := range b.drawn { // the terminal may have become narrower: what stands there then wraps
		up += max((w+columns-1)/columns, 1)
	}
	if up > 0 {
		text.WriteString("\r\x1b[" + strconv.Itoa(up) + "A\x1b[J")
	}
	b.drawn = b.drawn[:0]
	for _, line := range lines {
		shown, w := cutPainted(line, columns-1)
		b.drawn = append(b.drawn, w)
		text.WriteString(shown + "\n")
	}
	if text.Len() == 0 {
		return nil
	}
	_, err := io.WriteString(b.out, text.String())
	return wrapPrint(err)
}

// cutPainted shortens a line that may hold our own colors, and returns its width.
func cutPainted(line string, columns int) (string, int) {
	var b strings.Builder
	n, cutOff, escape := 0, false, false
	for _, r := range line {
		switch {
		case r == '\x1b':
			escape = true
			b.WriteRune(r)
		case escape:
			b.WriteRune(r)
			escape = r != 'm'
		case cutOff:
		case n+display.RuneWidth(r) > columns:
			cutOff = true
		default:
			n += display.RuneWidth(r)
			b.WriteRune(r)
		}
	}
	return b.String(), n
}
