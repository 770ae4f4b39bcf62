package producer

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// Limits of the copy call and the defaults of [Config].
const (
	// MaxCopyItems bounds the items of one copy call, whatever [Config.MaxItems] says: its answer is held
	// in memory and has a line for each.
	MaxCopyItems = 100_000
	// MaxProblems bounds the problems reported for one request.
	MaxProblems = 100

	DefaultMaxWait     = 15 * time.Minute
	DefaultMaxBody     = 64 << 20
	DefaultMaxBuffered = 256 << 20
	DefaultMaxItems    = 1_000_000
	DefaultMaxQueued   = 5_000_000
	DefaultMaxParts    = 256
)

const (
	limitMaxWait  = time.Hour
	limitMaxBody  = 1 << 30
	limitMaxItems = 1_000_000
	limitQueued   = 1_000_000_000
	limitMaxParts = 100_000
)

// Config is all that can be set about the API front. The zero value is usable but for DefaultOrg, which
// is only needed with GrantAll.
type Config struct {
	// Logger gets the access log (Info) and faults of ours (Error). Nil: [slog.Default].
	Logger *slog.Logger

	// MaxWait bounds how long a copy call waits for its end. 0: [DefaultMaxWait]; at most an hour.
	MaxWait time.Duration

	// MaxBody bounds the body of one copy call, in bytes. 0: [DefaultMaxBody]; at most 1 GiB. Other calls
	// have a bound of 64 KiB of their own.
	MaxBody int64

	// MaxBuffered bounds the bytes of request bodies that are in memory at one moment, over all calls; a call
	// beyond it is answered 503 with Retry-After. Those of one org have three quarters of it, or MaxBody if that is
	// more. 0: [DefaultMaxBuffered], or MaxBody if that is more. At least MaxBody.
	MaxBuffered int64

	// MaxItems bounds the items of one batch. 0: [DefaultMaxItems], which is also the most. A copy call
	// may have [MaxCopyItems] of them at most.
	MaxItems int

	// MaxQueued bounds the items that were accepted and have not ended, over all tenants: a batch that would exceed it is answered 429
	// with Retry-After. 0: [DefaultMaxQueued]; at most a billion.
	MaxQueued int

	// MaxParts bounds the parts of uploads that are received at one moment, over all tenants, of which those of one org have three
	// quarters; one beyond it is answered 503 with Retry-After. 0: [DefaultMaxParts]; at most 100,000.
	MaxParts int

	// AutoSandboxes lets an unknown sandbox come into being, in the default pool, at its first use. False: 404.
	AutoSandboxes bool

	// AutoBuckets asks for a missing bucket to be made at its first use. False: a missing bucket is an error.
	AutoBuckets bool

	// DefaultOrg is the org that GrantAll speaks of. "": none.
	DefaultOrg protocol.OrgID

	// GrantAll lets DefaultOrg use every bucket without a grant.
	GrantAll bool

	// Version is shown on /healthz and in the API description. "": "dev".
	Version string
}

// ConfigError says which field of a [Config] breaks which rule.
type ConfigError struct {
	Field string
	Rule  string
	Value any
}

// Error implements error.
func (e *ConfigError) Error() string {
	return fmt.Sprintf("producer config: %s is %v, must be %s", e.Field, e.Value, e.Rule)
}

// withDefaults fills in what was left at zero.
func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.MaxWait == 0 {
		c.MaxWait = DefaultMaxWait
	}
	if c.MaxBody == 0 {
		c.MaxBody = DefaultMaxBody
	}
	if c.MaxBuffered == 0 {
		c.MaxBuffered = max(DefaultMaxBuffered, c.MaxBody)
	}
	if c.MaxItems == 0 {
		c.MaxItems = DefaultMaxItems
	}
	if c.MaxQueued == 0 {
		c.MaxQueued = DefaultMaxQueued
	}
	if c.MaxParts == 0 {
		c.MaxParts = DefaultMaxParts
	}
	if c.Version == "" {
		c.Version = "dev"
	}
	return c
}

// Validate returns a [*ConfigError] for the first field that breaks its rule. Zero values stand for defaults and
// are valid.
func (c Config) Validate() error {
	c = c.withDefaults()
	for _, n := range []struct {
		field string
		value int64
		most  int64
		rule  string
	}{
		{"MaxBody", c.MaxBody, limitMaxBody, "between 0 and 1073741824 bytes"},
		{"MaxItems", int64(c.MaxItems), limitMaxItems, "between 0 and 1000000"},
		{"MaxQueued", int64(c.MaxQueued), limitQueued, "between 0 and 1000000000"},
		{"MaxParts", int64(c.MaxParts), limitMaxParts, "between 0 and 100000"},
	} {
		if n.value < 0 || n.value > n.most {
			return &ConfigError{n.field, n.rule, n.value}
		}
	}
	switch {
	case c.MaxWait < 0 || c.MaxWait > limitMaxWait:
		return &ConfigError{"MaxWait", "between 0 and 1h", c.MaxWait}
	case c.MaxBuffered < c.MaxBody:
		return &ConfigError{"MaxBuffered", fmt.Sprintf("at least MaxBody (%d)", c.MaxBody), c.MaxBuffered}
	case c.DefaultOrg != "" && !protocol.ValidID(string(c.DefaultOrg)):
		return &ConfigError{"DefaultOrg", "letters, digits, '.', '_' and '-', at most 128, or empty", c.DefaultOrg}
	case c.GrantAll && c.DefaultOrg == "":
		return &ConfigError{"DefaultOrg", "set when GrantAll is", `""`}
	}
	return nil
}
