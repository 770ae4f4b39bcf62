package worker

import (
	"context"
	"crypto/md5" //nolint:gosec // compared with what a store says, never trusted for more
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"hash/crc32"
	"io"

	"github.com/minio/crc64nvme"

	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
)

// comparison is what is known of source and destination without moving anything.
type comparison struct {
	same   bool   // size and a digest of one kind are had of both, and are equal
	known  bool   // false: they were not to be had, or not without reading; it counts as different
	sha256 string // of both, where that was compared
	read   int64  // bytes of a source elsewhere that were read for it
	err    error  // of the source: the copy would fail as well
}

// copied is what an item comes to whose destination needs no copy.
func (c *comparison) copied() copied {
	return copied{skip: protocol.SkipSame, sha256: c.sha256, verified: true, read: c.read}
}

// effort is what a comparison may cost beside looking.
type effort int

const (
	lookOnly   effort = iota
	readFiles         // files of this machine are read
	readSource        // a source elsewhere is read, too, if there is no other way
)

// end is what is known of one end of a copy.
type end struct {
	size   int64             // bytes, or storage.UnknownSize
	of     map[string]string // digests by name, as in [storage.Digests]
	local  storage.Source    // of which any digest may be computed, by reading it; nil: it is not to be read
	read   int64             // bytes that were read of it
	failed error
}

// digestKinds are the digests that are compared, the strongest first.
var digestKinds = []string{storage.DigestSHA256, storage.DigestMD5, storage.DigestCRC64NVME, storage.DigestCRC32C}

// compare compares the ends of a copy whose destination has size bytes.
func (c *copier) compare(ctx context.Context, t transfer, size int64, most effort) comparison {
	src := c.endOf(ctx, t, most)
	if src.failed != nil {
		return comparison{err: blame(t, &sourceError{src.failed})}
	}
	if src.size == storage.UnknownSize && t.expect.Size != nil {
		src.size = *t.expect.Size
	}
	if src.size != storage.UnknownSize && src.size != size {
		return comparison{known: true}
	}
	if src.size == 0 {
		return comparison{same: true, known: true}
	}
	src.promised(storage.DigestSHA256, t.expect.SHA256)
	src.promised(storage.DigestMD5, t.expect.MD5)
	dest := c.endOf(ctx, t.reverse(), min(most, readFiles))
	if dest.failed != nil || dest.size != size {
		return comparison{} // it changes just now
	}
	return byDigest(ctx, t, &src, &dest)
}

// byDigest compares ends of one size.
func byDigest(ctx context.Context, t transfer, src, dest *end) comparison {
	kind := kindOf(src, dest)
	if kind == "" {
		return comparison{}
	}
	theirs, err := dest.digest(ctx, kind)
	if err != nil {
		return comparison{}
	}
	ours, err := src.digest(ctx, kind)
	if err != nil {
		return comparison{err: blame(t, &sourceError{err}), read: src.moved(t)}
	}
	result := comparison{known: true, same: ours == theirs, read: src.moved(t)}
	if kind == storage.DigestSHA256 && result.same {
		result.sha256 = ours
	}
	return result
}

// endOf asks the source of a transfer for what it knows of itself.
func (c *copier) endOf(ctx context.Context, t transfer, most effort) end {
	s := c.source(t)
	e := end{size: storage.UnknownSize}
	if most == readSource {
		e.local = s
	}
	if d, ok := s.(storage.Digested); ok {
		var digests storage.Digests
		digests, e.failed = d.Digests(ctx)
		e.size, e.of = digests.Mark.Size, digests.Of
		return e
	}
	if t.src.Type == protocol.SandboxFile && most >= readFiles {
		e.local = s
	}
	if s, ok := s.(stater); ok {
		var stat storage.Stat
		if stat, e.failed = s.Stat(ctx); e.failed == nil {
			e.size = stat.Size
		}
	}
	return e
}

// promised notes what the caller says of the source; a source that says otherwise has no such digest.
func (e *end) promised(kind, digest string) {
	if digest == "" {
		return
	}
	of := map[string]string{kind: digest}
	for k, v := range e.of {
		if k != kind {
			of[k] = v
		}
	}
	e.of = of
}

// moved is how many bytes of a source that is not on this machine were read.
func (e *end) moved(t transfer) int64 {
	if t.src.Type == protocol.SandboxFile {
		return 0
	}
	return e.read
}

// kindOf is the digest that can be had of both ends: the strongest that both know, else the strongest for which reading helps; "": none.
func kindOf(a, b *end) string {
	best := ""
	for _, kind := range digestKinds {
		switch haveA, haveB := a.of[kind] != "", b.of[kind] != ""; {
		case haveA && haveB:
			return kind
		case best == "" && (haveA || a.local != nil) && (haveB || b.local != nil):
			best = kind
		}
	}
	return best
}

func (e *end) digest(ctx context.Context, kind string) (string, error) {
	if known := e.of[kind]; known != "" {
		return known, nil
	}
	object, err := e.local.Open(ctx)
	if err != nil {
		return "", err //nolint:wrapcheck // the driver's own words
	}
	defer func() { _ = object.Body.Close() }() // only read
	h := newDigest(kind)
	e.read, err = io.CopyBuffer(onlyWriter{h}, object.Body, make([]byte, digestBuffer))
	if err != nil {
		return "", err //nolint:wrapcheck // the driver's own words
	}
	return digestText(kind, h), nil
}

const digestBuffer = 256 << 10 // bytes

// onlyWriter keeps io.CopyBuffer from another way than the buffer it was given.
type onlyWriter struct{ io.Writer }

var crc32c = crc32.MakeTable(crc32.Castagnoli)

// newDigest returns the hash of one of [digestKinds].
func newDigest(kind string) hash.Hash {
	switch kind {
	case storage.DigestMD5:
		return md5.New() //nolint:gosec // as above
	case storage.DigestCRC64NVME:
		return crc64nvme.New()
	case storage.DigestCRC32C:
		return crc32.New(crc32c)
	}
	return sha256.New()
}

// digestText writes a digest as [storage.Digests] has it.
func digestText(kind string, h hash.Hash) string {
	if kind == storage.DigestCRC64NVME || kind == storage.DigestCRC32C {
		return base64.StdEncoding.EncodeToString(h.Sum(nil))
	}
	return hex.EncodeToString(h.Sum(nil))
}
