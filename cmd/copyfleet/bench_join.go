package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/loadtest"
	"github.com/copyfleet/copyfleet/loadtest/job"
	"github.com/copyfleet/copyfleet/loadtest/join"
	"github.com/copyfleet/copyfleet/loadtest/record"
	"github.com/copyfleet/copyfleet/storage"
)

// joinFlags name the NATS over which load generators and their coordinator meet.
type joinFlags struct {
	NATS string `help:"URL of the NATS over which load generators join." name:"nats-url" env:"COPYFLEET_NATS_URL" placeholder:"URL" group:"Many machines:"`

	SealKey string `help:"Key that seals jobs on their way, as of the fleet. Without it the fleet's own is taken, which is kept in NATS." name:"seal-key" env:"COPYFLEET_SEAL_KEY" placeholder:"BASE64" group:"Many machines:"`
}

// meet connects to where the others are.
func (f *joinFlags) meet(ctx context.Context, name string, log *slog.Logger) (*broker.Conn, join.Config, error) {
	if f.NATS == "" {
		return nil, join.Config{}, exitWith(exitUsage, "--nats-url (COPYFLEET_NATS_URL) says where load generators meet")
	}
	conn, err := broker.Connect(broker.Config{URL: f.NATS, Name: "copyfleet " + name, Logger: log})
	if err != nil {
		return nil, join.Config{}, err //nolint:wrapcheck // says what it was
	}
	seal := sealFlags{SealKey: f.SealKey}
	if f.SealKey == "" { // it is kept in a bucket of the fleet
		err = conn.Setup(ctx)
	}
	cfg := join.Config{Version: version, Logger: log}
	if err == nil {
		cfg.Sealer, err = seal.sealer(ctx, conn)
	}
	if err != nil {
		conn.Close()
		return nil, join.Config{}, err
	}
	return conn, cfg, nil
}

// crewFlags say whether a load comes from other machines.
type crewFlags struct {
	joinFlags
	Workers  int           `help:"Have so many load generators make the load, which were started by \"copyfleet bench worker\". Rate, count and bytes are shared among them; concurrency and objects are those of each." placeholder:"N" group:"Many machines:"`
	Patience time.Duration `help:"How long to wait for them to join." default:"30s" group:"Many machines:"`
}

// order is what a coordinator gives to load generators. They travel sealed.
type order struct {
	Spec    *job.Spec   `json:"spec"`
	Secrets job.Secrets `json:"secrets"`
}

// crew is load generators on other machines, which make a run together.
type crew struct {
	*join.Crew
	conn *broker.Conn
	cfg  *job.Config
}

func (f *crewFlags) gather(ctx context.Context, env *environment, cfg *job.Config) (*crew, error) {
	conn, meeting, err := f.meet(ctx, "bench", env.log)
	if err != nil {
		return nil, err
	}
	members, err := join.Gather(ctx, conn, meeting, f.Workers, f.Patience)
	if err != nil {
		conn.Close()
		if ctx.Err() != nil {
			return nil, interrupted(ctx)
		}
		return nil, storeError(err)
	}
	env.note(fmt.Sprintf("%d load generators: %s", f.Workers, strings.Join(members.Names(), ", ")))
	return &crew{Crew: members, conn: conn, cfg: cfg}, nil
}

// Prepare gives the job to all and has them write what the load needs.
func (c *crew) Prepare(ctx context.Context) error {
	text, err := json.Marshal(order{Spec: c.cfg.Spec, Secrets: c.cfg.Secrets})
	if err != nil {
		return fmt.Errorf("write down the job: %w", err)
	}
	if err := c.Open(ctx, c.cfg.Place.Run, text); err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	return c.Crew.Prepare(ctx) //nolint:wrapcheck // says what it was
}

// Close lets the others go.
func (c *crew) Close() {
	c.Crew.Close()
	c.conn.Close()
}

// benchWorker is a load generator that waits for a coordinator.
type benchWorker struct {
	joinFlags
	RawDir string `help:"Directory in which every operation of each run is kept, in a file copyfleet-bench-RUN-GENERATOR.ndjson.zst, to be merged." name:"raw-dir" placeholder:"DIR"`
}

// Run serves until the context ends.
func (c *benchWorker) Run(ctx context.Context, env *environment) error {
	if c.RawDir != "" {
		if info, err := os.Stat(c.RawDir); err != nil || !info.IsDir() {
			return exitWith(exitUsage, "--raw-dir %s: it is no directory", c.RawDir)
		}
	}
	conn, cfg, err := c.meet(ctx, "bench worker", env.log)
	if err != nil {
		return err
	}
	defer conn.Close()
	return join.Serve(ctx, conn, cfg, func(text []byte, place loadtest.Place) (join.Generator, error) { //nolint:wrapcheck // says what it was
		return c.open(env, text, place)
	})
}

// open makes the generator's part of a run.
func (c *benchWorker) open(env *environment, text []byte, place loadtest.Place) (join.Generator, error) {
	var o order
	if err := json.Unmarshal(text, &o); err != nil || o.Spec == nil {
		return nil, refuseJob("it cannot be read") // what it says is not repeated: it has secrets
	}
	raw := &rawFile{}
	if c.RawDir != "" {
		var err error
		if raw, err = createRaw(env, filepath.Join(c.RawDir, fmt.Sprintf("copyfleet-bench-%s-%d.ndjson.zst", place.Run, place.Generator)), ""); err != nil {
			return nil, refuseJob("its operations cannot be kept: %v", err)
		}
	}
	made, err := job.New(&job.Config{Spec: o.Spec, Secrets: o.Secrets, Place: place, Raw: raw.writer(), Version: version})
	if err != nil {
		raw.discard()
		return nil, refuseJob("%v", err)
	}
	env.log.Info("a run begins", "run", place.Run, "generator", place.Generator, "generators", place.Generators)
	return &keptJob{Job: made, raw: raw, log: env.log}, nil
}

// refuseJob is an error that keeps its class on its way to the coordinator.
func refuseJob(format string, args ...any) error {
	return storage.Errorf(storage.Invalid, "bad_job", "open", "the job", format, args...)
}

// keptJob is a job whose operations are kept here.
type keptJob struct {
	*job.Job
	raw *rawFile
	log *slog.Logger
}

// Run makes the load. What was measured counts even if the file lacks something.
func (j *keptJob) Run(ctx context.Context, progress func(loadtest.Progress)) (*record.Run, error) {
	run, err := j.Job.Run(ctx, progress)
	if run == nil {
		return nil, err //nolint:wrapcheck // says what it was
	}
	if closed := j.raw.close(); err == nil {
		err = closed
	}
	if err != nil {
		j.log.Error("the operations are not kept whole", "file", j.raw.name, "error", err)
	}
	return run, nil
}

// Close ends the job; the file of a run that never began goes.
func (j *keptJob) Close() {
	j.Job.Close()
	j.raw.discard()
}
