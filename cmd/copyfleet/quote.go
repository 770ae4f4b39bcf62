package main

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// shellWord writes one argument of a command that is to be pasted into a shell: as it is where no shell sees anything in it, else quoted. What would
// do something to the terminal, or is no text, is escaped in a way that bash, zsh and fish's users know as $'…'.
func shellWord(text string) string {
	switch {
	case text != "" && strings.Trim(text, plainInShell) == "" && text[0] != '~':
		return text
	case strings.IndexFunc(text, harmful) < 0 && utf8.ValidString(text):
		return shellQuote(text)
	}
	var b strings.Builder
	b.WriteString("$'")
	for i := range len(text) {
		switch c := text[i]; {
		case c == '\'' || c == '\\':
			b.WriteString(`\` + string(c))
		case c < ' ' || c > '~':
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String() + "'"
}

// plainInShell are the letters that mean nothing but themselves anywhere in a word; of ~ only the first one would.
const plainInShell = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+:,./-~"

// shellCommand joins words to a command that may be pasted.
func shellCommand(words ...string) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = shellWord(w)
	}
	return strings.Join(out, " ")
}
