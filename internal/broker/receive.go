package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/copyfleet/copyfleet/protocol"
)

// Intake takes work for one pool from all its shards: the interactive lane first, then retries that are due, then the
// bulk lane; within a lane the shards in turn, so that no tenant waits behind another's million items.
// Its methods are called by one goroutine, except where said.
type Intake struct {
	conn   *Conn
	queues []*queue // in the order of precedence
	next   map[protocol.Lane]int
	wake   *nats.Subscription
	inbox  *nats.Subscription
	late   []lateInbox
	hot    chan Shard   // filled by the wake subscription
	look   *time.Ticker // finds what no wake told of: redeliveries, retries
	soon   *time.Timer  // has queues in doubt looked at again
	marks  map[string]uint64
	epoch  uint64
	asked  time.Time // when the pull that is being answered was sent
	poll   time.Duration
	answer time.Duration // see pullWait
	closed bool
}

// queue is one consumer.
type queue struct {
	shard    Shard
	stream   string
	consumer string
	hot      bool // it may have messages
	doubts   int  // how often it is looked at again soon if it has none, because somebody said that it has
}

const (
	lookEvery  = time.Second
	pullWait   = 5 * time.Second // a pull that does not end by then is given up
	hotBacklog = 256
)

// doubtFor is how long a shard of the interactive lane that had nothing after a wake is left until it is looked at again: a pull that does not wait
// finds nothing if the server has stored an item and not counted it for the consumer yet. Without this the item would
// wait for the next look.
var doubtFor = []time.Duration{3 * time.Millisecond, 30 * time.Millisecond}

// retryLane stands for the retries in an Intake's order.
const retryLane protocol.Lane = ""

var precedence = []protocol.Lane{protocol.Interactive, retryLane, protocol.Bulk}

// Intake prepares to receive the work of a pool. Close it.
func (c *Conn) Intake(ctx context.Context, pool string) (*Intake, error) {
	in := &Intake{conn: c, next: map[protocol.Lane]int{}, hot: make(chan Shard, hotBacklog), marks: map[string]uint64{}, poll: lookEvery, answer: pullWait}
	if err := c.EnsurePool(ctx, pool); err != nil {
		return nil, err
	}
	for _, lane := range precedence {
		for shard := range protocol.Shards {
			q := &queue{shard: Shard{Lane: lane, Pool: pool, Index: shard}, stream: retryStream, consumer: shardConsumer(pool, shard), hot: true}
			if lane != retryLane {
				q.stream = laneStream(lane)
			}
			in.queues = append(in.queues, q)
		}
	}
	wake, err := c.wakes(ctx, pool, in.heat)
	if err != nil {
		return nil, err
	}
	in.wake = wake
	if err := in.markRepeats(ctx); err != nil {
		in.Close()
		return nil, err
	}
	in.look, in.soon = time.NewTicker(in.poll), time.NewTimer(in.poll)
	in.soon.Stop()
	return in, nil
}

// heat runs on the subscription's goroutine.
func (in *Intake) heat(shard Shard) {
	select {
	case in.hot <- shard:
	default: // the backlog of hints is full; the next look finds the work
	}
}

// Wait returns when a shard may have work, a slot was released, or the context ends. bulkToo says whether work
// outside the interactive lane counts: it does not while there is no slot for it.
func (in *Intake) Wait(ctx context.Context, bulkToo bool, released <-chan struct{}) error {
	for !in.anyHot(bulkToo) {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-released:
			return nil
		case shard := <-in.hot:
			in.mark(shard)
		case <-in.soon.C:
			for _, q := range in.queues {
				q.hot = q.hot || q.doubts > 0
				q.doubts = max(0, q.doubts-1)
			}
		case <-in.look.C:
			for _, q := range in.queues {
				q.hot = true
			}
			return nil
		}
	}
	return nil
}

func (in *Intake) anyHot(bulkToo bool) bool {
	for _, q := range in.queues {
		if q.hot && (bulkToo || q.shard.Lane == protocol.Interactive) {
			return true
		}
	}
	return false
}

func (in *Intake) mark(shard Shard) {
	for _, q := range in.queues {
		if q.shard == shard {
			q.hot = true
			if shard.Lane == protocol.Interactive {
				q.doubts = len(doubtFor)
			}
		}
	}
}

