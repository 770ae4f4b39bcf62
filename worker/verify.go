package worker

import (
	"crypto/md5" //nolint:gosec // compared with what a caller says, never trusted for more
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/digest"
)

// meter counts and digests what is read of a source, and marks its errors. One goroutine reads; read may be looked at by others.
type meter struct {
	item     string            // its caller's id
	from     protocol.Location // the source
	body     io.Reader
	hash     hash.Hash // nil: nobody wants one
	md5      hash.Hash // nil: nobody gave one to compare with
	declared declared  // by the source, of itself
	size     int64     // as the source tells it
	most     int64     // bytes that the caller expects; negative: any number
	read     atomic.Int64
	// ahead is how many bytes are at the destination that others have read.
	ahead atomic.Int64
	begun atomic.Int64 // when what it continues began, in Unix nanoseconds; 0: at start
	shown shownProgress
	eof   bool

	start    time.Time
	work     *protocol.Work
	progress *progress // nil: nobody is told
	told     bool
}

// newMeter returns the meter of a copy.
func newMeter(t transfer, object *storage.Object) *meter {
	m := &meter{item: t.id, from: t.src, body: object.Body, size: object.Size, most: -1, start: time.Now(), work: t.watched}
	if t.digest != protocol.DigestNone || t.expect.SHA256 != "" {
		m.hash = newSHA256(object.Size)
	}
	if t.expect.Size != nil {
		m.most = *t.expect.Size
	}
	m.declared = declaredBy(object, m.hash)
	if t.expect.MD5 != "" {
		m.md5 = md5.New() //nolint:gosec // as above
	}
	return m
}

// newSHA256 is computed beside the stream, unless that is known to be too short for it.
func newSHA256(size int64) hash.Hash {
	if size != storage.UnknownSize && size <= digest.Least {
		return sha256.New()
	}
	return digest.NewSHA256()
}

// reader is what the destination reads. Where nobody wants a digest, a file is copied by the system.
func (m *meter) reader() io.Reader {
	if body, ok := m.body.(storage.FileSender); ok && m.hash == nil && m.md5 == nil && m.declared.kind == "" {
		return &fileMeter{m, body}
	}
	return m
}

// fileMeter is the meter of a file that nobody digests.
type fileMeter struct {
	*meter

	body storage.FileSender
}

// SendFile implements storage.FileSender.
func (m *fileMeter) SendFile(to *os.File, most int64) (int64, error) {
	n, err := m.body.SendFile(to, most)
	if _, ours := errors.AsType[*storage.Error](err); err != nil && err != io.EOF && !ours { //nolint:errorlint // as in took
		m.count(int(n))
		return n, err // of the system: it is the destination that knows what to make of it
	}
	return n, m.took(int(n), err)
}

// Read implements io.Reader.
func (m *meter) Read(p []byte) (int, error) {
	n, err := m.body.Read(p)
	if m.hash != nil {
		_, _ = m.hash.Write(p[:n]) // a hash never fails
	}
	if m.md5 != nil {
		_, _ = m.md5.Write(p[:n])
	}
	m.declared.write(p[:n])
	return n, m.took(n, err)
}

// took counts what was read and says what its error means.
func (m *meter) took(n int, err error) error {
	m.count(n)
	if m.most >= 0 && m.read.Load() > m.most { // a source of unknown length might go on for ever
		return &sourceError{storage.Errorf(storage.Corrupt, "source_size_mismatch", "read", m.from.Redacted(),
			"it has more than the %d bytes that were expected", m.most)}
	}
	if err == io.EOF { //nolint:errorlint // an error that wraps io.EOF is a broken connection
		m.eof = true
		return io.EOF
	}
	if err != nil {
		return &sourceError{err}
	}
	return nil
}

// complete checks that the whole source was read, is as long as it said, and is what the caller expects. Drivers check the
// first two as well; a success that nobody verified is worth a second look.
func (m *meter) complete(t transfer) error {
	read := m.read.Load()
	if m.size != storage.UnknownSize && read != m.size {
		return &sourceError{storage.Errorf(storage.Interrupted, "source_short", "read", "source", "the source gave %d of %d bytes", read, m.size)}
	}
	if m.size == storage.UnknownSize && !m.eof {
		return &sourceError{storage.Errorf(storage.Interrupted, "source_short", "read", "source", "the source was not read to its end")}
	}
	if err := m.declared.check(t); err != nil { // first: what was changed on the way is nothing to hold against the caller's word
		return &sourceError{err}
	}
	if err := m.expected(t, read); err != nil {
		if m.size == storage.UnknownSize && m.declared.kind == "" {
			err = &unsureError{err}
		}
		return &sourceError{err}
	}
	return nil
}

