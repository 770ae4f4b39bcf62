package job

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/internal/bytesize"
	"github.com/copyfleet/copyfleet/loadtest"
	"github.com/copyfleet/copyfleet/loadtest/target"
	"github.com/copyfleet/copyfleet/loadtest/workload"
)

// Spec is what a run does. Names of options in errors are those of the command line.
type Spec struct {
	Workload string `json:"workload"` // put, get, mixed, multipart, copy or replay

	Endpoints []string `json:"endpoints"` // URLs of S3 endpoints of one store, which take turns; at least one
	Region    string   `json:"region,omitempty"`
	Bucket    string   `json:"bucket"`
	Prefix    string   `json:"prefix"` // of the keys of all runs; one name without slashes

	Size    string `json:"size,omitempty"`    // a distribution, see workload.ParseSizes
	Objects int    `json:"objects,omitempty"` // that a generator keeps to read, write again and delete; 0: none
	Mix     string `json:"mix,omitempty"`     // of mixed, see workload.ParseMix

	Concurrency int     `json:"concurrency"`        // operations at once, of each generator
	Rate        float64 `json:"rate,omitempty"`     // operations a second of all generators; 0: a closed loop
	Arrivals    string  `json:"arrivals,omitempty"` // even or poisson; with a rate only
	WarmUp      float64 `json:"warm_up_s,omitempty"`
	Duration    float64 `json:"duration_s,omitempty"` // with the warm-up; 0: until Count
	Count       uint64  `json:"count,omitempty"`      // operations of all generators; 0: until Duration
	MaxBytes    int64   `json:"max_bytes,omitempty"`  // written and read by all generators together, with what is written first; 0: no limit

	Replay   *Replay   `json:"replay,omitempty"`   // of replay; nil: nothing is replayed
	AutoTerm *AutoTerm `json:"autoterm,omitempty"` // nil: a run does not end before its time
	Seed     uint64    `json:"seed"`
	Verify   bool      `json:"verify,omitempty"` // what is read is compared with what was written

	API   string `json:"api,omitempty"`   // URL of the fleet's API, of copy
	Batch int    `json:"batch,omitempty"` // copies that are asked for together; 1: each is a call that waits

	PartSize    int64 `json:"part_size,omitempty"`     // bytes of a part of multipart
	PartsAtOnce int   `json:"parts_at_once,omitempty"` // of one object
	Page        int   `json:"page,omitempty"`          // objects of a list
}

// AutoTerm ends a run when the throughput of its last windows differs from their mean by the tolerance at most.
type AutoTerm struct {
	Window    float64 `json:"window_s"` // whole seconds
	Windows   int     `json:"windows"`
	Tolerance float64 `json:"tolerance"` // a share
}

// Replay makes the operations of a batch again. Its schedule is [Config.Schedule].
type Replay struct {
	Report string  `json:"report"` // the name of its file
	Items  int     `json:"items"`
	As     string  `json:"as"`              // put, get or copy
	Speed  float64 `json:"speed,omitempty"` // 1: as it was; 2: in half of the time; 0: one operation when another has ended
}

// Workloads are the names of all workloads.
func Workloads() []string { return []string{"put", "get", "mixed", "multipart", "copy", "replay"} }

// kind names what the operations are; "" if there are several.
func (s *Spec) kind() string {
	switch {
	case s.Replay != nil:
		return s.Replay.As
	case s.Workload == "mixed":
		return ""
	}
	return s.Workload
}

// Bounds of a [Spec].
const (
	MostConcurrency = 65_536
	MostObjects     = 10_000_000
	LeastPart       = 5 << 20 // S3 takes no smaller parts
	mostParts       = 10_000
	longest         = 366 * 24 * time.Hour
	mostName        = 128
)

// optionError says which option cannot be so.
func optionError(option, format string, args ...any) error {
	return fmt.Errorf("--%s: "+format, append([]any{option}, args...)...) //nolint:err113 // says all that there is to say
}