// Fetch returns at most free items that wait now, at most freeBulk of them from outside the interactive lane. It does
// not wait for more. Never ask for what there is no slot for: the server's clock for an item runs from here. It may return items together
// with an error, also when the context has ended: the caller has them.
func (in *Intake) Fetch(ctx context.Context, free, freeBulk int) ([]*Delivery, error) {
	if err := in.refresh(ctx); err != nil {
		return nil, err
	}
	in.handBackLate()
	got, err := in.fetch(ctx, free, freeBulk)
	if in.conn.Epoch() != in.epoch { // some may have come from a server of which nothing is known yet
		for _, d := range got {
			d.Repeated = true
		}
	}
	return got, err
}

func (in *Intake) fetch(ctx context.Context, free, freeBulk int) ([]*Delivery, error) {
	for {
		select {
		case shard := <-in.hot:
			in.mark(shard)
			continue
		default:
		}
		break
	}
	var got []*Delivery
	for _, lane := range precedence {
		limit := free
		if lane != protocol.Interactive {
			limit = min(free, freeBulk)
		}
		taken, err := in.fetchLane(ctx, lane, limit)
		got = append(got, taken...)
		if err != nil {
			return got, err
		}
		free -= len(taken)
		if lane != protocol.Interactive {
			freeBulk -= len(taken)
		}
	}
	return got, nil
}

// fetchLane visits the hot shards of a lane in turn, each for its share of the limit, until the limit is reached or
// none is hot any more.
func (in *Intake) fetchLane(ctx context.Context, lane protocol.Lane, limit int) ([]*Delivery, error) {
	var got []*Delivery
	for len(got) < limit {
		hot := in.hotQueues(lane)
		if len(hot) == 0 {
			break
		}
		for i, q := range hot {
			if ctx.Err() != nil {
				return got, context.Cause(ctx)
			}
			share := (limit - len(got) + len(hot) - i - 1) / (len(hot) - i)
			if share == 0 {
				break
			}
			taken, err := in.pull(ctx, q, share)
			got = append(got, taken...)
			if err != nil {
				return got, err
			}
			q.hot = len(taken) == share
			if len(taken) > 0 {
				q.doubts = 0
			} else if q.doubts > 0 {
				in.soon.Reset(doubtFor[len(doubtFor)-q.doubts])
			}
		}
	}
	return got, nil
}

// hotQueues returns the hot shards of a lane, each time beginning with another.
func (in *Intake) hotQueues(lane protocol.Lane) []*queue {
	var hot []*queue
	for i := range protocol.Shards {
		if q := in.queue(lane, (in.next[lane]+i)%protocol.Shards); q.hot {
			hot = append(hot, q)
		}
	}
	in.next[lane]++
	return hot
}

func (in *Intake) queue(lane protocol.Lane, shard int) *queue {
	for i, l := range precedence {
		if l == lane {
			return in.queues[i*protocol.Shards+shard]
		}
	}
	return nil
}

// pull asks one consumer for up to n messages that are there now.
func (in *Intake) pull(ctx context.Context, q *queue, n int) ([]*Delivery, error) {
	if in.inbox == nil {
		sub, err := in.conn.nc.SubscribeSync(in.conn.nc.NewInbox())
		if err != nil {
			return nil, fmt.Errorf("pull from %s: %w", q.consumer, classify(err))
		}
		in.inbox = sub
	}
	req, err := json.Marshal(map[string]any{"batch": n, "no_wait": true})
	if err != nil {
		return nil, fmt.Errorf("pull from %s: %w", q.consumer, err)
	}
	msg := &nats.Msg{Subject: "$JS.API.CONSUMER.MSG.NEXT." + q.stream + "." + q.consumer, Reply: in.inbox.Subject, Data: req}
	in.asked = time.Now()
	if err := in.conn.nc.PublishMsg(msg); err != nil {
		return nil, fmt.Errorf("pull from %s: %w", q.consumer, classify(err))
	}
	// The answer is waited for also when nobody wants it any more: what it brings has to be handed back, or nobody has it until its time is over.
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), in.answer, fmt.Errorf("%w: no answer within %s", ErrUnavailable, in.answer))
	defer cancel()
	got, err := in.collect(ctx, q, n)
	if err != nil {
		in.late = append(in.late, lateInbox{in.inbox, in.asked, in.conn.Epoch()})
		in.inbox = nil
		return got, fmt.Errorf("pull from %s: %w", q.consumer, err)
	}
	return got, nil
}

