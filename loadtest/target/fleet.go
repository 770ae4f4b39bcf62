package target

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/copyfleet/copyfleet/loadtest"
	"github.com/copyfleet/copyfleet/loadtest/record"
	"github.com/copyfleet/copyfleet/loadtest/workload"
	"github.com/copyfleet/copyfleet/protocol"
)

// FleetConfig says what a [Fleet] does.
type FleetConfig struct {
	URL string // of the API
	Key string // an API key of the role copy, or admin

	// Store is where the objects are, as the fleet's workers see it, too. Sources are written below its prefix in "src/", and copied to "dst/".
	Store S3Config

	// Batch is how many copies are asked for together, at most [MostBatch]. 0, 1: each copy is a call of its own that waits for its end, as interactive
	// callers make them. More: copies that begin within Linger of each other are one batch in the bulk lane, followed by its events. A copy ends
	// when its caller can know that it did: the API tells of a running batch twice a second, and of its end at once.
	Batch  int
	Linger time.Duration // how long a batch waits to be full; 0: [DefaultLinger]. It is part of the latency.

	Sandbox protocol.SandboxID // in whose name the waiting calls are made, which is registered by Check; "": [DefaultSandbox]
	Org     protocol.OrgID     // of the key; "": Check finds out

	Connections int // to the API that are kept; those beyond it are made anew for each request
}

// Defaults and limits of a [FleetConfig].
const (
	MostBatch      = 1000 // one page of items: what a look at a batch reads
	DefaultLinger  = 10 * time.Millisecond
	DefaultSandbox = protocol.SandboxID("copyfleet-bench")
)

// Fleet has a fleet copy objects. All other operations are made on the store itself.
//
// A copy that the fleet refuses because it has too much to do (429, or 503 with Retry-After) has failed, with the class throttled or unavailable: an open loop
// has to show that. The answer's Retry-After is the [loadtest.Result]'s Rest, which a closed loop keeps.
//
// A copy that is given up because the run ends is canceled, so that nothing is written after the objects of the run were removed. [Fleet.Settle] cancels
// those of which the API could not be told then.
type Fleet struct {
	*S3

	cfg    FleetConfig
	base   string
	host   string // of the API
	http   *http.Client
	dest   string // prefix of destinations
	all    string // prefix of all objects
	name   string // begins the idempotency keys of this target, so that they are no others'
	number atomic.Uint64
	org    atomic.Pointer[protocol.OrgID]

	running sync.WaitGroup // batches

	mu    sync.Mutex
	open  *batch             // that takes copies; nil: the next one begins another
	loose []protocol.BatchID // that may go on although nobody follows them
}

const (
	connectTime = 10 * time.Second
	idleTime    = 30 * time.Second
)

// NewFleet returns a target. It does not connect.
func NewFleet(cfg *FleetConfig) (*Fleet, error) {
	f := &Fleet{cfg: *cfg, name: "bench-" + rand.Text() + "-", dest: cfg.Store.Prefix + "dst/", all: cfg.Store.Prefix}
	f.cfg.Batch, f.cfg.Linger, f.cfg.Sandbox = max(cfg.Batch, 1), cmp.Or(cfg.Linger, DefaultLinger), cmp.Or(cfg.Sandbox, DefaultSandbox)
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("the API's address %q: must be an http or https URL", protocol.RedactURL(cfg.URL))
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" { // it stands among the options that a run keeps
		return nil, errors.New("the API's address must have no credentials and no query: the API key is what lets in")
	}
	if err := f.cfg.validate(); err != nil {
		return nil, err
	}
	f.base, f.host = strings.TrimRight(cfg.URL, "/"), u.Host
	if cfg.Org != "" {
		f.org.Store(&f.cfg.Org)
	}
	source := cfg.Store
	source.Prefix += "src/"
	if f.S3, err = NewS3(&source); err != nil {
		return nil, err
	}
	f.http = &http.Client{
		Transport: &http.Transport{
			Proxy: nil, DialContext: (&net.Dialer{Timeout: connectTime}).DialContext, TLSHandshakeTimeout: connectTime,
			MaxIdleConns: 0, MaxIdleConnsPerHost: max(cfg.Connections, 1), IdleConnTimeout: idleTime, DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // a key goes nowhere else
	}
	return f, nil
}

