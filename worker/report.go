package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// reporter stores reports. While one bundle is being stored the next one gathers, so that one fsync serves all that
// finished meanwhile.
type reporter struct {
	worker string
	conn   *broker.Conn
	queue  chan pendingReport
}

type pendingReport struct {
	report protocol.Report
	stored chan error
}

const (
	bundleLimit = 512       // reports in a bundle
	bundleBytes = 512 << 10 // and roughly this many bytes
)

func newReporter(worker string, conn *broker.Conn) *reporter {
	return &reporter{worker: worker, conn: conn, queue: make(chan pendingReport)}
}

// store returns when the report is durable.
func (r *reporter) store(ctx context.Context, report protocol.Report) error {
	p := pendingReport{report: report, stored: make(chan error, 1)}
	select {
	case r.queue <- p:
	case <-ctx.Done():
		return fmt.Errorf("store a report: %w", context.Cause(ctx))
	}
	select {
	case err := <-p.stored:
		return err
	case <-ctx.Done():
		return fmt.Errorf("store a report: %w", context.Cause(ctx))
	}
}

// run gathers and publishes bundles until the context ends.
func (r *reporter) run(ctx context.Context) {
	bundles := make(chan []pendingReport)
	published := make(chan struct{})
	go func() {
		defer close(published)
		for bundle := range bundles {
			r.publish(ctx, bundle)
		}
	}()
	defer func() { close(bundles); <-published }()
	var gathered []pendingReport
	for {
		queue, out := r.queue, bundles
		if len(gathered) == 0 {
			out = nil
		}
		if len(gathered) >= bundleLimit {
			queue = nil
		}
		select {
		case <-ctx.Done():
			for _, p := range gathered {
				p.stored <- context.Cause(ctx)
			}
			return
		case p := <-queue:
			gathered = append(gathered, p)
		case out <- gathered:
			gathered = nil
		}
	}
}

// publish stores a bundle, in several messages if it is large.
func (r *reporter) publish(ctx context.Context, bundle []pendingReport) {
	for len(bundle) > 0 {
		n, data, err := r.encode(bundle)
		if err == nil {
			err = r.conn.PublishReports(ctx, data)
		}
		for _, p := range bundle[:n] {
			p.stored <- err
		}
		bundle = bundle[n:]
	}
}

// encode returns as many reports of a bundle as fit a message.
func (r *reporter) encode(bundle []pendingReport) (int, []byte, error) {
	n := len(bundle)
	for {
		out := protocol.ReportBundle{Version: protocol.ReportVersion, Worker: r.worker, Reports: make([]protocol.Report, n)}
		for i := range n {
			out.Reports[i] = bundle[i].report
		}
		data, err := protocol.Encode(out)
		if err != nil {
			return n, nil, fmt.Errorf("encode a bundle of reports: %w", err)
		}
		if len(data) <= bundleBytes || n == 1 {
			return n, data, nil
		}
		n /= 2
	}
}

const (
	storeRetry    = 250 * time.Millisecond
	storeRetryCap = 5 * time.Second
)

// storeFirmly stores a report however long the broker is away, as long as the work goes on: an outcome that
// was reached is not thrown away because of a moment without a leader.
func (w *Worker) storeFirmly(work context.Context, report protocol.Report) error {
	wait := storeRetry
	for {
		err := w.reporter.store(work, report)
		if err == nil || work.Err() != nil || errors.Is(err, broker.ErrTooLarge) {
			return err
		}
		w.cfg.Logger.Warn("cannot store an outcome; trying again", "batch", report.Ref.Batch, "index", report.Ref.Index, "error", err)
		w.pause(work, wait)
		wait = min(2*wait, storeRetryCap)
	}
}
