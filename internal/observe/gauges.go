package observe

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Queue is what waits in a lane.
type Queue struct {
	Lane    string
	Waiting int           // not delivered yet
	Held    int           // with workers
	Age     time.Duration // of the first that waits
}

// Lag is how far the aggregator is behind.
type Lag struct {
	Bundles int // of reports, not folded yet
	Unfed   int // items in manifests, not in the queue yet
}

// WatchSlots shows the slots of a worker. read is called at every scrape.
func (m *Metrics) WatchSlots(read func() (busy, free int)) error {
	if m == nil {
		return nil
	}
	gauge, err := m.meter.Int64ObservableGauge(nameSlots, metric.WithDescription("Slots of the worker."))
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	return m.observe(func(_ context.Context, o metric.Observer) error {
		busy, free := read()
		o.ObserveInt64(gauge, int64(busy), m.sets.of(attribute.String(keyState, "busy")))
		o.ObserveInt64(gauge, int64(free), m.sets.of(attribute.String(keyState, "free")))
		return nil
	}, gauge)
}

// WatchQueue shows what waits. read is called at every scrape; what it cannot tell is left out of that scrape.
func (m *Metrics) WatchQueue(read func(context.Context) ([]Queue, error)) error {
	if m == nil {
		return nil
	}
	items, err := m.meter.Int64ObservableGauge(nameQueued, metric.WithDescription("Items in the queue."))
	age, ageErr := m.meter.Float64ObservableGauge(nameQueueAge, metric.WithUnit("s"), metric.WithDescription("Age of the first item that waits."))
	if err = errors.Join(err, ageErr); err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	return m.observe(func(ctx context.Context, o metric.Observer) error {
		queues, err := read(ctx)
		for _, q := range queues {
			lane := attribute.String(keyLane, q.Lane)
			o.ObserveInt64(items, int64(q.Waiting), m.sets.of(lane, attribute.String(keyState, "waiting")))
			o.ObserveInt64(items, int64(q.Held), m.sets.of(lane, attribute.String(keyState, "held")))
			o.ObserveFloat64(age, q.Age.Seconds(), m.sets.of(lane))
		}
		return err
	}, items, age)
}

// WatchLag shows how far the aggregator is behind. read is called at every scrape.
func (m *Metrics) WatchLag(read func(context.Context) (Lag, error)) error {
	if m == nil {
		return nil
	}
	bundles, err := m.meter.Int64ObservableGauge(nameLag, metric.WithDescription("Bundles of reports that are not folded yet."))
	unfed, unfedErr := m.meter.Int64ObservableGauge(nameUnfed, metric.WithDescription("Items in manifests that are not in the queue yet."))
	if err = errors.Join(err, unfedErr); err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	return m.observe(func(ctx context.Context, o metric.Observer) error {
		lag, err := read(ctx)
		if err != nil {
			return err
		}
		o.ObserveInt64(bundles, int64(lag.Bundles))
		o.ObserveInt64(unfed, int64(lag.Unfed))
		return nil
	}, bundles, unfed)
}

func (m *Metrics) observe(callback metric.Callback, instruments ...metric.Observable) error {
	if _, err := m.meter.RegisterCallback(callback, instruments...); err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}

// sets keeps label sets that were seen, so that recording allocates nothing. Their number is bounded by the values of names.go.
type sets struct{ known sync.Map }

type setKey [3]attribute.KeyValue

func (s *sets) of(labels ...attribute.KeyValue) metric.MeasurementOption {
	var key setKey
	copy(key[:], labels)
	if known, ok := s.known.Load(key); ok {
		option, _ := known.(metric.MeasurementOption)
		return option
	}
	option := metric.WithAttributeSet(attribute.NewSet(labels...))
	s.known.Store(key, option)
	return option
}
