package worker

import (
	"encoding/json"
	"fmt"

	"github.com/copyfleet/copyfleet/protocol"
)

// decoder reads work messages. Those of fresh items, which are nearly all, are read by hand, and share their words with the one
// before; whatever looks like anything else goes to encoding/json. A test compares the two.
type decoder struct{ last protocol.Work }

// decode reads a message into an empty work.
func (d *decoder) decode(data []byte, work *protocol.Work) error {
	s := scanner{data: data}
	if d.fresh(&s, work) {
		d.last = *work
		d.last.Sealed = nil
		return nil
	}
	*work = protocol.Work{}
	if err := json.Unmarshal(data, work); err != nil {
		return fmt.Errorf("decode a work message: %w", err)
	}
	return nil
}

// fresh reads the members that the message of a fed item has, in any order.
func (d *decoder) fresh(s *scanner, w *protocol.Work) bool {
	s.expect('{')
	for first := true; !s.bad; first = false {
		if s.next('}') {
			return !s.bad && s.at == len(s.data)
		}
		if !first {
			s.expect(',')
		}
		name := s.text()
		s.expect(':')
		if !d.word(s, name, w) && !number(s, name, w) {
			return false
		}
	}
	return false
}

// word reads a member that is a text, and reports whether it is one.
func (d *decoder) word(s *scanner, name []byte, w *protocol.Work) bool {
	switch string(name) { // does not allocate
	case "org":
		w.Org = same(s.text(), d.last.Org)
	case "batch":
		w.Batch = same(s.text(), d.last.Batch)
	case "lane":
		w.Lane = same(s.text(), d.last.Lane)
	case "pool":
		w.Pool = same(s.text(), d.last.Pool)
	case "trace":
		w.Trace = same(s.text(), d.last.Trace)
	default:
		return false
	}
	return true
}

// number reads a member that is a number or a truth, and reports whether it is one.
func number(s *scanner, name []byte, w *protocol.Work) bool {
	switch string(name) {
	case "v":
		w.Version = s.number()
	case "index":
		w.Index = s.number()
	case "total":
		w.Total = s.number()
	case "shard":
		w.Shard = s.number()
	case "generation":
		w.Generation = s.number()
	case "max_attempts":
		w.MaxAttempts = s.number()
	case "recheck":
		w.Recheck = s.yes()
	default:
		return false
	}
	return true
}

// same returns the text as a string, which is the last one if they are equal.
func same[T ~string](text []byte, last T) T {
	if string(text) == string(last) {
		return last
	}
	return T(text)
}

// scanner reads compact JSON of strings without escapes, numbers without signs and true. Everything else is bad, and stays so.
type scanner struct {
	data []byte
	at   int
	bad  bool
}

// next passes a byte if it comes next.
func (s *scanner) next(c byte) bool {
	if s.at < len(s.data) && s.data[s.at] == c {
		s.at++
		return true
	}
	return false
}

func (s *scanner) expect(c byte) {
	if !s.next(c) {
		s.bad = true
	}
}

func (s *scanner) text() []byte {
	s.expect('"')
	for start := s.at; !s.bad && s.at < len(s.data); s.at++ {
		switch c := s.data[s.at]; {
		case c == '"':
			s.at++
			return s.data[start : s.at-1]
		case c == '\\' || c < ' ' || c > '~':
			s.bad = true
		}
	}
	s.bad = true
	return nil
}

// maxDigits keeps a number within an int of 64 bits.
const maxDigits = 18

func (s *scanner) number() int {
	n, start := 0, s.at
	for s.at < len(s.data) && s.data[s.at] >= '0' && s.data[s.at] <= '9' && s.at-start <= maxDigits {
		n = n*10 + int(s.data[s.at]-'0')
		s.at++
	}
	digits := s.at - start
	if digits == 0 || digits > maxDigits || digits > 1 && s.data[start] == '0' {
		s.bad = true
	}
	return n
}

func (s *scanner) yes() bool {
	const word = "true"
	if len(s.data)-s.at < len(word) || string(s.data[s.at:s.at+len(word)]) != word {
		s.bad = true
		return false
	}
	s.at += len(word)
	return true
}
