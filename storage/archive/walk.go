package archive

import (
	"archive/tar"
	"bufio"
	"errors"
	"io"
	"io/fs"
	"math"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/storage"
)

// Kind is what an entry is.
type Kind uint8

// The kinds.
const (
	Dir     Kind = iota
	File         // a regular file
	Symlink      // a symbolic link
	Link         // another name of a file
)

// Entry is one thing to be made.
type Entry struct {
	Path string // below the tree, clean, with slashes
	Kind Kind
	// Implied says of a directory that the archive has not named it, as far as it was read.
	Implied bool
	// Mode has permission bits only; those of a symbolic link mean nothing.
	Mode fs.FileMode
	// Modified is when a file was last changed; zero if the archive does not tell, or tells a time that file systems do not know.
	Modified time.Time
	Size     int64 // bytes of a file; 0 of everything else
	// Target is what a symbolic link holds, as it is in the archive, or the path of the file that a hard link names.
	Target string
	// Body is the content of a file. It gives Size bytes, or an error that visit returns. It can be read until visit returns; what is left then is
	// skipped.
	Body io.Reader
}

// Walk reads a tar to the end of body and calls visit for each entry. limits are all in force: a zero allows nothing. It stops at the first
// error: what is wrong with the archive is an [*storage.Error], what body or visit returned comes as it is.
func Walk(body io.Reader, limits storage.TreeLimits, visit func(Entry) error) error {
	in := &input{body: bufio.NewReaderSize(body, 32<<10)}
	if err := in.sniff(); err != nil {
		return err
	}
	w := &walker{in: in, tar: tar.NewReader(in), limits: limits, visit: visit, index: index{nodes: make(map[digest]node)}}
	for {
		header, err := w.next()
		if err != nil {
			return err
		}
		if header == nil {
			return in.finish()
		}
		if err := w.entry(header); err != nil {
			return err
		}
	}
}

// walker is a Walk on its way.
type walker struct {
	in      *input
	tar     *tar.Reader
	limits  storage.TreeLimits
	visit   func(Entry) error
	index   index
	entries int   // of the archive, and directories that it implies
	bytes   int64 // of files
	last    string
}

// next reads the headers of the next entry; nil at the end of the archive.
func (w *walker) next() (*tar.Header, error) {
	begin := (w.in.offset + blockSize - 1) / blockSize * blockSize // behind the padding
	w.in.header, w.in.left, w.in.zeros = true, maxHeader, 0
	header, err := w.tar.Next()
	w.in.header = false
	switch {
	case err == nil:
		w.last = header.Name
		return header, w.count(header.Name)
	case err == io.EOF && w.in.failed == nil:
		// Its end is two blocks of zeros and no more. archive/tar is content with none or one, and with a header that has no entry.
		if w.in.offset-begin != 2*blockSize || w.in.zeros < 2*blockSize {
			return nil, w.truncated()
		}
		return nil, nil //nolint:nilnil // the end is no entry
	}
	return nil, w.failure(err)
}

// failure says what an error of archive/tar means.
func (w *walker) failure(err error) error {
	switch {
	case errors.Is(w.in.failed, errHeaderTooLarge), errors.Is(err, tar.ErrFieldTooLong):
		return whole(storage.Invalid, CodeHeaderTooLarge, "the headers of the entry behind %s are longer than %d bytes", w.behind(), maxHeader)
	case w.in.failed != nil:
		return w.in.failed
	case errors.Is(err, io.ErrUnexpectedEOF) || err == io.EOF: //nolint:errorlint // as in next
		return w.truncated()
	}
	e := whole(storage.Invalid, CodeMalformed, "what stands behind %s is no valid entry of a tar", w.behind())
	e.Err = err
	return e
}

func (w *walker) truncated() error {
	return whole(storage.Corrupt, CodeTruncated, "it ends behind %s, before its end marker", w.behind())
}

// behind names where the walk is.
func (w *walker) behind() string {
	if w.last == "" {
		return "its beginning"
	}
	return Subject(w.last)
}

// count takes one of the entries that are allowed.
func (w *walker) count(name string) error {
	if w.entries >= w.limits.Entries || w.entries >= math.MaxUint32 {
		return refuse(CodeTooMany, name, "the archive has more than %d entries", w.limits.Entries)
	}
	w.entries++
	return nil
}

// entry checks an entry and has it visited.
func (w *walker) entry(h *tar.Header) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return checkGlobal(h)
	}
	kind, err := kindOf(h)
	if err != nil {
		return err
	}
	path, err := clean(h.Name, kind == Dir)
	if err != nil || path == "" {
		return err
	}
	e := Entry{Path: path, Kind: kind, Mode: fs.FileMode(h.Mode & 0o777)}
	switch kind {
	case Dir:
	case File:
		if e.Size, err = w.take(h); err != nil {
			return err
		}
		e.Modified, e.Body = modified(h.ModTime), &content{w}
	case Symlink:
		e.Target = h.Linkname
		err = checkTarget(path, e.Target)
	case Link:
		e.Target, err = w.linked(h)
	}
	if err != nil {
		return err
	}
	if err := w.place(e); err != nil {
		return err
	}
	if err := w.visit(e); err != nil {
		return err
	}
	if kind == File {
		_, err = io.Copy(io.Discard, e.Body)
	}
	return err
}

