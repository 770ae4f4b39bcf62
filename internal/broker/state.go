package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Bucket is a KV bucket (ADR-8) whose writes carry expected revisions and may be committed together. Keys are of
// the alphabet [A-Za-z0-9/_=.-].
type Bucket struct {
	conn   *Conn
	name   string
	packed bool // values are compressed, see pack.go
	stream jetstream.Stream
}

// Entry is a value with its revision.
type Entry struct {
	Key      string
	Value    []byte
	Revision uint64
}

// Change is one write of a commit. Revision is the one that the key must have now; 0: the key must not exist.
type Change struct {
	Key      string
	Value    []byte
	Revision uint64
}

// MaxCommit is the number of changes that a commit may hold.
const MaxCommit = 1000

// plainCommit is the number of changes up to which a commit of independent keys is cheaper as single writes
// than as an atomic batch, which costs 3 to 6 ms whatever its size.
const plainCommit = 1

const headerOperation = "KV-Operation"

// Bucket opens a bucket that Setup created.
func (c *Conn) Bucket(ctx context.Context, name string) (*Bucket, error) {
	stream, err := c.js.Stream(ctx, bucketStreamName(name))
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", name, classify(err))
	}
	return &Bucket{conn: c, name: name, packed: packs(name), stream: stream}, nil
}

func (b *Bucket) subject(key string) string { return bucketPrefix(b.name) + key }

// Get returns the value of a key, or [ErrNotFound]. Where the marker of a deletion stands, the entry that comes with that error has its revision:
// the one to name in a [Change] that writes the key anew.
func (b *Bucket) Get(ctx context.Context, key string) (Entry, error) {
	msg, err := b.stream.GetLastMsgForSubject(ctx, b.subject(key))
	if err != nil {
		return Entry{}, fmt.Errorf("read %s from %s: %w", key, b.name, classify(err))
	}
	if msg.Header.Get(headerOperation) != "" {
		return Entry{Key: key, Revision: msg.Sequence}, fmt.Errorf("read %s from %s: %w", key, b.name, ErrNotFound)
	}
	return Entry{Key: key, Value: b.unpack(msg.Data), Revision: msg.Sequence}, nil
}

// Now is the time by the clock of the server that keeps the bucket.
func (b *Bucket) Now(ctx context.Context) (time.Time, error) {
	info, err := b.stream.Info(ctx)
	if err != nil {
		return time.Time{}, b.wrap("read", "the time", classify(err))
	}
	return info.TimeStamp, nil
}

// Put stores a value whatever was there, and returns its revision.
func (b *Bucket) Put(ctx context.Context, key string, value []byte) (uint64, error) {
	rev, err := b.conn.publishOne(ctx, write{subject: b.subject(key), data: b.pack(value)})
	return rev, b.wrap("write", key, err)
}

// Update stores a value if the key has the revision, else returns [ErrConflict]. It returns the new revision.
func (b *Bucket) Update(ctx context.Context, change Change) (uint64, error) {
	rev, err := b.conn.publishOne(ctx, write{subject: b.subject(change.Key), data: b.pack(change.Value), expect: &change.Revision})
	return rev, b.wrap("write", change.Key, err)
}

// Create stores a value if the key does not exist, else returns [ErrExists].
func (b *Bucket) Create(ctx context.Context, key string, value []byte) (uint64, error) {
	rev, err := b.Update(ctx, Change{Key: key, Value: value})
	if !errors.Is(err, ErrConflict) {
		return rev, err
	}
	// The key may hold the marker of a deletion, whose sequence the server expects.
	msg, getErr := b.stream.GetLastMsgForSubject(ctx, b.subject(key))
	if getErr != nil {
		return 0, b.wrap("read", key, classify(getErr))
	}
	if msg.Header.Get(headerOperation) == "" {
		return 0, fmt.Errorf("create %s in %s: %w", key, b.name, ErrExists)
	}
	rev, err = b.Update(ctx, Change{Key: key, Value: value, Revision: msg.Sequence})
	if errors.Is(err, ErrConflict) {
		return 0, fmt.Errorf("create %s in %s: %w", key, b.name, ErrExists)
	}
	return rev, err
}

