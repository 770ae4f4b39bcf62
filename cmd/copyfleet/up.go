package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sourcegraph/conc/pool"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/lifecycle"
	"github.com/copyfleet/copyfleet/internal/s3server"
	"github.com/copyfleet/copyfleet/producer"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage/object"
)

// upCmd runs the whole fleet in one process.
type upCmd struct {
	apiFlags
	workerFlags
	aggregatorFlags
	natsFlags
	sealFlags
	S3            s3Flags `embed:""`
	Data          string  `help:"Data directory; one process at a time may use it." default:"copyfleet-data" env:"COPYFLEET_DATA"`
	S3Listen      string  `help:"Address of the embedded S3." name:"s3-listen" default:"127.0.0.1:7401" env:"COPYFLEET_S3_LISTEN"`
	NATSListen    string  `help:"Address of the embedded NATS, for other roles to join. Off unless given. On another address than loopback it asks for a token, which the ready line shows." name:"nats-listen" env:"COPYFLEET_NATS_LISTEN" placeholder:"HOST:PORT"`
	MinFree       uint64  `help:"MiB of disk space below which nothing is accepted any more." default:"128" env:"COPYFLEET_MIN_FREE"`
	AutoSandboxes bool    `help:"Let an unknown sandbox come into being at its first use; on unless negated." default:"true" negatable:"" env:"COPYFLEET_AUTO_SANDBOXES"`
	AutoBuckets   bool    `help:"Make a missing bucket when it is first written to; on unless negated." default:"true" negatable:"" env:"COPYFLEET_AUTO_BUCKETS"`
}

// ready is the line that up prints when it takes requests.
type ready struct {
	API    string `json:"api"`
	S3     string `json:"s3"`
	NATS   string `json:"nats"`
	Org    string `json:"org"`
	APIKey string `json:"api_key"`
	Data   string `json:"data"`
}

// Run starts everything, tells that it is ready, and on a signal stops in the reverse order.
func (c *upCmd) Run(ctx context.Context, env *environment) error {
	boundMemory(os.Getenv)
	u := &upFleet{cmd: c, log: env.log}
	defer func() { u.closeAll() }()
	if err := u.start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // told to stop before it was ready: that is in order
		}
		return err
	}
	if err := u.announce(env); err != nil {
		return err
	}
	return u.serve(ctx)
}

// upFleet is everything that up runs.
type upFleet struct {
	cmd     *upCmd
	log     *slog.Logger
	data    *lifecycle.DataDir
	server  *broker.Server // nil with --nats-url
	conn    *broker.Conn
	s3      *s3server.Server // nil with --s3-endpoint
	objects *object.Store
	staging *object.Staging
	front   *front
	worker  *fleetWorker
	fold    interface{ Run(context.Context) error }
	told    *telemetry
	ready   ready
	newKey  bool
	closers []func() error // run in reverse order
}

func (u *upFleet) onClose(f func() error) { u.closers = append(u.closers, f) }

func (u *upFleet) closeAll() {
	for _, closer := range slices.Backward(u.closers) {
		if err := closer(); err != nil {
			u.log.Error("not closed in order", "error", err)
		}
	}
	u.closers = nil
}

