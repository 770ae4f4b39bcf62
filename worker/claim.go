package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// held is an item that this worker holds.
type held struct {
	protocol.HeldClaim

	delivery *broker.Delivery
	since    time.Time
	stale    []string           // hidden destinations that earlier claims may have left
	died     protocol.HeldClaim // the latest claim that ended without a word; Fence 0: none did

	// Guarded by claims.mu.
	lease   lease
	claimed bool   // it stands in the record, or will with the next write
	entry   []byte // as it stands there
	stop    context.CancelCauseFunc

	recalled time.Time // when what waits of its batch was taken out of the queue last; guarded as well
}

// claims is the table of what this worker holds, and its durable copy: one KV record, rewritten once a fetch.
type claims struct {
	worker  string
	pool    string
	slots   int
	bucket  *broker.Bucket
	batches *broker.Bucket // where outcomes are
	conn    *broker.Conn

	mu      sync.Mutex
	held    map[protocol.Ref]*held
	changes uint64    // of the table
	stored  uint64    // those that are in the record
	named   []*held   // who stands in the record
	written time.Time // when the table of the record was taken

	record  []byte        // the last one, to be written over; guarded by writing
	writing sync.Mutex    // serializes writes of the record, so that an older table never replaces a newer one
	untidy  chan struct{} // holds a token when the record should be rewritten soon
}

// entrySize is how many bytes most entries of the record do not exceed.
const entrySize = 128

func newClaims(cfg *Config, bucket, batches *broker.Bucket, conn *broker.Conn) *claims {
	return &claims{
		worker: cfg.ID, pool: cfg.Pool, slots: cfg.Slots, bucket: bucket, batches: batches, conn: conn,
		held: map[protocol.Ref]*held{}, untidy: make(chan struct{}, 1),
	}
}

// reserve enters an item that is to be claimed, and reports whether it could: this worker may have it already.
func (c *claims) reserve(j *job) bool {
	ref := j.work.Ref()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held[ref] != nil {
		return false
	}
	j.held = &held{delivery: j.delivery, since: time.Now(), lease: lease{kept: j.delivery.Asked, epoch: j.delivery.Epoch}}
	j.held.Ref = ref
	c.held[ref] = j.held
	return true
}

// add claims jobs that were reserved. One durable write serves them all. entered is called, unless it fails before, when it is known what
// stands in their claims, and before these are stored.
func (c *claims) add(ctx context.Context, jobs []*job, entered func()) error {
	earlier, err := c.earlier(ctx, jobs)
	if err != nil {
		return err
	}
	c.mu.Lock()
	for _, j := range jobs {
		h := j.held
		// A retry comes from another consumer, whose sequence says nothing about the claims before.
		h.Fence = max(j.delivery.Sequence, j.work.Fence)
		for _, e := range earlier[h.Ref] {
			h.Fence = max(h.Fence, e.held.Fence+1)
			if e.held.Fence >= j.work.Fence { // an older claim ended in order: with the retry that this is
				h.Crashes = max(h.Crashes, e.held.Charge())
				if e.held.Fence >= h.died.Fence {
					h.died = e.held
				}
			}
			h.stale = append(h.stale, protocol.TempToken(e.worker, e.held))
		}
		h.Waiting = h.Crashes >= soloCrashes
		h.claimed, h.stop, h.entry = true, j.cancel, appendHeld(make([]byte, 0, entrySize), &h.HeldClaim)
	}
	c.mu.Unlock()
	entered()
	return c.write(ctx)
}

// begin writes down that the work of an item that waited to run alone begins now.
func (c *claims) begin(ctx context.Context, h *held) error {
	c.mu.Lock()
	h.Waiting = false
	h.entry = appendHeld(nil, &h.HeldClaim)
	c.mu.Unlock()
	return c.write(ctx)
}

// forgive writes down that fewer crashes are charged to an item than its claims tell.
func (c *claims) forgive(ctx context.Context, h *held, crashes int) error {
	c.mu.Lock()
	h.Crashes, h.Waiting = crashes, crashes >= soloCrashes
	h.entry = appendHeld(nil, &h.HeldClaim)
	c.mu.Unlock()
	return c.write(ctx)
}

// earlierClaim is a claim of another worker, dead or alive.
type earlierClaim struct {
	worker string
	held   protocol.HeldClaim
}