// Delete removes a key. Removing one that does not exist is no error.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	msg := nats.NewMsg(b.subject(key))
	msg.Header.Set(headerOperation, "PURGE")
	msg.Header.Set(jetstream.MsgRollup, jetstream.MsgRollupSubject)
	_, err := b.conn.request(ctx, msg)
	return b.wrap("delete", key, err)
}

// Drop removes a key without leaving a marker of it, which Delete does for those who watch. It is for keys that come
// and go, such as those of processes: markers count in a List.
func (b *Bucket) Drop(ctx context.Context, key string) error {
	if err := b.stream.Purge(ctx, jetstream.WithPurgeSubject(b.subject(key))); err != nil {
		return b.wrap("remove", key, classify(err))
	}
	return nil
}

// DropAll removes all keys that match a filter, without leaving markers. It is one operation, however many they are.
func (b *Bucket) DropAll(ctx context.Context, filter string) error { return b.Drop(ctx, filter) }

// Commit applies all changes or none. It returns the new revisions in the order of the changes, or [ErrConflict].
func (b *Bucket) Commit(ctx context.Context, changes []Change) ([]uint64, error) {
	if len(changes) > MaxCommit {
		return nil, fmt.Errorf("commit %d changes to %s: at most %d", len(changes), b.name, MaxCommit)
	}
	if len(changes) <= plainCommit {
		return b.commitPlain(ctx, changes)
	}
	writes := make([]write, len(changes))
	for i := range changes {
		writes[i] = write{subject: b.subject(changes[i].Key), data: b.pack(changes[i].Value), expect: &changes[i].Revision}
	}
	last, err := b.conn.publishAtomic(ctx, writes)
	if err != nil {
		return nil, b.wrap("commit", changes[0].Key+" and others", err)
	}
	revs := make([]uint64, len(changes))
	for i := range revs {
		revs[i] = last - uint64(len(changes)-1-i) //nolint:gosec // i is below len
	}
	return revs, nil
}

func (b *Bucket) commitPlain(ctx context.Context, changes []Change) ([]uint64, error) {
	revs := make([]uint64, 0, len(changes))
	for _, change := range changes {
		rev, err := b.Update(ctx, change)
		if err != nil {
			return nil, err
		}
		revs = append(revs, rev)
	}
	return revs, nil
}

func (b *Bucket) wrap(verb, key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s in %s: %w", verb, key, b.name, err)
}

// listLimit is how many entries one multi_last request returns at most (server limit 1024).
const listLimit = 1024

