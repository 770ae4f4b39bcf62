package main

import (
	"io"
	"math/rand/v2"
	"os"
	"time"

	"github.com/copyfleet/copyfleet/internal/bytesize"
	"github.com/copyfleet/copyfleet/loadtest/job"
	"github.com/copyfleet/copyfleet/loadtest/report"
	"github.com/copyfleet/copyfleet/loadtest/workload"
)

// benchCmd measures a store, and what the fleet does with it.
type benchCmd struct {
	Put       benchPut       `cmd:"" help:"Write objects."`
	Get       benchGet       `cmd:"" help:"Read objects that were written before."`
	Mixed     benchMixed     `cmd:"" help:"Write, read, look at, list and delete objects, in shares."`
	Multipart benchMultipart `cmd:"" help:"Write objects in parts."`

	Copy   benchCopy   `cmd:"" help:"Have the fleet copy objects: through its API, queue, workers and receipts."`
	Replay benchReplay `cmd:"" help:"Make the operations of a real batch again, out of its report."`

	Worker  benchWorker  `cmd:"" help:"Be a load generator that others begin runs on, over NATS."`
	Analyze benchAnalyze `cmd:"" help:"Report what a file says that a run has kept."`
	Cmp     benchCmp     `cmd:"" help:"Say whether two runs differ by more than noise."`
	Merge   benchMerge   `cmd:"" help:"Make one file out of those of several load generators."`
}

// benchFlags are those of every run.
type benchFlags struct {
	crewFlags
	apiKey    string             // of the fleet, for copies
	schedule  *workload.Schedule // of a replay
	Endpoint  []string           `help:"URL of an S3 endpoint; several of one store take turns." env:"COPYFLEET_S3_ENDPOINT" placeholder:"URL" group:"Store:"`
	AccessKey string             `help:"Access key." name:"access-key" env:"COPYFLEET_S3_ACCESS_KEY" placeholder:"KEY" group:"Store:"`
	SecretKey string             `help:"Secret key." name:"secret-key" env:"COPYFLEET_S3_SECRET_KEY" placeholder:"SECRET" group:"Store:"`
	Region    string             `help:"Region." default:"us-east-1" env:"COPYFLEET_S3_REGION" group:"Store:"`
	Bucket    string             `help:"The bucket, which is there already." placeholder:"BUCKET" group:"Store:"`
	Prefix    string             `help:"Name that all keys of load tests begin with." default:"copyfleet-bench" group:"Store:"`
	Force     bool               `help:"Use a bucket that has other objects too. They are neither read nor changed." group:"Store:"`
	Keep      bool               `help:"Leave the objects of the run there." group:"Store:"`

	Concurrency int            `help:"Operations at once." default:"8" group:"Load:"`
	Rate        *float64       `help:"Begin so many operations a second, whether those before have ended or not: latencies count from when an operation was due. Default: one begins when another has ended." placeholder:"N" group:"Load:"`
	Arrivals    string         `help:"With a rate, when operations are due: even, or poisson as of many callers." enum:"even,poisson" default:"even" group:"Load:"`
	Duration    *time.Duration `help:"How long, with the warm-up. Default: 10s; without end with --count; 5m at most with --autoterm." placeholder:"10s" group:"Load:"`
	Count       *uint64        `help:"End after so many operations." placeholder:"N" group:"Load:"`
	MaxBytes    *bytesize.Size `help:"Write and read no more than this together, with what is written first." name:"max-bytes" placeholder:"SIZE" group:"Load:"`
	WarmUp      time.Duration  `help:"Time at the beginning that does not count. Default: a tenth of --duration, 5s at most; none with --count." name:"warm-up" default:"-1ns" placeholder:"1s" group:"Load:"`
	Seed        *uint64        `help:"Makes the same operations and contents again. Default: another one each time." placeholder:"N" group:"Load:"`

	AutoTerm          bool          `help:"End as soon as the throughput has settled: when the last windows agree." name:"autoterm" group:"Load:"`
	AutoTermWindow    time.Duration `help:"Length of a window." name:"autoterm-window" default:"5s" group:"Load:"`
	AutoTermWindows   int           `help:"How many windows have to agree." name:"autoterm-windows" default:"4" group:"Load:"`
	AutoTermTolerance float64       `help:"How far each may be from their mean, as a share." name:"autoterm-tolerance" default:"0.05" group:"Load:"`

	Raw    string   `help:"File that keeps every operation. Default: copyfleet-bench-RUN.ndjson.zst in the current directory; none: no file." placeholder:"FILE" completion:"file" group:"Report:"`
	HTML   string   `help:"File for the report as a page that needs nothing else." name:"html" placeholder:"FILE" completion:"file" group:"Report:"`
	FailIf []string `help:"Exit with 1 if this holds, such as p99(get)>50ms, ops(put)<1000, errors>0 or error_share>0.01. May be given more than once." name:"fail-if" sep:"none" placeholder:"LIMIT" group:"Report:"`
}

