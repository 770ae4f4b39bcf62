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

// Hosts is what a worker knows of the hosts that its items visit. Sides count apart. No host has a name here: there may be any number.
type Hosts struct {
	Working, Resting int
	Waiting          int   // items that wait for a place
	Places           []int // of each that is in use: how many items may be there at once; in order
}

// WatchHosts shows the hosts of a worker. read is called at every scrape.
func (m *Metrics) WatchHosts(read func() Hosts) error {
	if m == nil {
		return nil
	}
	known, err := m.meter.Int64ObservableGauge(nameHosts, metric.WithDescription("Hosts, as sources and as destinations each."))
	waiting, waitingErr := m.meter.Int64ObservableGauge(nameHeld, metric.WithDescription("Items that wait for a place at a host."))
	places, placesErr := m.meter.Int64ObservableGauge(namePlaces,
		metric.WithDescription("Items that may be at a host at once: the least, the median and the most of all hosts in use."))
	if err = errors.Join(err, waitingErr, placesErr); err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	return m.observe(func(_ context.Context, o metric.Observer) error {
		h := read()
		state := func(name string) metric.MeasurementOption { return m.sets.of(attribute.String(keyState, name)) }
		o.ObserveInt64(known, int64(h.Working), state("working"))
		o.ObserveInt64(known, int64(h.Resting), state("resting"))
		o.ObserveInt64(waiting, int64(h.Waiting))
		if n := len(h.Places); n > 0 {
			o.ObserveInt64(places, int64(h.Places[0]), state("least"))
			o.ObserveInt64(places, int64(h.Places[n/2]), state("median"))
			o.ObserveInt64(places, int64(h.Places[n-1]), state("most"))
		}
		return nil
	}, known, waiting, places)
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
