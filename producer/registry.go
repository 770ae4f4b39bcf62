package producer

import (
	"context"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// Records is where the registry's data lives: a KV bucket, or a part of one. Keys consist of letters,
// digits, '-', '_', '=' and '.'.
type Records interface {
	Put(ctx context.Context, key string, value []byte) error
	// Create is Put for a key that has no value; else the error is [ErrExists].
	Create(ctx context.Context, key string, value []byte) error
	Delete(ctx context.Context, key string) error
	// Watch delivers every present record, then one with Current set and nothing else, then each change in
	// the order it was made. The channel closes when ctx ends, or when the watch breaks.
	Watch(ctx context.Context) (<-chan Record, error)
}

// ErrExists is what [Records] Create returns for a key that has a value.
var ErrExists = errors.New("record exists")

// ErrUnknown is returned for a key, sandbox or grant that is not there.
var ErrUnknown = errors.New("no such record")

// Record is one entry of a watch.
type Record struct {
	Key     string
	Value   []byte
	Deleted bool
	Current bool // not a record: all that were present have been delivered
}

const (
	// rewatchEvery is the pause between attempts to open a broken watch again.
	rewatchEvery = time.Second
	// settleWithin bounds how long a write waits to come back through the watch. Then it is put in force by hand.
	settleWithin = 5 * time.Second
)

// Registry answers, from memory, who a key belongs to, which sandboxes there are and which buckets an org may
// use. One goroutine feeds it from a watch; [Registry.Wait] waits for its end.
type Registry struct {
	records Records
	log     *slog.Logger
	done    chan struct{}

	mu      sync.RWMutex
	tables  *tables
	current bool                       // the watch stands
	waiting map[string][]*pendingWrite // by key: writes that have not come back yet
}

// pendingWrite is a write on its way back.
type pendingWrite struct {
	value []byte // nil: any
	gone  bool   // waits for a deletion
	seen  chan struct{}
}

// NewRegistry returns a registry once its watch has delivered all that is present. It lives until ctx ends. If
// the watch breaks it is opened again, and the registry meanwhile keeps what it last knew.
func NewRegistry(ctx context.Context, records Records, log *slog.Logger) (*Registry, error) {
	if log == nil {
		log = slog.Default()
	}
	r := &Registry{
		records: records, log: log, done: make(chan struct{}),
		tables: newTables(), waiting: map[string][]*pendingWrite{},
	}
	watchCtx, stop := context.WithCancel(ctx)
	ch, err := r.open(watchCtx)
	if err != nil {
		stop()
		close(r.done)
		return nil, fmt.Errorf("registry: %w", err)
	}
	go r.run(ctx, ch, stop)
	return r, nil
}

// Wait returns when the registry's goroutine has ended, after its context did.
func (r *Registry) Wait() { <-r.done }

// Current reports whether the watch stands. If not, the tables may be behind.
func (r *Registry) Current() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.current
}

// open starts a watch and fills fresh tables from it, so that what was deleted while there was none is gone.
func (r *Registry) open(ctx context.Context) (<-chan Record, error) {
	ch, err := r.records.Watch(ctx)
	if err != nil {
		return nil, fmt.Errorf("watch records: %w", err)
	}
	fresh := newTables()
	for rec := range ch {
		if rec.Current {
			r.mu.Lock()
			r.tables, r.current = fresh, true
			r.mu.Unlock()
			return ch, nil
		}
		r.complain(ctx, rec, fresh.apply(rec))
	}
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("watch records: %w", err)
	}
	return nil, errors.New("watch records: ended before it was current")
}

func (r *Registry) run(ctx context.Context, ch <-chan Record, stop context.CancelFunc) {
	defer close(r.done)
	for {
		r.follow(ctx, ch)
		stop()
		if ctx.Err() != nil {
			return
		}
		if ch, stop = r.reopen(ctx); ch == nil {
			return
		}
	}
}

// follow applies changes until the watch ends.
func (r *Registry) follow(ctx context.Context, ch <-chan Record) {
	for rec := range ch {
		if !rec.Current {
			r.change(ctx, rec)
		}
	}
	r.mu.Lock()
	r.current = false
	r.mu.Unlock()
}

