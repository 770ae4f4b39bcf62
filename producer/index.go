package producer

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// batchIndex knows the batches of every org by age: about 170 bytes each, its label, and its rule. One watch a process feeds it. It is there to
// list them; their states are read when they are shown.
//
// The front is ready while the index still loads: everything but the list works without it, and a list that is asked for
// too early waits for a moment, then answers 503.
type batchIndex struct {
	bucket *broker.Bucket
	loaded chan struct{} // closed once all batches that were there at the start are known
	once   sync.Once

	mu   sync.RWMutex
	orgs map[protocol.OrgID]*orgBatches
}

// orgBatches are the batches of one org.
type orgBatches struct {
	byID  map[protocol.BatchID]*indexed
	byAge []*indexed // the oldest first; those that are gone stay until they are many
	gone  int
}

// place is where a batch stands among those of its org.
type place struct {
	created int64 // nanoseconds since 1970
	id      protocol.BatchID
}

// placeOf is the place of an accepted batch.
func placeOf(record *protocol.Acceptance) place {
	return place{record.Created.UnixNano(), record.Batch}
}

func (p place) compare(q place) int {
	return cmp.Or(cmp.Compare(p.created, q.created), strings.Compare(string(p.id), string(q.id)))
}

// indexed is what the index keeps of a batch.
type indexed struct {
	place

	label string
	rule  string              // "": a caller asked for it
	final protocol.BatchState // once it was seen to have ended; it never changes again
	void  bool                // it was refused while its manifest came in: there was never a batch
	gone  bool
}

const (
	acceptFilter = "*.*.accept"
	// forgetEvery is how often the index looks whether its oldest batches are still there: retention removes without a word.
	forgetEvery = 10 * time.Minute
	// forgetUntil is how many batches in a row have to be there for the index to look no further.
	forgetUntil = 32
)

func newBatchIndex(bucket *broker.Bucket) *batchIndex {
	return &batchIndex{bucket: bucket, loaded: make(chan struct{}), orgs: map[protocol.OrgID]*orgBatches{}}
}