const (
	usualDuration = 10 * time.Second
	autoDuration  = 5 * time.Minute
	mostWarmUp    = 5 * time.Second
)

// spec are the options of the run, of which those of single workloads are still missing.
func (f *benchFlags) spec(name string) (*job.Spec, error) {
	if err := f.idle(); err != nil {
		return nil, err
	}
	duration, warmUp := f.length(name)
	switch {
	case f.Workers < 0:
		return nil, exitWith(exitUsage, "--workers %d: it is not negative", f.Workers)
	case f.Workers > 0 && f.AutoTerm:
		return nil, exitWith(exitUsage, "--autoterm: it is for one load generator, and --workers are several")
	case f.Workers > 0 && f.Raw != "" && f.Raw != noRaw:
		return nil, exitWith(exitUsage, "--raw: load generators keep their operations where they are; see --raw-dir of \"copyfleet bench worker\"")
	}
	s := &job.Spec{
		Workload: name, Endpoints: f.Endpoint, Region: f.Region, Bucket: f.Bucket, Prefix: f.Prefix, Concurrency: f.Concurrency,
		WarmUp: warmUp.Seconds(), Duration: duration.Seconds(), Count: valueOf(f.Count), MaxBytes: int64(valueOf(f.MaxBytes)),
		Seed: uint64(rand.Uint32()), //nolint:gosec // no secret
	}
	if f.Seed != nil {
		s.Seed = *f.Seed
	}
	if f.Rate != nil {
		if !(*f.Rate > 0) {
			return nil, exitWith(exitUsage, "--rate %g: it is more than 0", *f.Rate)
		}
		s.Rate, s.Arrivals = *f.Rate, f.Arrivals
	}
	if f.AutoTerm {
		s.AutoTerm = &job.AutoTerm{Window: f.AutoTermWindow.Seconds(), Windows: f.AutoTermWindows, Tolerance: f.AutoTermTolerance}
	}
	return s, nil
}

// Autoterm's windows, unless told.
const (
	usualWindow    = 5 * time.Second
	usualWindows   = 4
	usualTolerance = 0.05
)

// idle finds flags that would do nothing, or another thing than they say.
func (f *benchFlags) idle() error {
	switch {
	case f.Duration != nil && *f.Duration <= 0:
		return exitWith(exitUsage, "--duration %v: it is more than 0", *f.Duration)
	case f.Count != nil && *f.Count == 0:
		return exitWith(exitUsage, "--count 0: it is more than 0")
	case f.MaxBytes != nil && *f.MaxBytes <= 0:
		return exitWith(exitUsage, "--max-bytes %v: it is more than 0", *f.MaxBytes)
	case f.Rate == nil && f.Arrivals == "poisson":
		return exitWith(exitUsage, "--arrivals: operations are due at times of their own only with a --rate")
	case !f.AutoTerm && f.AutoTermWindow != usualWindow:
		return exitWith(exitUsage, "--autoterm-window: it needs --autoterm")
	case !f.AutoTerm && f.AutoTermWindows != usualWindows:
		return exitWith(exitUsage, "--autoterm-windows: they need --autoterm")
	case !f.AutoTerm && f.AutoTermTolerance != usualTolerance:
		return exitWith(exitUsage, "--autoterm-tolerance: it needs --autoterm")
	}
	return nil
}

// valueOf is what a flag says; of one that was not given nothing.
func valueOf[T any](flag *T) T {
	if flag == nil {
		return *new(T)
	}
	return *flag
}

// length is how long the run is at most, and how much of that is warm-up.
func (f *benchFlags) length(name string) (duration, warmUp time.Duration) {
	duration = valueOf(f.Duration)
	switch {
	case duration != 0:
	case f.AutoTerm:
		duration = autoDuration
	case f.Count == nil && name != "replay":
		duration = usualDuration
	}
	switch {
	case f.WarmUp >= 0:
		warmUp = f.WarmUp
	case f.Count == nil:
		warmUp = min(duration/10, mostWarmUp)
	}
	return duration, warmUp
}

