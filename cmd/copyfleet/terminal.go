package main

import (
	"io"
	"math"
	"os"
	"strings"

	"github.com/copyfleet/copyfleet/protocol"
)

// terminal is where a person reads along; the zero value is no terminal, and gets neither colors nor anything that moves.
type terminal struct {
	file  *os.File
	color bool
}

// terminalOf returns the terminal behind a writer, if there is one that can be moved about in.
func terminalOf(w io.Writer) terminal {
	file, ok := w.(*os.File)
	if !ok {
		return terminal{}
	}
	if _, _, is := windowSize(file); !is || os.Getenv("TERM") == "dumb" || os.Getenv("TERM") == "" {
		return terminal{}
	}
	return terminal{file: file, color: os.Getenv("NO_COLOR") == ""}
}

func (t terminal) live() bool { return t.file != nil }

// size is what a terminal can show now; one that does not tell is taken for the smallest usual one.
func (t terminal) size() (columns, rows int) {
	columns, rows, _ = windowSize(t.file)
	if columns <= 0 {
		columns = 80
	}
	if rows <= 0 {
		rows = 24
	}
	return columns, rows
}

// room is how long a line may be: as long as it likes where there is no terminal.
func (t terminal) room() int {
	if !t.live() {
		return math.MaxInt
	}
	columns, _ := t.size()
	return columns - 1
}

const (
	red    = "31"
	green  = "32"
	yellow = "33"
	blue   = "34"
	bold   = "1"
	faint  = "2"
)

func (t terminal) paint(color, text string) string {
	if !t.color || color == "" {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}

// stateColor is that of a batch's or an item's state, or of a check's result; a plan's "fail" is that of a check.
func stateColor(state string) string {
	switch strings.TrimSpace(state) {
	case string(protocol.BatchSucceeded), checkOK:
		return green
	case string(protocol.BatchFailed), string(protocol.BatchCompletedWithErrors), checkFail:
		return red
	case string(protocol.BatchPaused), string(protocol.BatchCanceled), string(protocol.BatchCanceling), string(protocol.ItemRetrying), checkWarn:
		return yellow
	case string(protocol.BatchRunning):
		return blue
	}
	return ""
}

// statePaint colors one column of a table by the state in it.
func (t terminal) statePaint(column int) func(int, string, string) string {
	return func(i int, cell, padded string) string {
		if i != column {
			return padded
		}
		return t.paint(stateColor(cell), padded)
	}
}