// List returns the entries whose keys match a filter with NATS wildcards, at most 1024 and not in order. It is
// for small buckets; a large one is walked with [Bucket.Watch].
func (b *Bucket) List(ctx context.Context, filter string) ([]Entry, error) {
	if b.conn.replicas > 1 {
		return b.listByWatch(ctx, filter)
	}
	req, err := json.Marshal(map[string]any{"multi_last": []string{b.subject(filter)}, "batch": listLimit})
	if err != nil {
		return nil, fmt.Errorf("list %s in %s: %w", filter, b.name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	inbox := b.conn.nc.NewRespInbox()
	answers := make(chan *nats.Msg, listLimit+1) // SubscribeSync would make one of half a MiB
	sub, err := b.conn.nc.ChanSubscribe(inbox, answers)
	if err != nil {
		return nil, fmt.Errorf("list %s in %s: %w", filter, b.name, classify(err))
	}
	defer func() { _ = sub.Unsubscribe() }() // the connection is closing if this fails
	msg := &nats.Msg{Subject: "$JS.API.DIRECT.GET." + bucketStreamName(b.name), Reply: inbox, Data: req}
	if err := b.conn.nc.PublishMsg(msg); err != nil {
		return nil, fmt.Errorf("list %s in %s: %w", filter, b.name, classify(err))
	}
	return b.collect(ctx, answers, filter)
}

// listByWatch asks the leader: on a cluster the request above may be answered by a replica that is behind.
func (b *Bucket) listByWatch(ctx context.Context, filter string) ([]Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	present, err := b.Watch(ctx, filter)
	if err != nil {
		return nil, err
	}
	var entries []Entry
	for w := range present {
		if w.Current {
			return entries, nil
		}
		if !w.Deleted {
			entries = append(entries, w.Entry)
		}
	}
	return nil, fmt.Errorf("list %s in %s: %w", filter, b.name, ErrUnavailable)
}

func (b *Bucket) collect(ctx context.Context, answers <-chan *nats.Msg, filter string) ([]Entry, error) {
	var entries []Entry
	for {
		var msg *nats.Msg
		select {
		case msg = <-answers:
		case <-ctx.Done():
			return nil, fmt.Errorf("list %s in %s: %w: %w", filter, b.name, ErrUnavailable, context.Cause(ctx))
		}
		if msg == nil {
			return nil, fmt.Errorf("list %s in %s: %w: the connection was closed", filter, b.name, ErrUnavailable)
		}
		switch status := msg.Header.Get("Status"); status {
		case "204":
			return entries, nil
		case "404": // also the answer to an entry that cannot be read, in the middle of the others
			if len(entries) > 0 || msg.Header.Get("Description") != "No Results" {
				return nil, fmt.Errorf("list %s in %s: %w: %s", filter, b.name, ErrUnavailable, msg.Header.Get("Description"))
			}
			return entries, nil
		case "":
		default:
			return nil, fmt.Errorf("list %s in %s: %w: status %s %s", filter, b.name, ErrUnavailable, status, msg.Header.Get("Description"))
		}
		if msg.Header.Get(headerOperation) != "" {
			continue
		}
		rev, err := strconv.ParseUint(msg.Header.Get("Nats-Sequence"), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("list %s in %s: sequence %q: %w", filter, b.name, msg.Header.Get("Nats-Sequence"), err)
		}
		key := strings.TrimPrefix(msg.Header.Get("Nats-Subject"), bucketPrefix(b.name))
		entries = append(entries, Entry{Key: key, Value: b.unpack(msg.Data), Revision: rev})
	}
}

// Watched is one event of a watch. After the entries that existed comes one with Current set and nothing else.
type Watched struct {
	Entry   Entry
	Deleted bool
	Current bool
}

// watchCheck is how often a watch is compared with the connection.
const watchCheck = 100 * time.Millisecond

// Watch sends the entries that match one of the filters, then their changes, until the context ends, or the connection is another one; then it
// closes the channel. A server that was restarted knows nothing of a watch, and the client notices only after 10 to 20 s: who goes on
// makes a new one. A watch is a consumer on the server: one a process, never one a caller.
func (b *Bucket) Watch(ctx context.Context, filters ...string) (<-chan Watched, error) {
	filter := strings.Join(filters, " ")
	epoch := b.conn.Epoch()
	kv, err := b.conn.js.KeyValue(ctx, b.name)
	if err != nil {
		return nil, fmt.Errorf("watch %s in %s: %w", filter, b.name, classify(err))
	}
	watcher, err := kv.WatchFiltered(ctx, filters)
	if err != nil {
		return nil, fmt.Errorf("watch %s in %s: %w", filter, b.name, classify(err))
	}
	out := make(chan Watched)
	go func() {
		defer close(out)
		defer func() { _ = watcher.Stop() }() // the connection is closing if this fails
		check := time.NewTicker(watchCheck)
		defer check.Stop()
		for b.conn.Epoch() == epoch {
			select {
			case <-ctx.Done():
				return
			case <-check.C:
			case e, ok := <-watcher.Updates():
				if !ok {
					return
				}
				select {
				case out <- b.watched(e):
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return out, nil
}

func (b *Bucket) watched(e jetstream.KeyValueEntry) Watched {
	if e == nil {
		return Watched{Current: true}
	}
	return Watched{
		Entry:   Entry{Key: e.Key(), Value: b.unpack(e.Value()), Revision: e.Revision()},
		Deleted: e.Operation() != jetstream.KeyValuePut,
	}
}

// Expire stores a value that the server removes after ttl (whole seconds, at least one).
func (b *Bucket) Expire(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	msg := nats.NewMsg(b.subject(key))
	msg.Data = b.pack(value)
	msg.Header.Set(jetstream.MsgTTLHeader, max(ttl, time.Second).Truncate(time.Second).String())
	_, err := b.conn.request(ctx, msg)
	return b.wrap("write", key, err)
}