// secrets are those of the store.
func (f *benchFlags) secrets() job.Secrets {
	return job.Secrets{AccessKey: f.AccessKey, SecretKey: f.SecretKey, APIKey: f.apiKey}
}

// limits are those of --fail-if.
func (f *benchFlags) limits() ([]report.Limit, error) {
	limits := make([]report.Limit, 0, len(f.FailIf))
	for _, text := range f.FailIf {
		limit, err := report.ParseLimit(text)
		if err != nil {
			return nil, exitWith(exitUsage, "--fail-if %q: %w", text, err)
		}
		limits = append(limits, limit)
	}
	return limits, nil
}

// sizeFlags say how large objects are.
type sizeFlags struct {
	Size string `help:"Bytes of an object: 4KiB; uniform:1KiB-1MiB; lognormal:64KiB,1.5 (median and deviation); 4KiB:70,1MiB:30 (weights); histogram:FILE (a size and a weight a line)." default:"4KiB" group:"Load:"`
}

// objectFlags say how many objects there are to read.
type objectFlags struct {
	Objects int `help:"Objects that are written first, to be read. Default: 1,000, but not more than 1 GiB, nor fewer than operations at once." placeholder:"N" group:"Load:"`
}

const (
	usualObjects = 1000
	usualBytes   = 1 << 30
)

// apply sets what there is to read. The sizes are set already.
func (f *objectFlags) apply(s *job.Spec) error {
	if f.Objects < 0 {
		return exitWith(exitUsage, "--objects %d: it is not negative", f.Objects)
	}
	if s.Objects = f.Objects; s.Objects > 0 {
		return nil
	}
	typical, err := s.TypicalSize()
	if err != nil {
		return exitWith(exitUsage, "%w", err)
	}
	s.Objects = max(min(usualObjects, int(usualBytes/max(typical, 1))), s.Concurrency, 1)
	return nil
}

// apply sets the sizes; a histogram is read.
func (f *sizeFlags) apply(s *job.Spec) error {
	err := s.SetSize(f.Size, func(name string) (io.ReadCloser, error) { return os.Open(name) })
	if err != nil {
		return exitWith(exitUsage, "%w", err)
	}
	return nil
}

type benchPut struct {
	benchFlags
	sizeFlags
}

type benchGet struct {
	benchFlags
	sizeFlags
	objectFlags
	Verify bool `help:"Compare what is read with what was written; it takes time of the load generator." group:"Load:"`
}

type benchMixed struct {
	benchFlags
	sizeFlags
	objectFlags
	Mix    string `help:"Shares of the operations." default:"put=15,get=45,stat=25,list=5,delete=10" group:"Load:"`
	Page   int    `help:"Objects of a list." default:"100" group:"Load:"`
	Verify bool   `help:"Compare what is read with what was written; it takes time of the load generator." group:"Load:"`
}

type benchCopy struct {
	benchFlags
	sizeFlags
	objectFlags
	clientFlags
	Batch int `help:"Copies that are asked for together. 1: each is a call that waits for its end, as of somebody who waits; more: batches, whose events are followed." default:"1" group:"Load:"`
}

type benchReplay struct {
	benchFlags
	objectFlags
	clientFlags
	Report string `arg:"" help:"Report of a batch, as \"copyfleet report\" writes it: ndjson or csv, as it is or compressed." completion:"file"`
	As     string `help:"What an item is replayed as: put, get, or copy through the fleet. Default: put." enum:"put,get,copy" default:"put" group:"Load:"`
	Speed  string `help:"1: items begin at the distances that they had; 10: ten times as fast; flat: one when another has ended." default:"1" placeholder:"N" group:"Load:"`
	Batch  int    `help:"Copies that are asked for together, with --as copy." default:"1" group:"Load:"`
}

type benchMultipart struct {
	benchFlags
	Size        string        `help:"Bytes of an object, as of put." default:"64MiB" group:"Load:"`
	PartSize    bytesize.Size `help:"Bytes of a part." name:"part-size" default:"16MiB" group:"Load:"`
	PartsAtOnce int           `help:"Parts of an object that are sent at once." name:"parts-at-once" default:"4" group:"Load:"`
}