// reopen tries until it has a watch again. It returns nil when ctx ended.
func (r *Registry) reopen(ctx context.Context) (<-chan Record, context.CancelFunc) {
	tick := time.NewTicker(rewatchEvery)
	defer tick.Stop()
	for {
		watchCtx, stop := context.WithCancel(ctx)
		ch, err := r.open(watchCtx)
		if err == nil {
			return ch, stop
		}
		stop()
		if ctx.Err() != nil {
			return nil, nil
		}
		r.log.LogAttrs(ctx, slog.LevelError, "registry watch broke", slog.Any(logError, err))
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, nil
		}
	}
}

// change applies one record and wakes the writes that waited for it.
func (r *Registry) change(ctx context.Context, rec Record) {
	r.mu.Lock()
	err := r.tables.apply(rec)
	r.waiting[rec.Key] = slices.DeleteFunc(r.waiting[rec.Key], func(w *pendingWrite) bool {
		match := w.gone == rec.Deleted && (w.gone || w.value == nil || string(w.value) == string(rec.Value))
		if match {
			close(w.seen)
		}
		return match
	})
	if len(r.waiting[rec.Key]) == 0 {
		delete(r.waiting, rec.Key)
	}
	r.mu.Unlock()
	r.complain(ctx, rec, err)
}

func (r *Registry) complain(ctx context.Context, rec Record, err error) {
	if err == nil {
		return
	}
	// The key of a record holds at most the digest of an API key, cut here all the same.
	kind, _, _ := strings.Cut(rec.Key, ".")
	r.log.LogAttrs(ctx, slog.LevelError, "registry record ignored",
		slog.String(logRecord, kind), slog.Any(logError, err))
}

func (r *Registry) expect(key string, value []byte, gone bool) *pendingWrite {
	w := &pendingWrite{value: value, gone: gone, seen: make(chan struct{})}
	r.mu.Lock()
	r.waiting[key] = append(r.waiting[key], w)
	r.mu.Unlock()
	return w
}

func (r *Registry) forget(key string, w *pendingWrite) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting[key] = slices.DeleteFunc(r.waiting[key], func(x *pendingWrite) bool { return x == w })
	if len(r.waiting[key]) == 0 {
		delete(r.waiting, key)
	}
}

// settle waits until a write has come back through the watch, so that the caller's next call sees it, and
// no older record that is still on its way undoes it. It reports whether it came.
func (r *Registry) settle(ctx context.Context, w *pendingWrite) bool {
	timer := time.NewTimer(settleWithin)
	defer timer.Stop()
	select {
	case <-w.seen:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// put stores a record and returns when it is in force here.
func (r *Registry) put(ctx context.Context, key string, v any) error {
	value, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("registry: encode record: %w", err)
	}
	w := r.expect(key, value, false)
	defer r.forget(key, w)
	if err := r.records.Put(ctx, key, value); err != nil {
		return fmt.Errorf("registry: put record: %w", err)
	}
	if !r.settle(ctx, w) {
		r.change(ctx, Record{Key: key, Value: value})
	}
	return nil
}

// remove deletes a record and returns when that is in force here.
func (r *Registry) remove(ctx context.Context, key string) error {
	w := r.expect(key, nil, true)
	defer r.forget(key, w)
	if err := r.records.Delete(ctx, key); err != nil {
		return fmt.Errorf("registry: delete record: %w", err)
	}
	if !r.settle(ctx, w) {
		r.change(ctx, Record{Key: key, Deleted: true})
	}
	return nil
}

// Authenticate returns whom a key belongs to. The digest is looked up and then compared in constant time; what
// a timing could tell about it is of no use to find the key.
func (r *Registry) Authenticate(key string) (Principal, bool) {
	sum := hashAPIKey(key)
	r.mu.RLock()
	k, ok := r.tables.keys[keyRecord(sum)]
	r.mu.RUnlock()
	if !ok || subtle.ConstantTimeCompare(k.sum[:], sum[:]) != 1 {
		return Principal{}, false
	}
	return Principal{KeyID: k.ID, Org: k.Org, Role: k.Role}, true
}

func keyRecord(sum [32]byte) string { return "key." + hex.EncodeToString(sum[:]) }

func sandboxRecord(org protocol.OrgID, id protocol.SandboxID) string {
	return "sandbox." + protocol.Token(string(org)) + "." + protocol.Token(string(id))
}
