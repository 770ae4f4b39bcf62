// Package display writes for people: text from elsewhere made harmless, measured and cut as a terminal shows it, tables, and numbers, sizes and times as one
// reads them.
package display
