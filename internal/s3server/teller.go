package s3server

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Listener is told of what happens to objects.
type Listener struct {
	// Skip says of which objects nothing is told. nil: of all something is.
	Skip func(bucket, key string) bool
	// Publish takes a notification of S3 in JSON, of at most 512 KiB. What it refuses is given to it again, until the server is closed.
	Publish func(ctx context.Context, notification []byte) error
}

// Bounds of what waits to be told. What exceeds them is dropped: a PUT waits for nobody who listens.
const (
	mostWaiting  = 10_000   // events
	mostBytes    = 16 << 20 // of them
	mostAtOnce   = 100      // events in a notification
	bytesAtOnce  = 256 << 10
	firstPause   = 50 * time.Millisecond // after a refusal
	longestPause = 2 * time.Second
	closeLimit   = 3 * time.Second // for what waits when the server is closed, by default
	// reservedAhead is how far the sequence that is on disk is ahead of the one that was given last, in nanoseconds: once a minute it is written.
	reservedAhead = uint64(time.Minute)
	sequenceFile  = "sequencer"
)

// teller tells a listener of changes, in their order.
type teller struct {
	dir string
	log *slog.Logger
	end time.Duration // how long what waits is told after the server was closed

	mu       sync.Mutex
	listener Listener // the zero value: nobody listens
	last     uint64   // sequence that was given
	reserved uint64   // on disk: after a restart a greater one is given
	waiting  [][]byte // records, the oldest first
	bytes    int      // of them
	dropped  int      // since that was logged
	lost     uint64   // altogether
	closed   bool

	more chan struct{} // of size 1: something waits
	done chan struct{} // closed when run has ended; nil: it does not run
	stop context.CancelCauseFunc
}

// newTeller reads how far the sequence has come.
func newTeller(dir string, log *slog.Logger) (*teller, error) {
	e := &teller{dir: dir, log: log, end: closeLimit, more: make(chan struct{}, 1)}
	raw, err := os.ReadFile(filepath.Join(dir, sequenceFile))
	if errors.Is(err, fs.ErrNotExist) {
		return e, nil
	}
	if err != nil {
		return nil, err
	}
	e.reserved, err = strconv.ParseUint(strings.TrimSpace(string(raw)), 16, 64)
	if err != nil {
		log.Warn("the embedded S3 cannot read how far its sequence has come, and goes on by the clock", "file", sequenceFile)
		e.reserved = 0
	}
	e.last = e.reserved
	return e, nil
}

// wants reports whether anybody is to be told.
func (e *teller) wants(c *change) bool {
	e.mu.Lock()
	listener := e.listener
	e.mu.Unlock()
	return listener.Publish != nil && (listener.Skip == nil || !listener.Skip(c.bucket, c.key))
}

// tell has the listener told. It does not wait for that.
func (e *teller) tell(c *change) {
	if !e.wants(c) {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	record, err := c.record(e.next(now), now)
	if err != nil || e.closed || len(e.waiting) >= mostWaiting || e.bytes+len(record) > mostBytes {
		e.drop(1)
		return
	}
	e.waiting, e.bytes = append(e.waiting, record), e.bytes+len(record)
	select {
	case e.more <- struct{}{}:
	default:
	}
}

// next is greater than all before it, those before a restart included, also when the clock was set back. The caller holds the lock.
func (e *teller) next(now time.Time) uint64 {
	e.last = max(e.last+1, uint64(now.UnixNano()))
	if e.last > e.reserved {
		e.reserved = e.last + reservedAhead
		if err := e.reserve(); err != nil {
			e.log.Error("the embedded S3 cannot store how far its sequence has come", "error", err)
		}
	}
	return e.last
}

// reserve stores what the sequence will not reach before it is stored again.
func (e *teller) reserve() error {
	path := filepath.Join(e.dir, sequenceFile)
	if err := os.WriteFile(path+".new", []byte(strconv.FormatUint(e.reserved, 16)+"\n"), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// drop counts what is not told. The caller holds the lock.
func (e *teller) drop(n int) {
	if e.dropped == 0 && n > 0 {
		e.log.Warn("the embedded S3 drops events, since too many wait", "waiting", len(e.waiting))
	}
	e.dropped += n
	e.lost += uint64(n) //nolint:gosec // a count
}

// listen begins to tell. Only one may listen.
func (e *teller) listen(ctx context.Context, l Listener) {
	ctx, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.done != nil || e.closed {
		stop(nil)
		return
	}
	e.listener, e.stop, e.done = l, stop, make(chan struct{})
	go e.run(ctx, l.Publish)
}

func (e *teller) run(ctx context.Context, publish func(context.Context, []byte) error) {
	defer close(e.done)
	for {
		n, notification := e.take()
		if n == 0 {
			if e.ended() {
				return
			}
			select {
			case <-e.more:
			case <-ctx.Done():
				return
			}
			continue
		}
		if !e.publish(ctx, publish, notification) {
			return
		}
		e.forget(n)
	}
}

// ended reports whether nothing more comes.
func (e *teller) ended() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.closed && len(e.waiting) == 0
}

// take makes a notification of what waits, which goes on waiting until it is told.
func (e *teller) take() (int, []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	n, size := 0, 0
	for n < len(e.waiting) && n < mostAtOnce && (n == 0 || size+len(e.waiting[n]) <= bytesAtOnce) {
		size += len(e.waiting[n])
		n++
	}
	if n == 0 {
		return 0, nil
	}
	return n, notificationOf(e.waiting[:n])
}

func notificationOf(records [][]byte) []byte {
	return append(append([]byte(`{"Records":[`), bytes.Join(records, []byte(","))...), "]}"...)
}

// publish tells until it is taken; false: the server is closed.
func (e *teller) publish(ctx context.Context, publish func(context.Context, []byte) error, notification []byte) bool {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		err := publish(ctx, notification)
		if err == nil {
			return true
		}
		if pause == firstPause {
			e.log.Warn("events of the embedded S3 are not taken; they are told again", "error", err)
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(pause):
		}
	}
}

// forget drops what was told.
func (e *teller) forget(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range n {
		e.bytes -= len(e.waiting[i])
		e.waiting[i] = nil
	}
	e.waiting = e.waiting[n:]
	if len(e.waiting) == 0 {
		e.waiting = nil
	}
	if e.dropped > 0 && len(e.waiting) < mostWaiting/2 {
		e.log.Error("events of the embedded S3 were dropped; a sweep of the rules on its buckets finds the objects", "events", e.dropped)
		e.dropped = 0
	}
}

// close tells what waits, as far as there is time.
func (e *teller) close() {
	e.mu.Lock()
	e.closed = true
	done, stop := e.done, e.stop
	e.mu.Unlock()
	if done == nil {
		return
	}
	select {
	case e.more <- struct{}{}:
	default:
	}
	limit := time.AfterFunc(e.end, func() { stop(context.DeadlineExceeded) })
	<-done
	limit.Stop()
	stop(nil)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.drop(len(e.waiting))
	e.waiting, e.bytes = nil, 0
	if e.dropped > 0 {
		e.log.Error("events of the embedded S3 were not told; a sweep of the rules on its buckets finds the objects", "events", e.dropped)
		e.dropped = 0
	}
}