// follow keeps the index until ctx ends.
func (x *batchIndex) follow(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(rewatchEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		if err := x.watch(ctx); err != nil && ctx.Err() == nil {
			log.LogAttrs(ctx, slog.LevelError, "the watch on batches broke; it is opened again", slog.Any(logError, err))
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// watch applies what a watch delivers until it ends.
func (x *batchIndex) watch(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	changes, err := x.bucket.Watch(ctx, acceptFilter)
	if err != nil {
		return fmt.Errorf("list batches: %w", err)
	}
	forget := time.NewTicker(forgetEvery)
	defer forget.Stop()
	for {
		select {
		case w, ok := <-changes:
			switch {
			case !ok:
				return errors.New("list batches: the watch ended")
			case w.Current:
				x.once.Do(func() { close(x.loaded) })
			default:
				x.apply(w)
			}
		case <-forget.C:
			if err := x.forget(ctx); err != nil {
				return err
			}
		}
	}
}

// apply takes in one change of an accept record. One that cannot be read is nobody's batch.
func (x *batchIndex) apply(w broker.Watched) {
	if w.Deleted {
		x.removeKey(w.Entry.Key)
		return
	}
	// Not the whole record: a manifest page may be in it.
	var r struct {
		Org     protocol.OrgID    `json:"org"`
		Batch   protocol.BatchID  `json:"batch"`
		Created time.Time         `json:"created"`
		Total   int               `json:"total"`
		Label   string            `json:"label"`
		Rule    string            `json:"rule"`
		State   protocol.Accepted `json:"state"`
	}
	if json.Unmarshal(w.Entry.Value, &r) != nil || protocol.AcceptKey(r.Org, r.Batch) != w.Entry.Key {
		return
	}
	x.add(r.Org, indexed{
		place: place{r.Created.UnixNano(), r.Batch}, label: r.Label, rule: r.Rule, void: r.State == protocol.AcceptAbandoned && r.Total == 0,
	})
}

func (x *batchIndex) add(org protocol.OrgID, b indexed) {
	x.mu.Lock()
	defer x.mu.Unlock()
	o := x.orgs[org]
	if o == nil {
		o = &orgBatches{byID: map[protocol.BatchID]*indexed{}}
		x.orgs[org] = o
	}
	if old := o.byID[b.id]; old != nil {
		if old.place == b.place {
			old.label, old.rule, old.void, old.final = b.label, b.rule, b.void, ""
			return
		}
		o.remove(old) // begun anew under its old name
	}
	o.byID[b.id] = &b
	at, _ := slices.BinarySearchFunc(o.byAge, b.place, func(e *indexed, p place) int { return e.compare(p) })
	o.byAge = slices.Insert(o.byAge, at, &b)
}

func (x *batchIndex) remove(org protocol.OrgID, id protocol.BatchID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	o := x.orgs[org]
	if o == nil || o.byID[id] == nil {
		return
	}
	o.remove(o.byID[id])
	if len(o.byID) == 0 {
		delete(x.orgs, org)
	}
}

// removeKey removes the batch of a key. The org stands encoded in it.
func (x *batchIndex) removeKey(key string) {
	x.mu.RLock()
	for org := range x.orgs {
		rest, ok := strings.CutPrefix(key, protocol.Token(string(org))+".")
		if ok {
			x.mu.RUnlock()
			x.remove(org, protocol.BatchID(strings.TrimSuffix(rest, ".accept")))
			return
		}
	}
	x.mu.RUnlock()
}

// remove takes a batch out. Its place is closed later, with others.
func (o *orgBatches) remove(b *indexed) {
	delete(o.byID, b.id)
	b.gone = true
	o.gone++
	if o.gone > len(o.byAge)/2 {
		o.byAge = slices.DeleteFunc(o.byAge, func(e *indexed) bool { return e.gone })
		o.gone = 0
	}
}

// before returns at most n batches of an org that are older than a place, the newest first. A zero place is newer than all.
func (x *batchIndex) before(org protocol.OrgID, at place, n int) []indexed {
	x.mu.RLock()
	defer x.mu.RUnlock()
	o := x.orgs[org]
	if o == nil {
		return nil
	}
	end := len(o.byAge)
	if at != (place{}) {
		end, _ = slices.BinarySearchFunc(o.byAge, at, func(e *indexed, p place) int { return e.compare(p) })
	}
	var list []indexed
	for i := end - 1; i >= 0 && len(list) < n; i-- {
		if e := o.byAge[i]; !e.gone {
			list = append(list, *e)
		}
	}
	return list
}

// open returns at most n batches of an org that are older than a place and have not been seen to have ended, the newest first.
func (x *batchIndex) open(org protocol.OrgID, at place, n int) []indexed {
	x.mu.RLock()
	defer x.mu.RUnlock()
	o := x.orgs[org]
	if o == nil {
		return nil
	}
	end, _ := slices.BinarySearchFunc(o.byAge, at, func(e *indexed, p place) int { return e.compare(p) })
	var list []indexed
	for i := end - 1; i >= 0 && len(list) < n; i-- {
		if e := o.byAge[i]; !e.gone && !e.void && e.final == "" {
			list = append(list, *e)
		}
	}
	return list
}

// noted takes in what was seen of a batch when it was read.
func (x *batchIndex) noted(org protocol.OrgID, id protocol.BatchID, now *snapshot, found bool) {
	if !found {
		x.remove(org, id)
		return
	}
	if !now.told || !now.ended() {
		return // an abandoned acceptance may be begun anew
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if o := x.orgs[org]; o != nil && o.byID[id] != nil {
		o.byID[id].final = now.summary.State
	}
}

// forget removes the oldest batches that are no longer there.
func (x *batchIndex) forget(ctx context.Context) error {
	x.mu.RLock()
	orgs := make([]protocol.OrgID, 0, len(x.orgs))
	for org := range x.orgs {
		orgs = append(orgs, org)
	}
	x.mu.RUnlock()
	for _, org := range orgs {
		present := 0
		for _, id := range x.ids(org) {
			_, err := x.bucket.Get(ctx, protocol.AcceptKey(org, id))
			switch {
			case errors.Is(err, broker.ErrNotFound):
				x.remove(org, id)
				present = 0
			case err != nil:
				return fmt.Errorf("look for removed batches: %w", err)
			default:
				present++
			}
			if present == forgetUntil {
				break
			}
		}
	}
	return nil
}

// ids returns the batches of an org, the oldest first.
func (x *batchIndex) ids(org protocol.OrgID) []protocol.BatchID {
	x.mu.RLock()
	defer x.mu.RUnlock()
	o := x.orgs[org]
	if o == nil {
		return nil
	}
	list := make([]protocol.BatchID, 0, len(o.byID))
	for _, e := range o.byAge {
		if !e.gone {
			list = append(list, e.id)
		}
	}
	return list
}