// take adds the bytes of a file to those of the tree.
func (w *walker) take(h *tar.Header) (int64, error) {
	if h.Size > w.limits.Bytes-w.bytes {
		return 0, refuse(CodeTooLarge, h.Name, "with its %d bytes the files have more than %d", h.Size, w.limits.Bytes)
	}
	w.bytes += h.Size
	return h.Size, nil
}

// linked returns the path of the file that a hard link names.
func (w *walker) linked(h *tar.Header) (string, error) {
	target, err := clean(h.Linkname, false)
	if err != nil {
		return "", refuse(CodeHardLink, h.Name, "what the hard link names is no path in the archive")
	}
	if n, ok := w.index.lookup(target); !ok || n.kind != File && n.kind != Link {
		return "", refuse(CodeHardLink, h.Name, "the hard link names no file that stands before it in the archive")
	}
	return target, nil
}

// place notes the entry, and has the directories above it visited that nobody named.
func (w *walker) place(e Entry) error {
	if depth := strings.Count(e.Path, "/") + 1; depth > w.limits.Depth {
		return refuse(CodeTooDeep, e.Path, "the path has %d elements, more than %d", depth, w.limits.Depth)
	}
	var at uint32 // the directory that the walk down the path is in
	for begin := 0; ; {
		i := strings.IndexByte(e.Path[begin:], '/')
		if i < 0 {
			return w.placeIn(at, e.Path[begin:], e)
		}
		above, err := w.above(at, e.Path[begin:begin+i], e.Path[:begin+i], e.Path)
		if err != nil {
			return err
		}
		at, begin = above.id, begin+i+1
	}
}

// placeIn notes the entry in its directory.
func (w *walker) placeIn(dir uint32, name string, e Entry) error {
	key := child(dir, name)
	is, known := w.index.nodes[key]
	if known && (is.kind != Dir || e.Kind != Dir) {
		return refuse(CodeDuplicate, e.Path, "the path is in the archive twice")
	}
	if !known {
		w.index.add(key, e.Kind)
	}
	return nil
}

// above finds a directory above a path, which the archive implies if nobody named it.
func (w *walker) above(dir uint32, name, above, path string) (node, error) {
	key := child(dir, name)
	is, known := w.index.nodes[key]
	if known && is.kind != Dir {
		return node{}, refuse(CodeBlocked, path, "the path leads through %q, which is not a directory", cut(above))
	}
	if known {
		return is, nil
	}
	if err := w.count(path); err != nil {
		return node{}, err
	}
	is = w.index.add(key, Dir)
	return is, w.visit(Entry{Path: above, Kind: Dir, Implied: true, Mode: 0o755})
}

func cut(name string) string { return name[:min(len(name), maxSubject)] }

// kindOf refuses what is neither a file nor a directory nor a link.
func kindOf(h *tar.Header) (Kind, error) {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return 0, refuse(CodeKind, h.Name, "it is a sparse file of GNU tar")
		}
	}
	var kind Kind
	switch h.Typeflag {
	case tar.TypeReg:
		return File, nil
	case tar.TypeDir:
		kind = Dir
	case tar.TypeSymlink:
		kind = Symlink
	case tar.TypeLink:
		kind = Link
	default:
		return 0, refuse(CodeKind, h.Name, "it is %s; files, directories and links can be unpacked", kindName(h.Typeflag))
	}
	if h.Size != 0 {
		return 0, refuse(CodeMalformed, h.Name, "it has %d bytes and is no regular file: programs do not agree on where the next entry begins", h.Size)
	}
	return kind, nil
}

func kindName(flag byte) string {
	switch flag {
	case tar.TypeChar:
		return "a character device"
	case tar.TypeBlock:
		return "a block device"
	case tar.TypeFifo:
		return "a FIFO"
	case tar.TypeGNUSparse:
		return "a sparse file of GNU tar"
	}
	return "of a kind that is not known"
}

// checkGlobal refuses a header for all entries that would change what they are: archive/tar does not apply it, other programs do. git archive
// puts its commit there.
func checkGlobal(h *tar.Header) error {
	for key := range h.PAXRecords {
		if key == "path" || key == "linkpath" || key == "size" || strings.HasPrefix(key, "GNU.sparse.") {
			return refuse(CodeMalformed, h.Name, "a header for all entries sets their %s", key)
		}
	}
	return nil
}

// modified is a time that every file system can keep, or zero.
func modified(t time.Time) time.Time {
	if s := t.Unix(); s <= 0 || s > math.MaxUint32 {
		return time.Time{}
	}
	return t
}

// content is the body of the file that the walk is at.
type content struct{ w *walker }

func (c *content) Read(p []byte) (int, error) {
	n, err := c.w.tar.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // archive/tar returns io.EOF itself
		err = c.w.failure(err)
	}
	return n, err
}
