package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/loadtest"
	"github.com/copyfleet/copyfleet/loadtest/record"
	"github.com/copyfleet/copyfleet/loadtest/target"
	"github.com/copyfleet/copyfleet/loadtest/workload"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/object"
)

// Secrets are what a run needs beside its options. They are never kept.
type Secrets struct {
	AccessKey string `json:"access_key"`
	SecretKey string `json:"secret_key"`
	APIKey    string `json:"api_key,omitempty"` // of the fleet
}

// Config says what a [Job] is.
type Config struct {
	Spec    *Spec
	Secrets Secrets
	Place   loadtest.Place
	Raw     io.Writer // takes the file with every operation; nil: nobody does. The job does not close it.
	Version string    // of the program, for the file

	Schedule *workload.Schedule // of a replay; nil for all else
}

// Job is one generator's part of a run.
type Job struct {
	cfg    Config
	load   *workload.Load
	target to
	fleet  *target.Fleet // nil: the store is loaded
	header record.Header
}

// to is what is loaded.
type to interface {
	loadtest.Target
	Close()
}

// New returns a job. It does not connect.
func New(cfg *Config) (*Job, error) {
	if err := cfg.Spec.Validate(); err != nil {
		return nil, err
	}
	n := max(cfg.Place.Generators, 1)
	if cfg.Spec.Count > 0 && cfg.Spec.Count < uint64(n) || cfg.Spec.MaxBytes > 0 && cfg.Spec.MaxBytes < int64(n) {
		return nil, optionError("count", "there is less to do than there are load generators (%d)", n)
	}
	content, err := cfg.Spec.load(cfg.Place, cfg.Schedule)
	if err != nil {
		return nil, err
	}
	options, err := json.Marshal(cfg.Spec)
	if err != nil {
		return nil, fmt.Errorf("write down the options: %w", err)
	}
	host, _ := os.Hostname() // a machine without a name has none in the file either
	j := &Job{cfg: *cfg, load: workload.NewLoad(content), header: record.Header{
		Run: cfg.Place.Run, Generator: cfg.Place.Generator, Generators: n, WarmUp: seconds(cfg.Spec.WarmUp), Seed: cfg.Spec.Seed,
		Options: options, Version: cfg.Version,
		System: record.System{Host: host, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.NumCPU()},
	}}
	if err := j.aim(); err != nil {
		return nil, err
	}
	return j, nil
}

// aim makes what is loaded.
func (j *Job) aim() (err error) {
	cfg := storeConfig(&j.cfg, j.cfg.Place.Prefix(j.cfg.Spec.Prefix))
	if j.cfg.Spec.API == "" {
		j.target, err = newStore(&cfg)
		return err
	}
	j.fleet, err = target.NewFleet(&target.FleetConfig{
		URL: j.cfg.Spec.API, Key: j.cfg.Secrets.APIKey, Store: cfg, Batch: j.cfg.Spec.Batch, Connections: j.cfg.Spec.Concurrency,
	})
	if err != nil {
		return optionError("url", "%w", err)
	}
	j.target = j.fleet
	return nil
}

// NewStore returns what checks the bucket of a run before it begins, and clears it of the objects of all generators after it has ended.
func NewStore(cfg *Config) (*target.S3, error) {
	if err := cfg.Spec.Validate(); err != nil {
		return nil, err
	}
	store := storeConfig(cfg, cfg.Place.RunPrefix(cfg.Spec.Prefix))
	return newStore(&store)
}

func storeConfig(cfg *Config, prefix string) target.S3Config {
	s := cfg.Spec
	store := target.S3Config{
		Bucket: s.Bucket, Prefix: prefix, Root: s.Prefix + "/", Payload: workload.NewPayload(s.Seed, cfg.Place.Generator),
		PartSize: s.PartSize, PartsOnce: s.PartsAtOnce, Page: s.Page, Verify: s.Verify,
	}
	for _, endpoint := range s.Endpoints {
		store.Endpoints = append(store.Endpoints, object.RawConfig{
			Endpoint: endpoint, AccessKey: cfg.Secrets.AccessKey, SecretKey: cfg.Secrets.SecretKey, Region: s.Region,
			Connections: s.Concurrency * max(1, s.PartsAtOnce),
		})
	}
	return store
}

func newStore(cfg *target.S3Config) (*target.S3, error) {
	made, err := target.NewS3(cfg)
	if err != nil {
		return nil, optionError("endpoint", "%w", err)
	}
	return made, nil
}

// Prepare writes the objects that the load needs. Its error is a *[storage.Error], unless ctx has ended.
func (j *Job) Prepare(ctx context.Context) error {
	if j.fleet != nil {
		if err := j.fleet.Check(ctx); err != nil {
			return err //nolint:wrapcheck // says what it was
		}
	}
	err := loadtest.Prepare(ctx, j.load, j.cfg.Spec.Concurrency, j.target)
	if p, ok := errors.AsType[*loadtest.PrepareError](err); ok {
		return target.Failure(&p.Fault, "prepare", "the objects of the load")
	}
	if err != nil {
		return err //nolint:wrapcheck // the run is over
	}
	if j.load.Spent() {
		e := storage.Errorf(storage.Invalid, "max_bytes", "prepare", "the objects of the load",
			"--max-bytes: only %d of the %d objects that are to be read fit into it",
			j.load.Objects(), j.cfg.Spec.Objects)
		e.Hint = "Give fewer --objects, or smaller ones."
		return e
	}
	return nil
}

// Run makes the load, until its end or until ctx ends. progress is called about once a second; it may be nil. With an error the file lacks something; the run
// is whole all the same.
func (j *Job) Run(ctx context.Context, progress func(loadtest.Progress)) (*record.Run, error) {
	header := j.header
	header.Started = time.Now().UTC()
	var file *record.Writer
	if j.cfg.Raw != nil {
		var err error
		if file, err = record.NewWriter(j.cfg.Raw, &header); err != nil {
			return nil, err //nolint:wrapcheck // says what it was
		}
	}
	recorder := record.NewRecorder(header.WarmUp, file)
	spec := j.cfg.Spec
	plan := &loadtest.Plan{
		Load: j.load, Concurrency: spec.Concurrency, WarmUp: header.WarmUp, Duration: seconds(spec.Duration), Progress: progress,
	}
	if a := spec.AutoTerm; a != nil {
		plan.AutoTerm = loadtest.AutoTerm{Window: seconds(a.Window), Windows: a.Windows, Tolerance: a.Tolerance}
	}
	partial := loadtest.Run(ctx, plan, j.target, recorder)
	if j.fleet != nil {
		settle, done := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
		defer done()
		if err := j.fleet.Settle(settle); err != nil {
			partial = strings.TrimPrefix(partial+"; "+err.Error(), "; ")
		}
	}
	run := &record.Run{Headers: []*record.Header{&header}}
	if partial != "" {
		run.Partial = []string{partial}
	}
	var err error
	run.Totals, err = recorder.Totals()
	if file != nil {
		if closed := file.Close(partial); err == nil { // else it says the same once more
			err = closed
		}
	}
	return run, err
}

// Close closes the job's connections.
func (j *Job) Close() { j.target.Close() }

// settleTime is how long copies may take to be called off that nobody follows any more.
const settleTime = 30 * time.Second
