package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/protocol"
)

// reporter stores the news of items that have left their slots, and then answers their deliveries. While one bundle is being stored
// the next one gathers, so that one fsync serves all that finished meanwhile.
type reporter struct {
	head  []byte        // of every bundle
	many  int           // reports that are worth a bundle at once
	room  chan struct{} // holds a token for each item whose news are not stored yet
	wake  chan struct{} // holds a token when something was gathered
	ended chan struct{} // closed when nothing more will come

	mu       sync.Mutex
	gathered []news
	urgent   bool           // there is one of the interactive lane among them, or they are many
	bundle   []byte         // the last one, to be written over; of the goroutine that stores
	open     sync.WaitGroup // of the items in room
}

// news is an item that is done with here, and its encoded report.
type news struct {
	job    *job // nil: nobody waits for it to be stored
	part   bool // it is that of a part
	id     string
	urgent bool
	report []byte
	sole   *protocol.Report // the same, of a batch's only item that has ended well; nil: of all others
	since  time.Time        // when it was made
}

// Bounds of what was done and is not stored yet, in items and in their share of the slots. All of them are held, and their slots
// are in use again: while they are that many, slots wait.
const (
	unreportedShare = 2
	unreportedMost  = 1024

	bundleLimit = 512       // reports in a bundle
	bundleBytes = 512 << 10 // and roughly this many bytes
	reportSize  = 576       // bytes that most reports do not exceed

	// A bundle of bulk items that is smaller than a share of the slots waits for a moment: they do not hold slots any more.
	bundleShare  = 2
	bundleLinger = time.Millisecond
)

func newReporter(cfg *Config) *reporter {
	return &reporter{
		head: appendBundleHead(nil, cfg.ID),
		many: max(1, cfg.Slots/bundleShare),
		room: make(chan struct{}, min(unreportedShare*cfg.Slots, unreportedMost)),
		wake: make(chan struct{}, 1), ended: make(chan struct{}),
	}
}

// enter waits for room for an item. It is left with leave.
func (r *reporter) enter() {
	r.room <- struct{}{}
	r.open.Add(1)
}

func (r *reporter) leave() {
	<-r.room
	r.open.Done()
}