// expected compares what was read with what the caller expects.
func (m *meter) expected(t transfer, read int64) error {
	if err := checkSize(t, read); err != nil {
		return err
	}
	if err := checkDigest(t, "sha256", t.expect.SHA256, m.hash); err != nil {
		return err
	}
	if m.md5 != nil {
		return checkDigest(t, "md5", t.expect.MD5, m.md5)
	}
	return nil
}

// unsureError is a source that is not what the caller expects, and that said neither how long it is nor what its digest is: it may have been cut
// on the way. The same of one that was read whole is for good: reading it again would give the same.
type unsureError struct{ err error }

func (e *unsureError) Error() string { return e.err.Error() }
func (e *unsureError) Unwrap() error { return e.err }

func isUnsure(err error) bool {
	_, unsure := errors.AsType[*unsureError](err)
	return unsure
}

// declared is the digest that a source tells of its whole content, and that what was read is held against: one is enough.
type declared struct {
	kind, digest string    // "": none
	hash         hash.Hash // of what is read
	shared       bool      // the hash is the meter's own
}

// declaredBy picks what costs least: a SHA-256, if one is computed anyway, else a checksum. own may be nil.
func declaredBy(object *storage.Object, own hash.Hash) declared {
	if digest := object.Digests[storage.DigestSHA256]; digest != "" && own != nil {
		return declared{kind: storage.DigestSHA256, digest: digest, hash: own, shared: true}
	}
	for _, kind := range [2]string{storage.DigestCRC64NVME, storage.DigestCRC32C} {
		if digest := object.Digests[kind]; digest != "" {
			return declared{kind: kind, digest: digest, hash: newDigest(kind)}
		}
	}
	return declared{}
}

func (d *declared) write(p []byte) {
	if d.hash != nil && !d.shared {
		_, _ = d.hash.Write(p) // a hash never fails
	}
}

func (d *declared) check(t transfer) error {
	if d.kind == "" {
		return nil
	}
	got := digestText(d.kind, d.hash)
	if got == d.digest {
		return nil
	}
	return storage.Errorf(storage.Corrupt, codeSourceMismatch, "verify", t.src.Redacted(),
		"the %s of what came is %s, the source says %s", d.kind, got, d.digest)
}

// verified reports whether what was read was compared with something that does not come from reading it. It is asked once all of it was
// read, and complete has agreed.
func (m *meter) verified(t transfer) bool {
	return m.size != storage.UnknownSize || t.expect.Given() || m.declared.kind != ""
}

// sha256 is the digest of what was read, in lowercase hex; "" if nobody wants one.
func (m *meter) sha256() string {
	if m.hash == nil {
		return ""
	}
	return hex.EncodeToString(m.hash.Sum(nil))
}

const expectHint = "The source is not what the manifest says: correct one of the two."

// checkSize compares a size, if it is known, with what the caller expects.
func checkSize(t transfer, size int64) error {
	if t.expect.Size == nil || size == storage.UnknownSize || size == *t.expect.Size {
		return nil
	}
	err := storage.Errorf(storage.Corrupt, "source_size_mismatch", "verify", t.src.Redacted(),
		"it has %d bytes, %d were expected", size, *t.expect.Size)
	err.Hint = expectHint
	return err
}

func checkDigest(t transfer, name, want string, have hash.Hash) error {
	if want == "" {
		return nil
	}
	got := hex.EncodeToString(have.Sum(nil))
	if got == want {
		return nil
	}
	return mismatch(t, name, got, want)
}

func mismatch(t transfer, name, got, want string) error {
	err := storage.Errorf(storage.Corrupt, "source_"+name+"_mismatch", "verify", t.src.Redacted(), "its %s is %s, %s was expected", name, got, want)
	err.Hint = expectHint
	return err
}

// peerStatus picks the status that a receipt shows: that of the item's HTTP side, the destination if both are; where neither
// is, that of the object store.
func peerStatus(t transfer, src, dest int) int {
	if dest != 0 && (t.dest.URL != "" || t.src.URL == "") {
		return dest
	}
	return src
}