// Validate finds what cannot be.
func (s *Spec) Validate() error {
	if !slices.Contains(Workloads(), s.Workload) {
		return fmt.Errorf("%q is no workload; there are %s", s.Workload, strings.Join(Workloads(), ", "))
	}
	for _, check := range []func() error{
		s.validatePlace, s.validateLength, s.validateEnd, s.validateShape, s.validateCopy, s.validateArrivals, s.validateSizes,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Spec) validatePlace() error {
	switch {
	case len(s.Endpoints) == 0:
		return optionError("endpoint", "a load needs the URL of an S3 endpoint")
	case s.Bucket == "":
		return optionError("bucket", "a load needs a bucket")
	case s.Prefix == "" || len(s.Prefix) > mostName || strings.ContainsFunc(s.Prefix, func(r rune) bool {
		return r != '-' && r != '_' && r != '.' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) || strings.Trim(s.Prefix, ".") == "":
		return optionError("prefix", "%q: it has letters, digits, dots, dashes and underscores, %d at most", s.Prefix, mostName)
	}
	return nil
}

func (s *Spec) validateLength() error {
	most := longest.Seconds()
	switch {
	case !(s.Duration >= 0 && s.Duration <= most):
		return optionError("duration", "it is at most a year, and not negative")
	case !(s.WarmUp >= 0 && s.WarmUp <= most):
		return optionError("warm-up", "it is at most a year, and not negative")
	case s.Duration == 0 && s.Count == 0 && s.Replay == nil:
		return optionError("duration", "a load needs a duration or a --count")
	case s.Duration > 0 && s.WarmUp >= s.Duration:
		return optionError("warm-up", "nothing would be left of the duration, which includes it")
	case s.MaxBytes < 0:
		return optionError("max-bytes", "it is not negative")
	}
	return nil
}

func (s *Spec) validateEnd() error {
	a := s.AutoTerm
	switch {
	case a == nil:
	case !(a.Window >= 1 && a.Window <= 3600) || a.Window != math.Trunc(a.Window):
		return optionError("autoterm-window", "it is 1s to 1h, in whole seconds")
	case a.Windows < 2 || a.Windows > 1000:
		return optionError("autoterm-windows", "there are 2 to 1000")
	case !(a.Tolerance > 0 && a.Tolerance < 1):
		return optionError("autoterm-tolerance", "it is a share above 0 and below 1, such as 0.05")
	}
	return nil
}

func (s *Spec) validateShape() error {
	switch {
	case s.Concurrency < 1 || s.Concurrency > MostConcurrency:
		return optionError("concurrency", "%d: it is 1 to %d", s.Concurrency, MostConcurrency)
	case s.Objects < 0 || s.Objects > MostObjects:
		return optionError("objects", "%d: there are %d at most", s.Objects, MostObjects)
	case s.Page < 0 || s.Page > 1000:
		return optionError("page", "%d: a list has 1 to 1000 objects", s.Page)
	case s.PartsAtOnce < 0 || s.PartsAtOnce > 1000:
		return optionError("parts-at-once", "%d: it is 1 to 1000", s.PartsAtOnce)
	case (s.Mix != "") != (s.Workload == "mixed"):
		return optionError("mix", "mixed has one, and no other workload")
	case s.Objects == 0 && (s.kind() == "get" || s.kind() == "" || s.kind() == "copy"):
		return optionError("objects", "there have to be some that can be read")
	}
	if _, err := s.mix(); err != nil {
		return optionError("mix", "%w", err)
	}
	return nil
}

func (s *Spec) validateArrivals() error {
	if s.Rate == 0 {
		if s.Arrivals != "" {
			return optionError("arrivals", "they need a --rate")
		}
		return nil
	}
	if _, err := workload.ParseArrivals(s.Arrivals, s.Rate, 0, 0); err != nil {
		return optionError("rate", "%w", err)
	}
	return nil
}

// validateCopy leaves the API's address to the target.
func (s *Spec) validateCopy() error {
	switch {
	case (s.Workload == "replay") != (s.Replay != nil):
		return errors.New("a replay is of a report, and nothing else is")
	case s.Replay != nil && (!slices.Contains([]string{"put", "get", "copy"}, s.Replay.As) || !(s.Replay.Speed >= 0)):
		return optionError("as", "%q: items are replayed as put, get or copy", s.Replay.As)
	case s.Replay != nil && s.Rate > 0:
		return optionError("rate", "a replay has its own times; see --speed")
	case (s.kind() == "copy") != (s.API != ""):
		return optionError("url", "copies go through a fleet, whose API it names, and nothing else does")
	case s.kind() == "copy" && (s.Batch < 1 || s.Batch > target.MostBatch):
		return optionError("batch", "%d: it is 1 to %d", s.Batch, target.MostBatch)
	}
	return nil
}

func (s *Spec) validateSizes() error {
	sizes, err := s.sizes()
	if err != nil {
		return optionError("size", "%w", err)
	}
	if s.Workload != "multipart" {
		return nil
	}
	part, least, most := bytesize.Size(s.PartSize), bytesize.Size(LeastPart), bytesize.Size(workload.MostBytes)
	switch {
	case part < least || part > most:
		return optionError("part-size", "%s: S3 takes parts of %s to %s", part, least, most)
	case sizes.Largest() > mostParts*s.PartSize:
		return optionError("part-size", "%s: an object of %s would have more than %d parts", part, bytesize.Size(sizes.Largest()), mostParts)
	}
	return nil
}

var errNoFile = errors.New("files are read where a run begins")

// sizes are those of the objects. What came out of a file stands in Size.
func (s *Spec) sizes() (workload.Sizes, error) {
	if s.Replay != nil {
		return workload.Sizes{}, nil
	}
	return workload.ParseSizes(s.Size, func(string) (io.ReadCloser, error) { return nil, errNoFile }) //nolint:wrapcheck // says what is wrong
}

// SetSize sets the sizes of objects, and reads the file that has them if there is one.
func (s *Spec) SetSize(text string, open func(name string) (io.ReadCloser, error)) error {
	sizes, err := workload.ParseSizes(text, open)
	if err != nil {
		return optionError("size", "%w", err)
	}
	s.Size = sizes.String()
	return nil
}

// TypicalSize is about the mean size of an object, in bytes.
func (s *Spec) TypicalSize() (int64, error) {
	sizes, err := s.sizes()
	if err != nil {
		return 0, optionError("size", "%w", err)
	}
	return sizes.Typical(), nil
}

func (s *Spec) mix() (workload.Mix, error) {
	if s.Workload == "mixed" {
		return workload.ParseMix(s.Mix) //nolint:wrapcheck // says what is wrong
	}
	kind, err := workload.ParseKind(s.kind())
	return workload.Only(kind), err //nolint:wrapcheck // says what is wrong
}

// Makes tells whether the load makes operations of a kind, by its name. A spec that cannot be makes none.
func (s *Spec) Makes(operation string) bool {
	mix, err := s.mix()
	kind, unknown := workload.ParseKind(operation)
	return err == nil && unknown == nil && mix.Share(kind) > 0
}

// load is what a place's load is made of.
func (s *Spec) load(place loadtest.Place, schedule *workload.Schedule) (workload.Config, error) {
	sizes, err := s.sizes()
	if err != nil {
		return workload.Config{}, err
	}
	mix, err := s.mix()
	if err != nil {
		return workload.Config{}, err
	}
	cfg := workload.Config{
		Seed: s.Seed, Generator: place.Generator, Mix: mix, Sizes: sizes, Objects: s.Objects,
		Count: place.Share(s.Count), MaxBytes: int64(place.Share(uint64(max(s.MaxBytes, 0)))), //nolint:gosec // not above what it is a share of
	}
	if s.Replay != nil {
		if schedule == nil {
			return cfg, errors.New("a replay has no schedule")
		}
		cfg.Schedule, cfg.Speed, cfg.Generators = schedule, s.Replay.Speed, place.Generators
	}
	if s.Rate > 0 {
		cfg.Arrivals, err = workload.ParseArrivals(s.Arrivals, s.Rate/float64(max(place.Generators, 1)), s.Seed, place.Generator)
	}
	return cfg, err //nolint:wrapcheck // says what is wrong
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