func (r *reporter) add(n news) {
	r.mu.Lock()
	r.gathered = append(r.gathered, n)
	first, urgent := len(r.gathered) == 1, n.urgent || len(r.gathered) >= r.many
	wake := first || urgent && !r.urgent
	r.urgent = r.urgent || urgent
	r.mu.Unlock()
	if !wake {
		return
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// linger waits for more to come before what was gathered is stored, if there is something, and it can wait.
func (r *reporter) linger(timer *time.Timer) {
	r.mu.Lock()
	waits := len(r.gathered) > 0 && !r.urgent
	r.mu.Unlock()
	if !waits {
		return
	}
	timer.Reset(bundleLinger)
	for waits {
		select {
		case <-timer.C:
			return
		case <-r.ended:
			return
		case <-r.wake:
			r.mu.Lock()
			waits = !r.urgent
			r.mu.Unlock()
		}
	}
	timer.Stop()
}

// take returns as many of the gathered as fit a message.
func (r *reporter) take() []news {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, bytes := 0, len(r.head)
	for n < len(r.gathered) && n < bundleLimit {
		if bytes += len(r.gathered[n].report) + 1; bytes > bundleBytes && n > 0 {
			break
		}
		n++
	}
	bundle := r.gathered[:n:n]
	if r.gathered = r.gathered[n:]; len(r.gathered) == 0 {
		r.gathered, r.urgent = nil, false
	}
	return bundle
}

// reportAll stores what is gathered until the reporter has ended.
func (w *Worker) reportAll(work context.Context) {
	timer := time.NewTimer(bundleLinger)
	defer timer.Stop()
	for {
		w.reporter.linger(timer)
		bundle := w.reporter.take()
		if len(bundle) > 0 {
			w.reportBundle(work, bundle)
			continue
		}
		select {
		case <-w.reporter.wake:
		case <-w.reporter.ended:
			return
		}
	}
}

// reportBundle stores a bundle and answers its deliveries, never the other way round. What could not be stored is handed back.
func (w *Worker) reportBundle(work context.Context, bundle []news) {
	jobs := make([]*job, 0, len(bundle))
	for i := range bundle {
		if bundle[i].job != nil {
			jobs = append(jobs, bundle[i].job)
		}
	}
	if err := w.store(work, bundle); err != nil {
		if len(jobs) > 0 {
			w.abandon(work, err, jobs...)
		}
	} else {
		for i := range bundle {
			if bundle[i].part {
				failpoint.HitItem(failpoint.PartReported, bundle[i].id)
			}
		}
		w.stored(work, bundle)
		w.answer(jobs)
	}
	for range jobs {
		w.reporter.leave()
	}
}

// answer acknowledges items whose reports are stored, and forgets them.
func (w *Worker) answer(jobs []*job) {
	for _, j := range jobs {
		failpoint.HitItem(failpoint.ReportStored, j.asked.ID)
	}
	for _, j := range jobs {
		w.ack(j)
		failpoint.HitItem(failpoint.Acknowledged, j.asked.ID)
	}
	w.letGo(jobs)
	for _, j := range jobs {
		w.endAlone(j)
		j.cancel(nil)
	}
}

// letGo forgets items that have come to their end here. An idle worker may not write its record for long: it does so now if somebody waits for
// the record to name them no more, or would take them for running.
func (w *Worker) letGo(jobs []*job) {
	list := make([]*held, len(jobs))
	for i, j := range jobs {
		list[i] = j.held
	}
	w.claims.drop(list...)
	// What is wanted is looked at after that. Who learns of it later looks at the record then: see controls.note.
	if slices.ContainsFunc(jobs, func(j *job) bool {
		return j.parked || j.ctx.Err() != nil || w.controls.wanted(nameOf(&j.work)) != protocol.WantRun
	}) {
		w.claims.rewrite()
	}
}

const (
	storeRetry    = 250 * time.Millisecond
	storeRetryCap = 5 * time.Second
)

// store stores a bundle: in its batch, if that has but one item, or for the aggregator.
func (w *Worker) store(work context.Context, bundle []news) error {
	if w.commitSole(work, bundle) {
		return nil
	}
	return w.storeFirmly(work, bundle)
}

// storeFirmly stores a bundle however long the broker is away, as long as the work goes on: an outcome that
// was reached is not thrown away because of a moment without a leader.
func (w *Worker) storeFirmly(work context.Context, bundle []news) error {
	data := w.reporter.encode(bundle)
	for wait := storeRetry; ; wait = min(2*wait, storeRetryCap) {
		err := w.conn.PublishReports(work, data)
		if err == nil || work.Err() != nil || errors.Is(err, broker.ErrTooLarge) {
			return err //nolint:wrapcheck // it says what it is about
		}
		w.cfg.Logger.Warn("cannot store outcomes; trying again", "items", len(bundle), "error", err)
		w.pause(work, wait)
	}
}

// encode makes the message of a bundle, in place of the last one. The reports of items stand before those of parts.
func (r *reporter) encode(bundle []news) []byte {
	data := r.bundle[:0]
	data = append(data, r.head...)
	for _, parts := range []bool{false, true} {
		first := true
		for i := range bundle {
			if bundle[i].part != parts {
				continue
			}
			switch {
			case !first:
				data = append(data, ',')
			case parts:
				data = append(data, `],"parts":[`...)
			}
			first = false
			data = append(data, bundle[i].report...)
		}
	}
	data = append(data, "]}"...)
	r.bundle = data
	return data
}

// report gives the news of an item to the reporter. The item has room there.
func (w *Worker) report(work context.Context, j *job, receipt *protocol.Receipt) {
	report := &protocol.Report{Ref: j.held.Ref, Total: j.work.Total, Lane: j.work.Lane, Receipt: *receipt}
	encoded, err := appendReport(make([]byte, 0, reportSize), report)
	if err != nil {
		w.abandon(work, fmt.Errorf("encode a report: %w", err), j)
		w.reporter.leave()
		return
	}
	n := news{job: j, id: j.asked.ID, urgent: !j.bulk(), report: encoded, since: time.Now()}
	if j.sole(receipt) {
		n.sole = report
	}
	w.reporter.add(n)
}