func (in *Intake) collect(ctx context.Context, q *queue, n int) ([]*Delivery, error) {
	var got []*Delivery
	for len(got) < n {
		msg, err := in.inbox.NextMsgWithContext(ctx)
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return got, cause
			}
			return got, classify(err)
		}
		if status := msg.Header.Get("Status"); status != "" && len(msg.Data) == 0 {
			return got, pullStatus(status, msg.Header.Get("Description"))
		}
		if msg.Reply == "" && len(msg.Data) == 0 {
			return got, fmt.Errorf("%w: consumer %s is gone", ErrUnavailable, q.consumer)
		}
		d, err := in.delivery(q, msg)
		if err != nil {
			return got, err
		}
		got = append(got, d)
	}
	return got, nil
}

// pullStatus maps the end of a pull: 404 and 408 say that there was no more.
func pullStatus(status, description string) error {
	switch status {
	case "404", "408":
		return nil
	case "503":
		return fmt.Errorf("%w: no responders", ErrUnavailable)
	}
	return fmt.Errorf("%w: status %s %s", ErrUnavailable, status, description)
}

func (in *Intake) delivery(q *queue, msg *nats.Msg) (*Delivery, error) {
	meta, err := msg.Metadata()
	if err != nil {
		return nil, fmt.Errorf("a delivery without metadata: %w", err)
	}
	return &Delivery{
		Data:     msg.Data,
		Sequence: meta.Sequence.Consumer,
		Repeated: meta.NumDelivered > 1 || meta.Sequence.Stream <= in.marks[q.stream],
		Epoch:    in.epoch,
		Asked:    in.asked, Published: meta.Timestamp,
		reply: msg.Reply,
		conn:  in.conn,
	}, nil
}

// refresh notes, after a reconnection, which messages the server may have delivered before.
func (in *Intake) refresh(ctx context.Context) error {
	if in.epoch == in.conn.Epoch() {
		return nil
	}
	return in.markRepeats(ctx)
}

// markRepeats records the last sequence of each stream. A restarted server may have forgotten deliveries and
// acknowledgements of messages up to there, whatever it says in their metadata.
func (in *Intake) markRepeats(ctx context.Context) error {
	epoch := in.conn.Epoch()
	for _, q := range in.queues {
		if q.shard.Index != 0 {
			continue
		}
		stream, err := in.conn.js.Stream(ctx, q.stream)
		if err != nil {
			return fmt.Errorf("look at stream %s: %w", q.stream, classify(err))
		}
		in.marks[q.stream] = stream.CachedInfo().State.LastSeq
	}
	in.epoch = epoch
	return nil
}

// Close stops listening. Deliveries that were fetched stay with their holders.
func (in *Intake) Close() {
	if in.closed {
		return
	}
	in.closed = true
	if in.look != nil {
		in.look.Stop()
		in.soon.Stop()
	}
	in.handBackLate()
	for _, l := range in.late {
		_ = l.inbox.Unsubscribe() // fails only on a closed connection
	}
	for _, sub := range []*nats.Subscription{in.wake, in.inbox} {
		if sub != nil {
			_ = sub.Unsubscribe() // as above
		}
	}
}

// Delivery is one message that a worker holds until it acknowledges, gives back, or its AckWait ends.
type Delivery struct {
	Data     []byte
	Sequence uint64 // of the delivery in its consumer
	Repeated bool   // it may have been delivered before: to a worker that died, or before a restart of the server
	Epoch    uint64 // [Conn.Epoch] when it was fetched
	// Asked is when it was asked for: the server counts AckWait from then or later.
	Asked time.Time
	// Published is when it came into the queue, by the server's clock.
	Published time.Time

	reply string
	conn  *Conn
}

// Ack says that the item has its outcome. It is not confirmed: a lost one means another delivery, which
// finds the outcome.
func (d *Delivery) Ack() error { return d.answer("+ACK") }

// Nak gives the item back for another worker, after a delay (0: at once).
func (d *Delivery) Nak(delay time.Duration) error {
	if delay <= 0 {
		return d.answer("-NAK")
	}
	return d.answer(fmt.Sprintf(`-NAK {"delay":%d}`, delay.Nanoseconds()))
}

func (d *Delivery) answer(word string) error {
	if err := d.conn.nc.Publish(d.reply, []byte(word)); err != nil {
		return fmt.Errorf("answer a delivery: %w", classify(err))
	}
	return nil
}

// Extend keeps the item for another AckWait, and returns nil only when the server has confirmed it. The
// server confirms for anyone, also for one who is no longer the owner.
func (d *Delivery) Extend(ctx context.Context) error {
	// A request whose answer is lost in a reconnection would wait for as long as it may.
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err := d.conn.nc.RequestWithContext(ctx, d.reply, []byte("+WPI"))
	if err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("keep a delivery: %w", classify(err))
	}
	return err //nolint:wrapcheck // nil, or the caller's own cancellation
}
