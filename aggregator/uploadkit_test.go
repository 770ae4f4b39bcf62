package aggregator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// desk is a broker with upload sessions in it, and what reads them.
type desk struct {
	testing.TB

	conn   *broker.Conn
	bucket *broker.Bucket
	logged *lines
}

// lines is a log that can be read while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), part)
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	conn := connected(t)
	bucket, err := conn.Bucket(t.Context(), broker.UploadBucket)
	if err != nil {
		t.Fatal(err)
	}
	return &desk{t, conn, bucket, &lines{}}
}

func (d *desk) ledger() *uploadLedger {
	return newUploadLedger(d.bucket, d.conn, slog.New(slog.NewTextHandler(d.logged, nil)))
}

// run starts an aggregator; the returned function stops it and waits.
func (d *desk) run() (stop func()) {
	d.Helper()
	a, err := New(d.Context(), Config{Logger: slog.New(slog.NewTextHandler(d.logged, nil))}, d.conn)
	if err != nil {
		d.Fatal(err)
	}
	ctx, cancel := context.WithCancel(d.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			d.Errorf("the aggregator ended with %v", err)
		}
	}
}

const (
	deskOrg protocol.OrgID     = "ORG"
	deskBox protocol.SandboxID = "box"
	partLen                    = 5
)

// session stores the record of a session with parts of partLen bytes, the last of which has one byte less.
func (d *desk) session(id protocol.UploadID, count int, edit func(*protocol.Upload)) {
	d.Helper()
	u := protocol.Upload{
		Version: protocol.UploadVersion, ID: id, Org: deskOrg, Sandbox: deskBox, Length: int64(count*partLen - 1), PartSize: partLen, PartCount: count,
		State: protocol.UploadOpen, Multipart: "m",
	}
	if edit != nil {
		edit(&u)
	}
	value, err := protocol.Encode(u)
	if err != nil {
		d.Fatal(err)
	}
	if _, err := d.bucket.Put(d.Context(), protocol.UploadSessionKey(deskOrg, deskBox, id), value); err != nil {
		d.Fatal(err)
	}
}

// sweep removes what is known of the parts of a session.
func (d *desk) sweep(id protocol.UploadID) {
	d.Helper()
	for _, filter := range []string{protocol.UploadPageFilter(deskOrg, deskBox, id), protocol.UploadProgressKey(deskOrg, deskBox, id)} {
		if err := d.bucket.DropAll(d.Context(), filter); err != nil {
			d.Fatal(err)
		}
	}
}

// told is a report of a part of a session of so many parts.
func told(id protocol.UploadID, number, count, at int, content string) protocol.UploadReport {
	size := int64(partLen)
	if number == count-1 {
		size--
	}
	return protocol.UploadReport{
		Org: deskOrg, Sandbox: deskBox, Upload: id, Multipart: "m",
		Part: protocol.UploadPart{Number: number, Size: size, ETag: content, SHA256: content, Stored: day.Add(time.Duration(at) * time.Second)},
	}
}

func (d *desk) publish(reports ...protocol.UploadReport) {
	d.Helper()
	for _, r := range reports {
		if err := d.conn.PublishUpload(d.Context(), "front", r); err != nil {
			d.Fatal(err)
		}
	}
}

// folded waits until all that was published is folded and committed.
func (d *desk) folded() {
	d.Helper()
	limit := time.After(4 * time.Minute)
	for {
		floor, last, err := d.conn.ReportFloor(d.Context())
		if err == nil && floor == last {
			return
		}
		select {
		case <-limit:
			d.Fatalf("reports are folded up to %d of %d (%v)", floor, last, err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (d *desk) get(key string, into any) (uint64, bool) {
	d.Helper()
	entry, err := d.bucket.Get(d.Context(), key)
	if errors.Is(err, broker.ErrNotFound) {
		return 0, false
	}
	if err == nil {
		err = json.Unmarshal(entry.Value, into)
	}
	if err != nil {
		d.Fatal(err)
	}
	return entry.Revision, true
}

// parts returns what is known of the parts of a session, by number, and has checked that progress says what the pages do.
func (d *desk) parts(id protocol.UploadID, count int) (map[int]protocol.UploadPart, protocol.UploadProgress) {
	d.Helper()
	known := map[int]protocol.UploadPart{}
	for number := range protocol.Pages(count) {
		var page protocol.UploadPage
		d.get(protocol.UploadPageKey(deskOrg, deskBox, id, number), &page)
		for _, p := range page.Parts {
			if protocol.PageOf(p.Number) != number {
				d.Errorf("part %d is in page %d", p.Number, number)
			}
			known[p.Number] = p
		}
	}
	var progress protocol.UploadProgress
	d.get(protocol.UploadProgressKey(deskOrg, deskBox, id), &progress)
	for n := range count + 8 {
		if p, heard := known[n]; progress.Has(n) != (heard && !p.Lost) {
			d.Errorf("progress says %v of part %d, the page %+v", progress.Has(n), n, p)
		}
	}
	return known, progress
}

// nothing fails the test if anything is known of the parts of a session.
func (d *desk) nothing(id protocol.UploadID) {
	d.Helper()
	for _, filter := range []string{protocol.UploadPageFilter(deskOrg, deskBox, id), protocol.UploadProgressKey(deskOrg, deskBox, id)} {
		keys, err := d.bucket.Keys(d.Context(), filter)
		if err != nil || len(keys) != 0 {
			d.Errorf("there is %q (%v), want nothing", keys, err)
		}
	}
}