func (u *upFleet) start(ctx context.Context) error {
	if dir := u.cmd.SpoolDir; dir != "" { // the embedded S3 changes the directory of the process
		abs, err := filepath.Abs(dir)
		if err != nil {
			return exitWith(exitUsage, "--spool-dir %s: %w", dir, err)
		}
		u.cmd.SpoolDir = abs
	}
	data, err := lifecycle.OpenDataDir(u.cmd.Data)
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	u.data = data
	u.onClose(data.Close)
	if u.told, err = startTelemetry(ctx, "up", "", u.log); err != nil {
		return err
	}
	u.onClose(func() error { u.told.close(ctx); return nil })
	for _, step := range []func(context.Context) error{u.startBroker, u.startS3, u.startRoles} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (u *upFleet) startBroker(ctx context.Context) error {
	if u.cmd.URL != "" {
		conn, err := u.cmd.connect(ctx, "up", u.log)
		if err != nil {
			return err
		}
		u.conn, u.ready.NATS = conn, redactURL(u.cmd.URL)
		u.onClose(func() error { conn.Close(); return nil })
		return nil
	}
	token, err := u.natsToken()
	if err != nil {
		return err
	}
	u.server, err = broker.StartServer(broker.ServerConfig{Dir: u.data.Path("nats"), Listen: u.cmd.NATSListen, Token: token, Logger: u.log})
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	u.onClose(func() error { u.server.Close(); return nil })
	u.conn, err = broker.Connect(broker.Config{Server: u.server, Name: "copyfleet up", Logger: u.log, AckWait: u.cmd.AckWait})
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	u.onClose(func() error { u.conn.Close(); return nil })
	u.ready.NATS = u.server.URL()
	if token != "" {
		u.ready.NATS = strings.Replace(u.ready.NATS, "://", "://"+token+"@", 1)
	}
	return u.conn.Setup(ctx) //nolint:wrapcheck // says what it was
}

// natsToken returns the token that others must present, "" where only this machine can connect.
func (u *upFleet) natsToken() (string, error) {
	if u.cmd.NATSListen == "" {
		return "", nil
	}
	host, _, err := net.SplitHostPort(u.cmd.NATSListen)
	if err != nil {
		return "", exitWith(exitUsage, "--nats-listen %q: %w", u.cmd.NATSListen, err)
	}
	if addr, err := netip.ParseAddr(host); host == "localhost" || err == nil && addr.IsLoopback() {
		return "", nil
	}
	token, _, err := u.data.Secret("nats-token", rand.Text)
	return token, err //nolint:wrapcheck // says what it was
}

func redactURL(raw string) string { return protocol.RedactURL(raw) }

func (u *upFleet) startS3(ctx context.Context) error {
	s3, endpoint := u.cmd.S3, u.cmd.S3.Endpoint
	if endpoint == "" {
		var err error
		if s3, err = u.s3Keys(s3); err != nil {
			return err
		}
		server, err := s3server.Start(ctx, s3server.Config{
			Dir: u.data.Path("s3"), Listen: u.cmd.S3Listen, AccessKey: s3.AccessKey, SecretKey: s3.SecretKey,
			NoSync: u.cmd.FileSync == "off", Logger: u.log,
		})
		if err != nil {
			return err //nolint:wrapcheck // says what it was
		}
		u.s3 = server
		u.onClose(server.Close)
		endpoint = server.URL()
	}
	flags := u.cmd.workerFlags
	if flags.SpoolDir == "" {
		flags.SpoolDir = u.data.Path("spool")
	}
	objects, client, err := s3.objects(endpoint, u.cmd.AutoBuckets, flags)
	if err != nil {
		return err
	}
	u.onClose(func() error { client.Close(); return nil })
	u.objects, u.ready.S3 = objects, endpoint
	u.staging, err = s3.staging(objects)
	return err
}

// s3Keys completes the keys of the embedded S3: those that are given, else ones that are made once and kept.
func (u *upFleet) s3Keys(s3 s3Flags) (s3Flags, error) {
	if s3.AccessKey != "" && s3.SecretKey != "" {
		return s3, nil
	}
	if s3.AccessKey != "" || s3.SecretKey != "" {
		return s3, exitWith(exitUsage, "--s3-access-key and --s3-secret-key are given both or not at all")
	}
	var err error
	if s3.AccessKey, _, err = u.data.Secret("s3-access-key", func() string { return "cf" + strings.ToLower(rand.Text()[:18]) }); err != nil {
		return s3, err //nolint:wrapcheck // says what it was
	}
	s3.SecretKey, _, err = u.data.Secret("s3-secret-key", func() string { return rand.Text() + rand.Text() })
	return s3, err //nolint:wrapcheck // says what it was
}

func (u *upFleet) startRoles(ctx context.Context) error {
	sealer, err := u.cmd.sealer(ctx, u.conn)
	if err != nil {
		return err
	}
	if u.fold, err = startAggregator(ctx, u.cmd.aggregatorFlags, u.conn, u.told, u.log); err != nil {
		return err
	}
	w := u.cmd.workerFlags
	if w.Sandboxes == "" {
		w.Sandboxes = fileURL(u.data.Path("sandboxes"))
	}
	if w.SpoolDir == "" {
		w.SpoolDir = u.data.Path("spool")
	}
	if len(w.EgressAllow) == 0 {
		w.EgressAllow = loopback()
	}
	if u.worker, err = w.start(ctx, u.conn, u.objects, u.staging, sealer, u.told, u.log); err != nil {
		return err
	}
	u.onClose(u.worker.close)
	api := u.cmd.apiFlags
	if api.APIKey == "" {
		if api.APIKey, u.newKey, err = u.data.Secret("api-key", producer.NewAPIKey); err != nil {
			return err //nolint:wrapcheck // says what it was
		}
	}
	checks := []readyCheck{{"nats", u.conn.Ready}, {"s3", u.objects.Check}, {"space", func(context.Context) error { return u.room() }}}
	more, err := reserveSandboxes(w.Sandboxes, u.objects)
	if err != nil {
		return err
	}
	checks = append(checks, more...)
	u.front, err = startFront(ctx, frontConfig{
		flags: api, autoSandboxes: u.cmd.AutoSandboxes, autoBuckets: u.cmd.AutoBuckets, grantAll: true, ready: checks, room: u.room, telemetry: u.told,
		staging: u.staging,
	}, u.conn, u.objects, sealer, u.log)
	if err != nil {
		return err
	}
	u.tellEvents(ctx, api.Org)
	u.ready.API, u.ready.Org, u.ready.APIKey, u.ready.Data = u.front.url(), api.Org, api.APIKey, u.data.Path()
	return nil
}

// tellEvents has the embedded S3 tell of its objects, as another store is made to by "copyfleet events connect". What the fleet keeps for itself
// there is nobody's event.
func (u *upFleet) tellEvents(ctx context.Context, org string) {
	if u.s3 == nil {
		return
	}
	u.s3.Tell(ctx, s3server.Listener{Skip: u.objects.Reserved, Publish: func(ctx context.Context, notification []byte) error {
		ctx, cancel := context.WithTimeout(ctx, tellLimit)
		defer cancel()
		_, err := u.conn.PublishEvent(ctx, protocol.OrgID(org), protocol.EventS3, nil, notification)
		return err //nolint:wrapcheck // logged, with what it was
	}})
}

// tellLimit is how long the broker may take for a notification before it is told once more.
const tellLimit = 10 * time.Second

// room says why nothing may be accepted now. An external NATS looks after its own disk.
func (u *upFleet) room() error {
	if u.server == nil {
		return nil
	}
	return u.server.Room(u.cmd.MinFree << 20) //nolint:wrapcheck // says what it was
}

func (u *upFleet) announce(env *environment) error {
	if env.json {
		line, err := json.Marshal(u.ready)
		if err != nil {
			return fmt.Errorf("print the ready line: %w", err)
		}
		_, err = fmt.Fprintf(env.stdout, "%s\n", line)
		return wrapPrint(err)
	}
	return wrapPrint(u.printReady(env.stdout))
}

func (u *upFleet) printReady(w io.Writer) error {
	r := u.ready
	_, err := fmt.Fprintf(w, `Copyfleet is ready.
  API      %s
  S3       %s
  NATS     %s
  org      %s
  API key  %s
  data     %s

Try:
  curl -X POST %s/api/orgs/%s/sandboxes/SBX-1/file/copy \
    -H 'Authorization: Bearer %s' -H 'Content-Type: application/json' \
    -d '{"files":[{"src":{"type":"httpGetLocation","url":"https://example.com/"},"dest":{"type":"sandboxFileLocation","path":"/index.html"}}]}'
`, r.API, r.S3, orNone(r.NATS), r.Org, r.APIKey, r.Data, r.API, r.Org, r.APIKey)
	return err //nolint:wrapcheck // wrapped by the caller
}

func orNone(s string) string {
	if s == "" {
		return "(this process only; --nats-listen lets others join)"
	}
	return s
}

func wrapPrint(err error) error {
	if err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// foldAfterDrain is how long the aggregator may still fold what the drained worker reported.
const foldAfterDrain = 2 * time.Second

// serve runs the roles until the context ends or one of them fails, and then stops them in order: no new calls, no
// new work, the last receipts, and an answer for the calls that still wait.
func (u *upFleet) serve(ctx context.Context) error {
	working, stopWorking := context.WithCancel(ctx)
	defer stopWorking()
	folding, stopFolding := context.WithCancel(context.WithoutCancel(ctx))
	defer stopFolding()
	workers, folds := pool.New().WithErrors(), pool.New().WithErrors()
	folds.Go(func() error { defer stopWorking(); return u.fold.Run(folding) })
	if u.server != nil {
		folds.Go(func() error { u.server.Watch(folding, u.cmd.MinFree<<20); return nil })
	}
	workers.Go(func() error { defer stopWorking(); return u.worker.worker.Run(working) })

	var failed error
	select {
	case <-working.Done():
	case served := <-u.front.served:
		u.front.served <- served
		failed = fmt.Errorf("the API stopped: %w", served)
		stopWorking()
	}
	if ctx.Err() != nil {
		u.log.Info("stopping: no new work; running items may finish", "for", u.cmd.Drain)
	}
	u.front.refuseNew()
	failed = errors.Join(failed, workers.Wait())
	u.front.settle(foldAfterDrain)
	failed = errors.Join(failed, u.front.close(ctx))
	stopFolding()
	return errors.Join(failed, folds.Wait())
}