// earlier finds the claims of others on jobs that may have been delivered before. Fresh ones cost nothing.
func (c *claims) earlier(ctx context.Context, jobs []*job) (map[protocol.Ref][]earlierClaim, error) {
	wanted := map[protocol.Ref]bool{}
	for _, j := range jobs {
		if j.repeated() {
			wanted[j.held.Ref] = true
		}
	}
	if len(wanted) == 0 {
		return nil, nil //nolint:nilnil // no claims of others and no error
	}
	return c.others(ctx, wanted)
}

func (c *claims) others(ctx context.Context, wanted map[protocol.Ref]bool) (map[protocol.Ref][]earlierClaim, error) {
	entries, err := c.bucket.List(ctx, ">")
	if err != nil {
		return nil, fmt.Errorf("read the claims of other workers: %w", err)
	}
	found := map[protocol.Ref][]earlierClaim{}
	for _, e := range entries {
		var claim protocol.Claim
		if err := json.Unmarshal(e.Value, &claim); err != nil {
			return nil, fmt.Errorf("read the claim %s: %w", e.Key, err)
		}
		if claim.Worker == c.worker {
			continue
		}
		for _, h := range claim.Held {
			if wanted[h.Ref] {
				found[h.Ref] = append(found[h.Ref], earlierClaim{worker: claim.Worker, held: h})
			}
		}
	}
	return found, nil
}

// write returns when a record is stored that holds all changes of the table up to the call. Those who call it while a write is under
// way share the next one.
func (c *claims) write(ctx context.Context) error {
	c.mu.Lock()
	c.changes++
	change := c.changes
	c.mu.Unlock()
	c.writing.Lock()
	defer c.writing.Unlock()
	c.mu.Lock()
	if c.stored >= change {
		c.mu.Unlock()
		return nil
	}
	change = c.changes
	now := time.Now()
	named := make([]*held, 0, len(c.held))
	record := appendClaimHead(c.record[:0], c, now.UTC())
	for _, h := range c.held {
		if !h.claimed {
			continue
		}
		if len(named) > 0 {
			record = append(record, ',')
		}
		named, record = append(named, h), append(record, h.entry...)
	}
	record = append(record, "]}"...)
	c.record = record
	c.mu.Unlock()
	if _, err := c.bucket.Put(ctx, protocol.Token(c.worker), record); err != nil {
		return fmt.Errorf("store the claim of %s: %w", c.worker, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stored, c.written, c.named = change, now, named
	return nil
}

// drop forgets items. The durable record follows with the next write: until then it names items that have their outcome, which
// harms nobody.
func (c *claims) drop(list ...*held) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range list {
		if c.held[h.Ref] == h {
			delete(c.held, h.Ref)
		}
	}
}

// breakOff ends what runs of a batch. Its notice is none of its items.
func (c *claims) breakOff(name batchName, why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for ref, h := range c.held {
		if h.stop != nil && ref.Org == name.org && ref.Batch == name.batch && ref.Index >= 0 {
			h.stop(why)
		}
	}
}

// tidy has the record rewritten soon if it names items of a batch that are held no more: who acts upon the batch waits for them.
func (c *claims) tidy(name batchName) {
	c.mu.Lock()
	untidy := slices.ContainsFunc(c.named, func(h *held) bool {
		return h.Ref.Org == name.org && h.Ref.Batch == name.batch && c.held[h.Ref] != h
	})
	c.mu.Unlock()
	if untidy {
		c.rewrite()
	}
}

// rewrite has the record rewritten soon.
func (c *claims) rewrite() {
	select {
	case c.untidy <- struct{}{}:
	default: // one token is enough
	}
}

// clear removes the record of a worker that ends in order; what it handed back is charged to nobody.
func (c *claims) clear(ctx context.Context) error {
	if len(c.all()) > 0 {
		return c.write(ctx)
	}
	if err := c.bucket.Drop(ctx, protocol.Token(c.worker)); err != nil {
		return fmt.Errorf("remove the claim of %s: %w", c.worker, err)
	}
	return nil
}

// all returns what is held now.
func (c *claims) all() []*held {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]*held, 0, len(c.held))
	for _, h := range c.held {
		list = append(list, h)
	}
	return list
}

// age is how old the table in the record is.
func (c *claims) age() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Since(c.written)
}

// busy reports whether anything is held.
func (c *claims) busy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.held) > 0
}
