package producer

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

const (
	// maxLine bounds a line of a manifest, and an item of a JSON document, in bytes.
	maxLine = 1 << 20
	// lineBuffer is what is read at once.
	lineBuffer = 64 << 10

	utf8BOM = "\xef\xbb\xbf"
)

// errLongLine says that a line was skipped because of its length.
var errLongLine = errors.New("a line is too long")

// lineReader splits a manifest into lines that end in LF, or CR LF, in any mixture. A byte order mark at the start and lines
// without anything in them are skipped.
type lineReader struct {
	src    *bufio.Reader
	long   []byte // a line that is longer than the buffer
	number int    // of the line that was returned last, from 1
	cut    bool   // that line has no end: it is the last one, and perhaps not whole
}

func newLineReader(src *bufio.Reader) *lineReader { return &lineReader{src: src} }

// next returns the next line that is not blank, without its end; it is valid until the next call. The error is io.EOF,
// [errLongLine], after which the next line can be read, or that of the reader.
func (l *lineReader) next() ([]byte, error) {
	for {
		line, err := l.raw()
		if err != nil {
			return nil, err
		}
		if l.number == 1 {
			line = bytes.TrimPrefix(line, []byte(utf8BOM))
		}
		line = bytes.TrimSuffix(line, []byte("\r"))
		if len(bytes.TrimLeft(line, " \t")) > 0 {
			return line, nil
		}
	}
}

// raw returns the next line without its LF.
func (l *lineReader) raw() ([]byte, error) {
	line, err := l.src.ReadSlice('\n')
	if len(line) > 0 || err == nil {
		l.number++
	}
	if errors.Is(err, bufio.ErrBufferFull) {
		if line, err = l.gather(line); err != nil && !errIsEOF(err) {
			return nil, err
		}
	}
	switch {
	case err == nil:
		return line[:len(line)-1], nil
	case errIsEOF(err) && len(line) > 0:
		l.cut = true
		return line, nil
	}
	return nil, err //nolint:wrapcheck // the reader's own
}

// gather reads a line that is longer than the buffer, up to its limit; beyond, it is skipped without being kept.
func (l *lineReader) gather(start []byte) ([]byte, error) {
	l.long = append(l.long[:0], start...)
	for {
		more, err := l.src.ReadSlice('\n')
		if len(l.long)+len(more) > maxLine {
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = l.src.ReadSlice('\n')
			}
			if err != nil && !errIsEOF(err) {
				return nil, err //nolint:wrapcheck // the reader's own
			}
			return nil, errLongLine
		}
		l.long = append(l.long, more...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return l.long, err //nolint:wrapcheck // the reader's own
		}
	}
}

// at is where the problems of the current line are.
func (l *lineReader) at() string { return "/line/" + itoa(l.number) }

// line returns the next line that holds an item and is text, after having told what is wrong with the lines before.
func (l *lineReader) line(c *itemCheck) ([]byte, error) {
	line, err := l.next()
	c.problems.line = l.number
	switch {
	case errors.Is(err, errLongLine):
		c.problems.add(l.at(), faultTooLong, "A line may have "+itoa(maxLine)+" bytes at most.")
		return nil, nil
	case err != nil:
		if errIsEOF(err) {
			c.problems.line = 0
			return nil, io.EOF
		}
		return nil, err
	case bytes.IndexByte(line, 0) >= 0:
		c.problems.add(l.at(), faultControl, "A line must not hold NUL bytes.")
		return nil, nil
	}
	return line, nil
}

// tellCut tells of a last line that ends in the middle of an item.
func (l *lineReader) tellCut(c *itemCheck) {
	c.problems.add(l.at(), faultTruncated, "The last line ends in the middle of an item: the manifest seems to have been cut off.")
}
