package worker

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/copyfleet/copyfleet/internal/observe"
)

// Config is how a worker behaves.
type Config struct {
	// ID names the worker in claims, receipts and logs. It must differ from that of every other process, also of the
	// process that ran here before. Required.
	ID string
	// Pool is the pool whose items the worker runs. "": the default pool.
	Pool string
	// Slots is the number of items that run at once. 0: [DefaultSlots]; at most 4096.
	Slots int
	// Drain is how long running items may go on after the intake stopped; then they are handed back. 0: 20 s.
	Drain time.Duration
	// PauseGrace is how long the running items of a batch that is paused may go on; then they are broken off, and nothing is
	// charged for that. 0: 5 s.
	PauseGrace time.Duration
	// MaxHold bounds how long one attempt may last, however often it is extended. 0: 24 h.
	MaxHold time.Duration
	// SpoolDir is where content of unknown length is kept while its length is found out; it is made if it is missing. "": the
	// system's temporary directory. SpoolLimit bounds one such content in bytes; 0: 5 GiB.
	SpoolDir   string
	SpoolLimit int64
	// PartThreshold is from how many bytes on an item is moved in parts, where both of its ends can; 0: 64 MiB. PartSize is how many
	// bytes a part has, rounded up to a MiB, and more where there would be too many; 0: 16 MiB.
	PartThreshold, PartSize int64
	// SpreadAfter is how long the rest of an item may take at the rate seen until its parts are made work for all workers; longer, up to three
	// times that, by what it takes to read it once more for its digest. 0: 3 s.
	SpreadAfter time.Duration
	// HostConcurrency is how many items are at one host at once at most, as a source and as a destination each. 0: what the host does most
	// with is found out.
	HostConcurrency int
	// HostRequests and HostBytes are what goes to or comes from one host in a second, TenantRequests and TenantBytes what is done for one
	// tenant; each for this worker. An item is a request. 0: unlimited.
	HostRequests, HostBytes, TenantRequests, TenantBytes float64
	// HostPatience is how long an item waits for a host that rests; then it is charged an attempt whenever the host is found to rest yet.
	// 0: an hour.
	HostPatience time.Duration
	Logger       *slog.Logger
	Metrics      *observe.Metrics // nil: nothing is measured
	Traces       *observe.Traces  // nil: no spans
}

// DefaultSlots is the number of slots of a worker that is given none.
const DefaultSlots = 32

const (
	maxSlots          = 4096
	defaultDrain      = 20 * time.Second
	defaultPauseGrace = 5 * time.Second
	defaultMaxHold    = 24 * time.Hour
	defaultSpoolLimit = 5 << 30

	defaultPartThreshold = 64 << 20
	defaultPartSize      = 16 << 20
	defaultSpreadAfter   = 3 * time.Second

	// Of an archive that is unpacked. No file system of ours takes a path that is deeper, and each entry costs a file.
	maxTreeEntries = 200_000
	maxTreeDepth   = 64
	maxTreeBytes   = 1 << 40
)

// ConfigError says which field of a [Config] breaks which rule.
type ConfigError struct {
	Field string
	Rule  string
	Value any
}

// Error implements error.
func (e *ConfigError) Error() string {
	return fmt.Sprintf("worker config: %s is %v, must be %s", e.Field, e.Value, e.Rule)
}

// validate fills in the defaults.
func (c *Config) validate() error {
	if c.ID == "" {
		return &ConfigError{"ID", "set", c.ID}
	}
	if c.Slots < 0 || c.Slots > maxSlots {
		return &ConfigError{"Slots", fmt.Sprintf("1 to %d, or 0 for %d", maxSlots, DefaultSlots), c.Slots}
	}
	if c.Drain < 0 || c.MaxHold < 0 || c.PauseGrace < 0 {
		return &ConfigError{"Drain, MaxHold or PauseGrace", "a positive time, or 0 for its default", min(c.Drain, c.MaxHold, c.PauseGrace)}
	}
	if c.HostConcurrency < 0 || c.HostPatience < 0 {
		return &ConfigError{"HostConcurrency or HostPatience", "positive, or 0 for its default", c.HostConcurrency}
	}
	if least := min(c.HostRequests, c.HostBytes, c.TenantRequests, c.TenantBytes); least < 0 {
		return &ConfigError{"HostRequests, HostBytes, TenantRequests or TenantBytes", "a number a second, or 0 for any", least}
	}
	if c.SpoolLimit < 0 {
		return &ConfigError{"SpoolLimit", "a number of bytes, or 0 for its default", c.SpoolLimit}
	}
	if c.PartThreshold < 0 || c.PartSize < 0 {
		return &ConfigError{"PartThreshold or PartSize", "a number of bytes, or 0 for its default", min(c.PartThreshold, c.PartSize)}
	}
	if c.SpreadAfter < 0 {
		return &ConfigError{"SpreadAfter", "a positive time, or 0 for its default", c.SpreadAfter}
	}
	c.PartThreshold = orDefault(c.PartThreshold, defaultPartThreshold)
	c.PartSize = orDefault(c.PartSize, defaultPartSize)
	c.SpreadAfter = orDefault(c.SpreadAfter, defaultSpreadAfter)
	c.Slots = orDefault(c.Slots, DefaultSlots)
	c.Drain = orDefault(c.Drain, defaultDrain)
	c.PauseGrace = orDefault(c.PauseGrace, defaultPauseGrace)
	c.MaxHold = orDefault(c.MaxHold, defaultMaxHold)
	c.SpoolLimit = orDefault(c.SpoolLimit, defaultSpoolLimit)
	c.Pool = orDefault(c.Pool, "default")
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

func orDefault[T comparable](value, fallback T) T {
	var zero T
	if value == zero {
		return fallback
	}
	return value
}

// bulkSlots is how many of the slots items from outside the interactive lane may take: a flood of bulk work
// leaves a quarter, and at least one, to synchronous calls.
func (c *Config) bulkSlots() int {
	return max(1, c.Slots-max(1, c.Slots/4))
}
