package producer

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/copyfleet/copyfleet/internal/observe"
	"github.com/copyfleet/copyfleet/producer/triggers"
	"github.com/copyfleet/copyfleet/producer/uploads"
	"github.com/copyfleet/copyfleet/protocol"
)

// Dependencies are what the front needs around it. All are required, but where it says otherwise.
type Dependencies struct {
	Pipeline  *Pipeline
	Registry  *Registry
	Presigner Presigner
	Health    Health
	Metrics   *observe.Metrics // nil: nothing is measured, and /metrics answers 404
	Traces    *observe.Traces  // nil: no spans
	Manifests Manifests        // optional; nil: manifests come in bodies only
	Uploads   *uploads.Service // optional; nil: nothing can be uploaded

	Triggers *triggers.Service // optional; nil: there are no rules, and events are not taken
}

// Presigner makes presigned URLs. It returns [ErrNoBucket] for a bucket that does not exist and is not to
// be made; any other error is answered 503.
type Presigner interface {
	Presign(ctx context.Context, req PresignRequest) (Presigned, error)
}

// ErrNoBucket is what a [Presigner] returns for a bucket that does not exist.
var ErrNoBucket = errors.New("bucket does not exist")

// ErrReserved is what a [Presigner] returns for an object that nobody may reach as one.
var ErrReserved = errors.New("object is reserved")

// PresignRequest asks for one URL. It is validated, and the org has a grant for it.
type PresignRequest struct {
	Org         protocol.OrgID
	Method      string // GET, PUT or POST
	Bucket, Key string
	Expires     time.Duration // 1 second to 7 days, whole seconds
	ContentType string        // PUT, POST: the only type to be accepted; "": any
	MinSize     int64         // POST: bytes
	MaxSize     int64         // POST: bytes; 0: no bound but the storage's own
	MakeBucket  bool          // a missing bucket is to be made
}

// Presigned is a URL that works without further credentials, with what must be sent along. It is a secret.
type Presigned struct {
	Method    string
	URL       string
	Headers   map[string]string // to be sent as they are; may be nil
	Form      map[string]string // POST: the fields that come before the file
	ExpiresAt time.Time
}

// Health tells whether the neighbors are in a state to accept work.
type Health interface {
	// Ready returns every check that was made, passed or not, within ctx.
	Ready(ctx context.Context) []Check
}

// Check is one question about health and its answer.
type Check struct {
	Name    string `json:"name"`
	OK      bool   `json:"ok"`
	Message string `json:"message,omitempty"` // why not; fit for anyone to read
}

// Server is the API front.
type Server struct {
	*tenancy

	pipeline  *Pipeline
	waits     *waits
	streaming *waits // event streams
	reports   reports
	presigner Presigner
	health    Health
	manifests Manifests         // may be nil
	uploads   *uploads.Service  // may be nil
	events    eventStore        // may be nil
	triggers  *triggers.Service // may be nil
	metrics   *observe.Metrics
	traces    *observe.Traces
	budget    *budget
	// eventMemory bounds what notifications take while they are being read.
	eventMemory *budget
	// partsAtOnce counts the parts of uploads that are being received: they are streamed, but each takes a buffer and a connection to the
	// storage.
	partsAtOnce *budget
	document    []byte // the API description, with the version filled in
	handler     http.Handler

	uploadPatience time.Duration // in which an upload must make progress
}

// New returns a front. The error is a [*ConfigError], or names the dependency that is missing.
func New(cfg Config, deps Dependencies) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Pipeline == nil || deps.Registry == nil || deps.Presigner == nil || deps.Health == nil {
		return nil, errors.New("producer: Pipeline, Registry, Presigner and Health are all required dependencies")
	}
	cfg = cfg.withDefaults()
	s := &Server{
		tenancy:   &tenancy{cfg: cfg, registry: deps.Registry},
		pipeline:  deps.Pipeline,
		waits:     newWaits(),
		streaming: newWaits(),
		presigner: deps.Presigner,
		health:    deps.Health,
		manifests: deps.Manifests,
		uploads:   deps.Uploads,
		triggers:  deps.Triggers,

		uploadPatience: progressWindow,
		metrics:        deps.Metrics,
		traces:         deps.Traces,
		budget:         newBudget(cfg.MaxBuffered, cfg.MaxBody),
		eventMemory:    newBudget(maxEventMemory, maxEventExpanded),
		partsAtOnce:    newBudget(int64(cfg.MaxParts), 1),
		document:       describe(cfg.Version),
	}
	if deps.Triggers != nil { // an interface around a nil pointer would not be nil
		s.events, s.triggers = deps.Triggers, deps.Triggers
	}
	deps.Pipeline.backlog.limit = cfg.MaxQueued
	s.handler = s.wrap(s.mux())
	return s, nil
}

// Handler serves the whole API. It is safe for concurrent use.
func (s *Server) Handler() http.Handler { return s.handler }
