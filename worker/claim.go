package worker

import (
	"context"
	"encoding/json"
	"fmt"
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
	stale    []string // hidden destinations that earlier claims may have left

	// Guarded by claims.mu.
	lease lease
}

// claims is the table of what this worker holds, and its durable copy: one KV record, rewritten once a fetch.
type claims struct {
	worker  string
	bucket  *broker.Bucket
	batches *broker.Bucket // where outcomes are
	conn    *broker.Conn

	mu      sync.Mutex
	held    map[protocol.Ref]*held
	written time.Time

	writing sync.Mutex // serializes writes of the record, so that an older table never replaces a newer one
}

func newClaims(worker string, bucket, batches *broker.Bucket, conn *broker.Conn) *claims {
	return &claims{worker: worker, bucket: bucket, batches: batches, conn: conn, held: map[protocol.Ref]*held{}}
}

func (c *claims) holds(ref protocol.Ref) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held[ref] != nil
}

// add claims jobs, before any of their work starts. One durable write serves them all.
func (c *claims) add(ctx context.Context, jobs []*job) error {
	earlier, err := c.earlier(ctx, jobs)
	if err != nil {
		return err
	}
	now := time.Now()
	c.mu.Lock()
	for _, j := range jobs {
		ref := j.work.Ref()
		h := &held{delivery: j.delivery, since: now, lease: lease{kept: j.delivery.Asked, epoch: j.delivery.Epoch}}
		// A retry comes from another consumer, whose sequence says nothing about the claims before.
		h.Ref, h.Fence = ref, max(j.delivery.Sequence, j.work.Fence)
		for _, e := range earlier[ref] {
			h.Fence = max(h.Fence, e.held.Fence+1)
			if e.held.Fence >= j.work.Fence { // an older claim ended in order: with the retry that this is
				h.Crashes = max(h.Crashes, e.held.Charge())
			}
			h.stale = append(h.stale, protocol.TempToken(e.worker, e.held))
		}
		h.Waiting = h.Crashes >= soloCrashes
		j.held = h
		c.held[ref] = h
	}
	c.mu.Unlock()
	if err := c.write(ctx); err != nil {
		for _, j := range jobs {
			c.drop(j.held)
		}
		return err
	}
	return nil
}

// begin writes down that the work of an item that waited to run alone begins now.
func (c *claims) begin(ctx context.Context, h *held) error {
	c.mu.Lock()
	h.Waiting = false
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
			wanted[j.work.Ref()] = true
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

// write stores the table as it is now.
func (c *claims) write(ctx context.Context) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.mu.Lock()
	record := protocol.Claim{Version: protocol.ClaimVersion, Worker: c.worker, Written: time.Now().UTC(), Held: make([]protocol.HeldClaim, 0, len(c.held))}
	for _, h := range c.held {
		record.Held = append(record.Held, h.HeldClaim)
	}
	c.mu.Unlock()
	value, err := protocol.Encode(record)
	if err != nil {
		return fmt.Errorf("store the claim of %s: %w", c.worker, err)
	}
	if _, err := c.bucket.Put(ctx, protocol.Token(c.worker), value); err != nil {
		return fmt.Errorf("store the claim of %s: %w", c.worker, err)
	}
	c.mu.Lock()
	c.written = record.Written
	c.mu.Unlock()
	return nil
}

// drop forgets an item. The durable record follows with the next write: until then it names an item that
// has its outcome, which harms nobody.
func (c *claims) drop(h *held) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held[h.Ref] == h {
		delete(c.held, h.Ref)
	}
}

// clear removes the record of a worker that ends in order; what it handed back is charged to nobody.
func (c *claims) clear(ctx context.Context) error {
	c.mu.Lock()
	left := len(c.held)
	c.mu.Unlock()
	if left > 0 {
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

func (c *claims) age() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Since(c.written)
}
