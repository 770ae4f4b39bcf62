package triggers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// paper are the streams of an org in memory, which fail as those of a broker do: before they have done what they are asked for, or after.
type paper struct {
	mu      sync.Mutex
	seq     uint64
	events  []broker.Notification
	records []struct {
		seq  uint64
		text []byte
	}
	fault func() (before, after error)
}

func (p *paper) publish(body any) {
	text, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seq++
	p.events = append(p.events, broker.Notification{Seq: p.seq, Kind: protocol.EventS3, Body: text, Time: time.Now()})
}

// pages reads a paper.
type pages struct {
	*paper

	last uint64
}

func (r *pages) Close() {}

func (r *pages) Fetch(ctx context.Context, n int, wait time.Duration) ([]broker.Notification, error) {
	over := time.Now().Add(wait)
	for {
		if got := r.some(n); len(got) > 0 || !time.Now().Before(over) {
			return got, nil
		}
		if !pause(ctx, 5*time.Millisecond) {
			return nil, context.Cause(ctx)
		}
	}
}

func (r *pages) some(n int) []broker.Notification {
	r.mu.Lock()
	defer r.mu.Unlock()
	var got []broker.Notification
	for _, e := range r.events {
		if e.Seq > r.last && len(got) < n {
			got = append(got, e)
		}
	}
	if len(got) > 0 {
		r.last = got[len(got)-1].Seq
	}
	return got
}

func (p *paper) ledger() ledger {
	return ledger{
		read: func(_ context.Context, after uint64) (reader, error) { return &pages{paper: p, last: after}, nil },
		drop: func(_ context.Context, through uint64) error {
			return p.do(func() error {
				for len(p.events) > 0 && p.events[0].Seq <= through {
					p.events = p.events[1:]
				}
				return nil
			})
		},
		remove: func(_ context.Context, seqs []uint64) error {
			return p.do(func() error {
				p.events = slices.DeleteFunc(slices.Clone(p.events), func(n broker.Notification) bool { return slices.Contains(seqs, n.Seq) })
				return nil
			})
		},
		append: func(_ context.Context, last uint64, record []byte) (uint64, error) {
			seq := uint64(0)
			err := p.do(func() error {
				newest := uint64(0)
				if n := len(p.records); n > 0 {
					newest = p.records[n-1].seq
				}
				if newest != last {
					return broker.ErrConflict
				}
				p.seq++
				seq = p.seq
				p.records = append(p.records, struct {
					seq  uint64
					text []byte
				}{seq, record})
				return nil
			})
			return seq, err
		},
		visit: func(_ context.Context, see func(uint64, []byte) error) (uint64, error) {
			p.mu.Lock()
			records := p.records
			p.mu.Unlock()
			seq := uint64(0)
			for _, r := range records {
				seq = r.seq
				if err := see(r.seq, r.text); err != nil {
					return 0, err
				}
			}
			return seq, nil
		},
		trim: func(_ context.Context, seq uint64) error {
			return p.do(func() error {
				for len(p.records) > 1 && p.records[0].seq < seq {
					p.records = p.records[1:]
				}
				return nil
			})
		},
		newest: func(context.Context) (uint64, error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			if len(p.events) == 0 {
				return 0, nil
			}
			return p.events[len(p.events)-1].Seq, nil
		},
	}
}

func (p *paper) do(what func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	before, after := p.fault()
	if before != nil {
		return before
	}
	return errors.Join(what(), after)
}

// careful is a queue that watches what it is told: no version twice, and to one destination one copy at a time.
type careful struct {
	*desk

	t     *testing.T
	seed  uint64
	fault func() (before, after error)
	open  map[string]protocol.BatchID // by destination: the last batch
	made  map[string]int              // copies of each version
	last  map[string]int              // newest version that was copied last, by key
}

func (c *careful) Check(ctx context.Context, org protocol.OrgID, item []byte) (Checked, error) {
	checked, err := c.desk.Check(ctx, org, item)
	var raw struct {
		ID string `json:"id"`
	}
	if err == nil {
		err = json.Unmarshal(item, &raw)
	}
	checked.Item.ID = raw.ID + " " + checked.Dest
	return checked, err
}

func (c *careful) Submit(ctx context.Context, b Batch) error {
	before, after := c.fault()
	if before != nil {
		return before
	}
	c.mu.Lock()
	_, again := c.batches[b.ID]
	for i := range b.Items {
		if again {
			break
		}
		var version int
		var key, dest string
		if _, err := fmt.Sscanf(b.Items[i].ID, "%X %s %s", &version, &key, &dest); err != nil {
			c.t.Errorf("seed %d: item %q: %v", c.seed, b.Items[i].ID, err)
		}
		if earlier, ok := c.open[dest]; ok && (earlier == b.ID || !c.all && !c.ended[earlier]) {
			c.t.Errorf("seed %d: two copies to %s at once", c.seed, dest)
		}
		c.open[dest] = b.ID
		c.made[fmt.Sprint(key, " ", version)]++
		if version < c.last[key] {
			c.t.Errorf("seed %d: version %d of %s is copied after %d", c.seed, version, key, c.last[key])
		}
		c.last[key] = version
	}
	c.mu.Unlock()
	if err := c.desk.Submit(ctx, b); err != nil {
		return err
	}
	return after
}

