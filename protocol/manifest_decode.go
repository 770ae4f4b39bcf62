package protocol

import (
	"encoding/json"
	"strconv"
	"strings"
)

// decodeItems reads the items of a page as SealPage writes them. It shares the text of the page among their strings, and takes a tenth
// of the time of encoding/json, which gets whatever looks like anything else. A test compares the two.
func decodeItems(plain []byte) ([]ManifestItem, error) {
	s := pageScanner{text: string(plain)}
	if items, ok := s.items(); ok {
		return items, nil
	}
	var items []ManifestItem
	err := json.Unmarshal(plain, &items)
	return items, err //nolint:wrapcheck // the caller says whose page it is
}

// pageScanner reads JSON without spaces. What is not as expected makes it bad, and it stays so.
type pageScanner struct {
	text string
	at   int
	bad  bool
}

func (s *pageScanner) items() ([]ManifestItem, bool) {
	s.expect('[')
	items := make([]ManifestItem, 0, PageSize)
	for !s.bad && !s.next(']') {
		if len(items) > 0 {
			s.expect(',')
		}
		items = append(items, ManifestItem{})
		s.item(&items[len(items)-1])
	}
	end := strings.TrimSuffix(s.text, "\n")
	return items, !s.bad && s.at == len(end)
}

func (s *pageScanner) item(it *ManifestItem) {
	s.object(func(name string) {
		switch name {
		case "id":
			it.ID = s.string()
		case "src":
			s.location(&it.Src)
		case "dest":
			s.location(&it.Dest)
		case "size":
			n := s.number()
			it.Size = &n
		case "sha256":
			it.SHA256 = s.string()
		case "md5":
			it.MD5 = s.string()
		case "conflict":
			it.Conflict = ConflictPolicy(s.string())
		case "digest":
			it.Digest = Digest(s.string())
		case "trail":
			it.Trail = s.strings()
		default:
			s.bad = true
		}
	})
}

func (s *pageScanner) location(l *Location) {
	s.object(func(name string) {
		switch name {
		case "type":
			l.Type = LocationType(s.string())
		case "sandbox":
			l.Sandbox = SandboxID(s.string())
		case "path":
			l.Path = s.string()
		case "url":
			l.URL = s.string()
		case "headers":
			l.Headers = s.pairs()
		case "form":
			l.Form = s.pairs()
		case "fileField":
			l.FileField = s.string()
		case "bucket":
			l.Bucket = s.string()
		case "key":
			l.Key = s.string()
		default:
			s.bad = true
		}
	})
}

func (s *pageScanner) strings() []string {
	s.expect('[')
	list := []string{}
	for !s.bad && !s.next(']') {
		if len(list) > 0 {
			s.expect(',')
		}
		list = append(list, s.string())
	}
	return list
}

func (s *pageScanner) pairs() map[string]string {
	pairs := map[string]string{}
	s.object(func(name string) { pairs[name] = s.string() })
	return pairs
}

// object calls member for each member, which reads its value.
func (s *pageScanner) object(member func(name string)) {
	s.expect('{')
	for first := true; !s.bad && !s.next('}'); first = false {
		if !first {
			s.expect(',')
		}
		name := s.string()
		if s.expect(':'); !s.bad {
			member(name)
		}
	}
}

// next passes a byte if it comes next.
func (s *pageScanner) next(c byte) bool {
	if s.at < len(s.text) && s.text[s.at] == c {
		s.at++
		return true
	}
	return false
}

func (s *pageScanner) expect(c byte) {
	if !s.next(c) {
		s.bad = true
	}
}

// string reads a string. One with escapes, or with anything that is not ASCII, takes the long way.
func (s *pageScanner) string() string {
	s.expect('"')
	for start, plain := s.at, true; !s.bad && s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; {
		case c == '"':
			s.at++
			if plain {
				return s.text[start : s.at-1]
			}
			var long string
			s.bad = json.Unmarshal([]byte(s.text[start-1:s.at]), &long) != nil
			return long
		case c == '\\':
			plain = false
			s.at++ // what it escapes is no end
		case c < ' ' || c > '~':
			plain = false
		}
	}
	s.bad = true
	return ""
}

func (s *pageScanner) number() int64 {
	start := s.at
	for s.at < len(s.text) && s.text[s.at] >= '0' && s.text[s.at] <= '9' {
		s.at++
	}
	digits := s.text[start:s.at]
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || len(digits) > 1 && digits[0] == '0' {
		s.bad = true
	}
	return n
}