func (c *FleetConfig) validate() error {
	switch {
	case c.Key == "":
		return errors.New("the fleet's API takes an API key")
	case strings.ContainsFunc(c.Key, func(r rune) bool { return r <= ' ' || r > '~' }):
		return errors.New("an API key has no spaces and no special characters; this one was not copied whole")
	case c.Batch > MostBatch:
		return fmt.Errorf("batches of %d copies: they have %d at most", c.Batch, MostBatch)
	case !protocol.ValidID(string(c.Sandbox)) || c.Org != "" && !protocol.ValidID(string(c.Org)):
		return errors.New("the ids of an org and a sandbox have 1 to 128 letters, digits, '.', '_' and '-', and begin with a letter or digit")
	}
	return nil
}

// Close closes connections, when nobody uses the target any more.
func (f *Fleet) Close() {
	f.running.Wait()
	f.http.CloseIdleConnections()
	f.S3.Close()
}

// Clear removes all objects of the load, sources and copies, and returns how many there were.
func (f *Fleet) Clear(ctx context.Context) (int, error) {
	return f.hosts[0].Clear(ctx, f.S3.cfg.Bucket, f.all) //nolint:wrapcheck // says what and where
}

// Destination is the key that operation n copies to.
func (f *Fleet) Destination(n uint64) string { return keyBelow(f.dest, n) }

// Do implements loadtest.Target.
func (f *Fleet) Do(ctx context.Context, op *workload.Op) loadtest.Result {
	switch {
	case op.Kind != workload.Copy:
		return f.S3.Do(ctx, op)
	case f.cfg.Batch > 1:
		return f.inBatch(ctx, op)
	}
	return f.call(ctx, op)
}

// Host is where the API is.
func (f *Fleet) Host() string { return f.host }

// location is an object as the API speaks of it.
type location struct {
	Type   protocol.LocationType `json:"type"`
	Bucket string                `json:"bucket"`
	Key    string                `json:"key"`
}

func (f *Fleet) object(key string) location {
	return location{Type: protocol.Object, Bucket: f.S3.cfg.Bucket, Key: key}
}

// ends are the source and the destination of a copy.
func (f *Fleet) ends(op *workload.Op) (src, dest location) {
	return f.object(f.Key(op.Object)), f.object(f.Destination(op.N))
}

// another is an idempotency key that was never used.
func (f *Fleet) another() string { return f.name + strconv.FormatUint(f.number.Add(1), 10) }

// outcome holds the receipt of a copy of an object of a size to what was to be done; nil: it was done.
func (f *Fleet) outcome(r *protocol.Receipt, size int64, at string) *record.Fault {
	subject := "s3://" + f.S3.cfg.Bucket + "/" + at
	fault := func(class protocol.Class, code, format string, args ...any) *record.Fault {
		return &record.Fault{Class: string(class), Code: code, Message: "copy to " + subject + ": " + fmt.Sprintf(format, args...)}
	}
	switch {
	case r.State == protocol.ItemSucceeded && r.Bytes != size:
		return fault(protocol.Corrupt, "wrong_length", "its receipt tells of %d bytes, and the source has %d", r.Bytes, size)
	case r.State == protocol.ItemSucceeded && !r.Verified && f.S3.cfg.Verify:
		return fault(protocol.Corrupt, "not_verified", "its receipt says that the bytes were held against nothing")
	case r.State == protocol.ItemSucceeded:
		return nil
	case r.Failure != nil:
		failed := fault(r.Failure.Class, brief(r.Failure.Code), "%s", brief(r.Failure.Message))
		failed.Hint = brief(r.Failure.Hint)
		return failed
	case r.State == protocol.ItemCanceled:
		return fault(protocol.Canceled, "canceled", "somebody canceled it")
	}
	return fault(protocol.Internal, "not_copied", "it is %s, which is no end that a copy can have", brief(string(r.State)))
}

// worker is who copied; "": nobody did.
func worker(r *protocol.Receipt) string {
	if len(r.Attempts) == 0 {
		return ""
	}
	return brief(r.Attempts[len(r.Attempts)-1].Worker)
}

// brief bounds what a fleet says: it is kept.
func brief(text string) string {
	const most = 300
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