const modelRule = `name: copy
match: {source: s3, bucket: inbox}
copy:
  id: "{{sequencer}} {{key}}"
  src: {type: objectLocation, bucket: inbox, key: "{{key}}"}
  dest: {type: objectLocation, bucket: outbox, key: "to/{{key.base}}"}
`

// TestDecisionsHoldWhateverHappens has events come repeatedly and in any order, and those who decide on them end, fail and compete at any step.
// Each version is copied once at most, a destination has one copy at a time and ends with the newest version, and nothing is lost or miscounted.
func TestDecisionsHoldWhateverHappens(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) { runModel(t, seed) })
	}
}

func runModel(t *testing.T, seed uint64) {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 7))
	var dice sync.Mutex
	roll := func(n int) int {
		dice.Lock()
		defer dice.Unlock()
		return random.IntN(n)
	}
	faulty := true
	fault := func() (before, after error) {
		dice.Lock()
		defer dice.Unlock()
		switch n := random.IntN(20); {
		case !faulty:
		case n == 0:
			before = errDown
		case n == 1:
			after = errDown
		}
		return before, after
	}
	sealer, err := protocol.NewSealer(protocol.NewSealKey())
	if err != nil {
		t.Fatal(err)
	}
	queue := &careful{desk: newDesk(), t: t, seed: seed, fault: fault, open: map[string]protocol.BatchID{}, made: map[string]int{}, last: map[string]int{}}
	s := &stage{T: t, sealer: sealer, desk: queue.desk, shelf: &shelf{objects: map[string]Object{}}, shown: map[string]shown{}, swept: map[string]sweepTally{}}
	s.apply(modelRule)
	p := &paper{fault: fault}
	runFor := func(ctx context.Context, d time.Duration) {
		ctx, cancel := context.WithTimeout(ctx, d)
		defer cancel()
		for ctx.Err() == nil {
			o := s.org()
			o.streams, o.queue, o.behind = p.ledger(), queue, roll(3)
			_ = o.run(ctx)
			pause(ctx, 10*time.Millisecond)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 2 { // of which one at least does not know that it leads no more
		all.Go(func() {
			for ctx.Err() == nil {
				runFor(ctx, time.Duration(roll(800))*time.Millisecond)
				pause(ctx, time.Duration(roll(200))*time.Millisecond)
			}
		})
	}
	all.Go(func() {
		for pause(ctx, 30*time.Millisecond) {
			queue.mu.Lock()
			for id := range queue.batches {
				if roll(4) == 0 {
					queue.ended[id] = true
				}
			}
			queue.mu.Unlock()
		}
	})
	published, versions := publishModel(p, roll)
	cancel()
	all.Wait()
	dice.Lock()
	faulty = false
	dice.Unlock()
	queue.mu.Lock()
	queue.all = true
	queue.mu.Unlock()
	runFor(t.Context(), time.Minute)

	for version, n := range queue.made {
		if n > 1 {
			t.Errorf("seed %d: %s is copied %d times", seed, version, n)
		}
	}
	for key, newest := range versions {
		if queue.last[key] != newest {
			t.Errorf("seed %d: the last copy of %s is of version %d, want %d", seed, key, queue.last[key], newest)
		}
	}
	c := s.counts("copy")
	if c.Matched != published || c.Copies != len(queue.made) || c.Waiting != 0 || c.Copies+c.Duplicates+c.Superseded != published {
		t.Errorf("seed %d: %d events and %d copies, but counts are %+v", seed, published, len(queue.made), c)
	}
	if len(p.events) > 0 {
		t.Errorf("seed %d: %d events are left", seed, len(p.events))
	}
}

// publishModel publishes versions of a few objects, some of them more than once and out of their order.
func publishModel(p *paper, roll func(int) int) (published int, newest map[string]int) {
	newest = map[string]int{}
	var list []map[string]any
	for i := range 150 {
		key := strings.Split("a/x b/x a/y c d e", " ")[roll(6)]
		newest[key] = i + 1
		list = append(list, created(key, i+1, ""))
		if roll(6) == 0 {
			list = append(list, list[roll(len(list))])
		}
	}
	for i := range list {
		if j := min(i+roll(5), len(list)-1); roll(3) == 0 {
			list[i], list[j] = list[j], list[i]
		}
	}
	for _, event := range list {
		p.publish(event)
		if roll(3) == 0 {
			pause(context.Background(), time.Duration(roll(60))*time.Millisecond)
		}
	}
	return len(list), newest
}
