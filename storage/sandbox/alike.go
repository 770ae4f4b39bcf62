package sandbox

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// comparison tells whether two trees have the same names, of the same kinds, with the same content.
type comparison struct {
	ctx    context.Context
	a, b   []byte
	target []byte
}

// alike reports whether what is at the destination is what was unpacked: then a predecessor has shown it and died before it could say so,
// as is told from somebody else's tree only by looking at it.
func (p *publication) alike(ctx context.Context) (bool, error) {
	there, err := p.dir.open(p.name)
	if err != nil {
		return false, nil // no directory, or none that can be read: not the same
	}
	defer there.close()
	c := &comparison{ctx: ctx, a: make([]byte, 64<<10), b: make([]byte, 64<<10), target: make([]byte, maxPath)}
	return c.directories(p.top, there)
}

// directories compares two open directories.
func (c *comparison) directories(a, b directory) (bool, error) {
	n, same, err := c.below(a, b)
	if err != nil || !same {
		return false, err
	}
	m, err := b.count(n)
	return m == n, err
}

// below compares what is in a with what bears the same name in b, and returns how much it is.
func (c *comparison) below(a, b directory) (int, bool, error) {
	list, err := a.open(".")
	if err != nil {
		return 0, false, err
	}
	defer list.close()
	for n := 0; ; {
		names, err := list.file.Readdirnames(1024)
		n += len(names)
		for _, name := range names {
			if same, err := c.entries(a, b, name); err != nil || !same {
				return n, false, err
			}
		}
		if err == io.EOF { // os.File returns io.EOF itself
			return n, true, nil
		}
		if err != nil {
			return n, false, err
		}
	}
}

// count returns how many entries a directory has, or some number above most.
func (d directory) count(most int) (int, error) {
	list, err := d.open(".")
	if err != nil {
		return 0, err
	}
	defer list.close()
	for n := 0; ; {
		names, err := list.file.Readdirnames(1024)
		n += len(names)
		if err == io.EOF || n > most { // os.File returns io.EOF itself
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// entries compares what bears a name in both.
func (c *comparison) entries(a, b directory, name string) (bool, error) {
	if c.ctx.Err() != nil {
		return false, context.Cause(c.ctx)
	}
	is, err := a.kind(name)
	if err != nil {
		return false, err
	}
	there, err := b.kind(name)
	if err != nil || is != there {
		return false, err
	}
	switch is {
	case unix.S_IFDIR:
		return c.subdirectories(a, b, name)
	case unix.S_IFLNK:
		return c.links(a, b, name)
	case unix.S_IFREG:
		return c.files(a, b, name)
	}
	return false, nil
}

func (c *comparison) subdirectories(a, b directory, name string) (bool, error) {
	x, err := a.open(name)
	if err != nil {
		return false, err
	}
	defer x.close()
	y, err := b.open(name)
	if err != nil {
		return false, err
	}
	defer y.close()
	return c.directories(x, y)
}

func (c *comparison) links(a, b directory, name string) (bool, error) {
	n, err := unix.Readlinkat(a.fd(), name, c.target)
	if err != nil {
		return false, err
	}
	is := string(c.target[:n])
	if n, err = unix.Readlinkat(b.fd(), name, c.target); err != nil {
		return false, err
	}
	return is == string(c.target[:n]), nil
}

func (c *comparison) files(a, b directory, name string) (bool, error) {
	x, err := a.reopen(name, unix.O_RDONLY)
	if err != nil {
		return false, err
	}
	defer func() { _ = x.Close() }() // only read
	y, err := b.reopen(name, unix.O_RDONLY)
	if err != nil {
		return false, err
	}
	defer func() { _ = y.Close() }() // only read
	return c.contents(x, y)
}

func (c *comparison) contents(x, y *os.File) (bool, error) {
	for {
		n, err := io.ReadFull(x, c.a)
		if err != nil && err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) {
			return false, err
		}
		m, end := io.ReadFull(y, c.b)
		if end != nil && end != io.EOF && !errors.Is(end, io.ErrUnexpectedEOF) {
			return false, end
		}
		if !bytes.Equal(c.a[:n], c.b[:m]) || err != nil || end != nil {
			return n == m && bytes.Equal(c.a[:n], c.b[:m]), nil
		}
	}
}
