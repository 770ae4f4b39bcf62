package worker

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/sourcegraph/conc"
	"github.com/sourcegraph/conc/pool"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/hosts"
	"github.com/copyfleet/copyfleet/protocol"
)

// Worker runs items until it is told to stop.
type Worker struct {
	cfg       Config
	conn      *broker.Conn
	intake    *broker.Intake
	claims    *claims
	settled   *settled
	manifests *manifests
	controls  *controls
	starter   *starter
	decoder   decoder // used by the intake's goroutine only
	reporter  *reporter
	retrying  conc.WaitGroup // of those that plan a next attempt
	copier    *copier
	sealer    *protocol.Sealer
	slots     *slots
	parts     partRecords
	uploads   uploadRecords
	waits     chan struct{} // holds a token for each item that waits for its parts outside of the slots
	stopping  chan struct{} // closed when no more work is taken
	hosts     *hosts.Table
	parker    *parker
	notices   *notices
	alone     chan struct{} // holds one token: items under suspicion run one at a time
}

// errDraining is why an attempt was broken off when the worker stops: it is nobody's fault and not charged.
var errDraining = errors.New("the worker is shutting down")

// New prepares a worker. It takes no work before [Worker.Run].
func New(ctx context.Context, cfg Config, conn *broker.Conn, drivers Drivers, sealer *protocol.Sealer) (*Worker, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if cfg.SpoolDir != "" {
		if err := os.MkdirAll(cfg.SpoolDir, 0o700); err != nil {
			return nil, fmt.Errorf("worker: make the spool directory: %w", err)
		}
	}
	claimBucket, err := conn.Bucket(ctx, broker.ClaimBucket)
	if err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	batches, err := conn.Bucket(ctx, broker.BatchBucket)
	if err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	manifests, err := conn.Bucket(ctx, broker.ManifestBucket)
	if err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	control, err := conn.Bucket(ctx, broker.ControlBucket)
	if err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	parts, err := conn.Bucket(ctx, broker.PartBucket)
	if err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	uploads, err := conn.Bucket(ctx, broker.UploadBucket)
	if err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	claims := newClaims(&cfg, claimBucket, batches, conn)
	w := &Worker{
		cfg:       cfg,
		conn:      conn,
		claims:    claims,
		settled:   newSettled(batches),
		manifests: newManifests(manifests, batches, sealer),
		controls:  newControls(control, conn, claims, &cfg),
		starter:   newStarter(),
		reporter:  newReporter(&cfg),
		copier:    &copier{drivers: drivers, spoolDir: cfg.SpoolDir, spoolLimit: cfg.SpoolLimit, progress: newProgress(cfg.ID, conn), metrics: cfg.Metrics},
		sealer:    sealer,
		slots:     newSlots(cfg.Slots, cfg.bulkSlots()),
		parts:     partRecords{parts},
		uploads:   uploadRecords{uploads},
		waits:     make(chan struct{}, waitMost(cfg.Slots)),
		stopping:  make(chan struct{}),
		notices:   newNotices(cfg.Slots),
		alone:     make(chan struct{}, 1),
	}
	w.hosts, w.parker = w.newHosts(), newParker()
	if err := cfg.Metrics.WatchHosts(w.hostState); err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	if err := cfg.Metrics.WatchSlots(w.slots.count); err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	return w, nil
}

// Run takes and runs items until ctx ends. Then it stops its intake, lets running items finish for
// [Config.Drain], hands the rest back uncharged, and returns nil. An error means that it could not go on.
func (w *Worker) Run(ctx context.Context) error {
	intake, err := w.conn.Intake(ctx, w.cfg.Pool)
	if err != nil && ctx.Err() != nil {
		return nil // stopped before it had begun
	}
	if err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	w.intake = intake
	defer intake.Close()
	stopPlans, err := w.answerPlans(ctx)
	if err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	defer stopPlans()

	// Stopping the intake is not canceling the work: the work has a context of its own.
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)

	// those in the line, those that wait for parts, and those that wait for a host, too
	running := pool.New().WithMaxGoroutines(3*w.cfg.Slots + waitMost(w.cfg.Slots))
	background := pool.New()
	background.Go(func() { w.reportAll(work) })
	background.Go(func() { w.parkAll(work) })
	background.Go(func() { w.controls.follow(work) })
	background.Go(func() { w.controls.breakOffPaused(work) })
	background.Go(func() { w.keepHeld(work) })
	background.Go(func() { w.keepRecord(work) })
	background.Go(func() { w.copier.progress.run(work) })

	starting := pool.New()
	starting.Go(func() { w.startAll(ctx, work, running) })

	w.takeWork(ctx)
	close(w.stopping)
	stopPlans() // others answer
	w.starter.close()
	starting.Wait()
	w.drain(running, cancel)
	close(w.parker.ended)
	close(w.reporter.ended)

	cancel(errDraining)
	background.Wait()
	return w.claims.clear(context.WithoutCancel(ctx))
}
