package display

import (
	"io"
	"strings"
)

// Table prints rows in aligned columns. The cells are made harmless; the last column is not filled.
type Table struct {
	Header []string
	Rows   [][]string
	Right  map[int]bool // columns of numbers
	Paint  func(column int, cell, padded string) string
}

// Add adds a row.
func (t *Table) Add(cells ...string) {
	for i := range cells {
		cells[i] = Clean(cells[i])
	}
	t.Rows = append(t.Rows, cells)
}

// Write prints the header and the rows.
func (t *Table) Write(w io.Writer) error {
	widths := make([]int, len(t.Header))
	for _, row := range append([][]string{t.Header}, t.Rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], Width(cell))
		}
	}
	var b strings.Builder
	for n, row := range append([][]string{t.Header}, t.Rows...) {
		var line strings.Builder
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-Width(cell))
			padded := cell + pad
			if t.Right[i] {
				padded = pad + cell
			}
			if n > 0 && t.Paint != nil {
				padded = t.Paint(i, cell, padded)
			}
			if i > 0 {
				line.WriteString("  ")
			}
			line.WriteString(padded)
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err //nolint:wrapcheck // of the writer that was given
}
