package broker

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/copyfleet/copyfleet/protocol"
)

// PublishReports stores a bundle of reports: one message, one fsync.
func (c *Conn) PublishReports(ctx context.Context, bundle []byte) error {
	if _, err := c.publishOne(ctx, write{subject: protocol.ReportSubject, data: pack(bundle)}); err != nil {
		return fmt.Errorf("store a bundle of reports: %w", err)
	}
	return nil
}

// ReportReader delivers bundles in the order they were stored.
type ReportReader struct {
	conn     *Conn
	consumer jetstream.Consumer
	consume  jetstream.ConsumeContext
	bundles  chan Bundle
	stop     context.CancelFunc
}

// Bundle is a stored bundle of reports.
type Bundle struct {
	Data     []byte
	Sequence uint64 // in the report stream
	Repeated bool   // it may have been delivered before

	msg jetstream.Msg
}

// bundlesAhead bounds what is fetched ahead of the fold, in bytes.
const bundlesAhead = 8 << 20

// giveBackLimit is how long a reader that is closed waits for the server, if that is there. What it does not give back waits for AckWait.
const giveBackLimit = 10 * time.Second

// Reports starts reading the report stream. Several readers share it.
func (c *Conn) Reports(ctx context.Context) (*ReportReader, error) {
	consumer, err := c.js.Consumer(ctx, reportStream, reportConsumer)
	if err != nil {
		return nil, fmt.Errorf("read reports: %w", classify(err))
	}
	ctx, stop := context.WithCancel(ctx)
	r := &ReportReader{conn: c, consumer: consumer, bundles: make(chan Bundle), stop: stop}
	r.consume, err = consumer.Consume(func(msg jetstream.Msg) {
		data, err := Unpack(msg.Data())
		if err != nil {
			c.log.Error("a bundle of reports cannot be read", "error", err)
			data = msg.Data() // who reads it will leave it in the stream
		}
		bundle := Bundle{Data: data, msg: msg}
		if meta, err := msg.Metadata(); err == nil {
			bundle.Sequence, bundle.Repeated = meta.Sequence.Stream, meta.NumDelivered > 1
		}
		select {
		case r.bundles <- bundle:
		case <-ctx.Done():
			_ = msg.Nak() // not sent, it comes again after AckWait: later, but it comes
		}
	}, jetstream.PullMaxBytes(bundlesAhead), jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
		c.log.Warn("reading reports is interrupted", "error", err)
	}))
	if err != nil {
		stop()
		return nil, fmt.Errorf("read reports: %w", classify(err))
	}
	return r, nil
}

// Bundles is where they come from. It is never closed.
func (r *ReportReader) Bundles() <-chan Bundle { return r.bundles }

// Close stops reading and gives back what was delivered and not yet handed on, so that another reader has it at once. What was
// handed on and not acknowledged is delivered again after AckWait.
func (r *ReportReader) Close() {
	r.stop()
	r.consume.Drain()
	limit := time.NewTimer(giveBackLimit)
	defer limit.Stop()
	check := time.NewTicker(giveBackLimit / 5)
	defer check.Stop()
	for {
		select {
		case <-r.consume.Closed():
			return
		case <-check.C:
			if !r.conn.nc.IsConnected() { // the server is away; nothing can be given back
				return
			}
		case <-limit.C:
			return
		}
	}
}

// Backlog is the number of bundles that were stored and are not folded yet.
func (r *ReportReader) Backlog(ctx context.Context) (int, error) {
	info, err := r.consumer.Info(ctx)
	if err != nil {
		return 0, fmt.Errorf("read the report backlog: %w", classify(err))
	}
	return int(info.NumPending) + info.NumAckPending, nil //nolint:gosec // far below the limits of int
}

// Done says that the bundle is in KV. It is not confirmed: a lost one means that it is read again.
func (b Bundle) Done() error {
	if err := b.msg.Ack(); err != nil {
		return fmt.Errorf("acknowledge reports: %w", classify(err))
	}
	return nil
}

// Later gives the bundle back for a while.
func (b Bundle) Later(delay time.Duration) error {
	if err := b.msg.NakWithDelay(delay); err != nil {
		return fmt.Errorf("give reports back: %w", classify(err))
	}
	return nil
}
