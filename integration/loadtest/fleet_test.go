package loadtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/loadtest"
	"github.com/copyfleet/copyfleet/loadtest/record"
	"github.com/copyfleet/copyfleet/loadtest/target"
	"github.com/copyfleet/copyfleet/loadtest/workload"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
)

func sizes(t *testing.T, text string) workload.Sizes {
	t.Helper()
	s, err := workload.ParseSizes(text, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// run makes copies and returns what they were like.
func run(t *testing.T, target loadtest.Target, plan loadtest.Plan) (*record.Totals, string) {
	t.Helper()
	r := record.NewRecorder(0, nil)
	partial := loadtest.Run(t.Context(), &plan, target, r)
	totals, err := r.Totals()
	if err != nil {
		t.Fatal(err)
	}
	return totals, partial
}

func sum(totals *record.Totals) (ops, errors int64) {
	for _, g := range totals.Groups {
		ops, errors = ops+g.Ops, errors+g.Errors
	}
	return ops, errors
}

// Copies that are made one a call and in batches go well, and what they wrote is what was there to copy.
func TestCopies(t *testing.T) {
	t.Parallel()
	f := up(t)
	for _, batch := range []int{1, 25} {
		t.Run(fmt.Sprint(batch), func(t *testing.T) {
			cfg := f.config(batch)
			cfg.Store.Prefix = fmt.Sprintf("copyfleet-bench/r%d/0/", batch)
			to := newTarget(t, cfg)
			if err := to.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
			load := workload.NewLoad(workload.Config{Mix: workload.Only(workload.Copy), Sizes: sizes(t, "0:1,1KiB:3,100KiB:2"), Objects: 10, Count: 110})
			if err := loadtest.Prepare(t.Context(), load, 4, to); err != nil {
				t.Fatal(err)
			}
			totals, partial := run(t, to, loadtest.Plan{Load: load, Concurrency: 50})
			if ops, _ := sum(totals); ops != 110 || partial != "" {
				t.Errorf("%d went well, %q", ops, partial)
			}
			for _, c := range totals.Faults {
				t.Errorf("%d times %+v", c.Count, c.Fault)
			}
			for _, g := range totals.Groups {
				if g.Host == "" || g.Host == to.Host() {
					t.Errorf("copied by %q, which is no worker", g.Host)
				}
			}
			// Each destination is an object of the load.
			content, err := f.API.Object(t.Context(), f.Bucket, to.Destination(0))
			if err != nil || len(content) != 0 && len(content) != 1<<10 && len(content) != 100<<10 {
				t.Errorf("%d bytes, %v", len(content), err)
			}
			if n, err := to.Clear(t.Context()); n != 120 || err != nil {
				t.Errorf("%d objects of 10 sources and 110 copies were removed, %v", n, err)
			}
		})
	}
}

// A copy that the fleet cannot make is told with the fleet's own reason, whether it was asked for alone or in a batch.
func TestCopiesThatFail(t *testing.T) {
	t.Parallel()
	f := up(t)
	for _, batch := range []int{1, 4} {
		to := newTarget(t, f.config(batch))
		if err := to.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		op := workload.Op{N: 1, Kind: workload.Copy, Object: workload.Object{Number: 99, Size: 10}}
		if result := to.Do(t.Context(), &op); result.Fault == nil || result.Fault.Class != "not_found" || result.Fault.Hint == "" || result.Down {
			t.Errorf("batches of %d: %+v", batch, result.Fault)
		}
		put := workload.Op{Kind: workload.Put, Object: op.Object}
		if result := to.Do(t.Context(), &put); result.Fault != nil {
			t.Fatal(result.Fault)
		}
		op.Object.Size = 11 // it is not what is there
		if result := to.Do(t.Context(), &op); result.Fault == nil || result.Fault.Class != "corrupt" {
			t.Errorf("batches of %d: %+v", batch, result.Fault)
		}
		if _, err := to.Clear(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// Without a worker copies wait. When the run ends they are canceled, so that a worker that comes later writes nothing; and what keeps a fleet from copying is
// said before.
func TestWhatIsMissing(t *testing.T) {
	t.Parallel()
	f, api := roles(t)
	says := func(what string, cfg target.FleetConfig, class storage.Class, hint string) {
		t.Helper()
		err := newTarget(t, cfg).Check(t.Context())
		if e, is := errors.AsType[*storage.Error](err); !is || e.Class != class || !strings.Contains(e.Hint, hint) {
			t.Errorf("%s: %v, %+v", what, err, e)
		}
	}
	due := 0
	for _, batch := range []int{1, 5} {
		cfg := f.config(batch)
		says("no worker", cfg, storage.Unavailable, "Start a worker")
		to := newTarget(t, cfg)
		_ = to.Check(t.Context()) // learns the org
		load := workload.NewLoad(workload.Config{Mix: workload.Only(workload.Copy), Sizes: sizes(t, "1KiB"), Objects: 2})
		if err := loadtest.Prepare(t.Context(), load, 2, to); err != nil {
			t.Fatal(err)
		}
		due += 10
		totals := f.untilTaken(t, to, load, due)
		if ops, failed := sum(totals); ops != 0 || failed != 10 || totals.Faults[0].Fault.Code != "given_up" {
			t.Errorf("batches of %d: %d went well, %d failed, %+v", batch, ops, failed, totals.Faults)
		}
		if err := to.Settle(t.Context()); err != nil {
			t.Error(err)
		}
		wrong := cfg
		wrong.Key = "cfk_wrong"
		says("wrong key", wrong, storage.Denied, "unknown to this fleet")
	}
	for _, b := range f.batches(t) {
		if b.State != protocol.BatchCanceled && b.State != protocol.BatchCanceling {
			t.Errorf("a batch is %s after the run", b.State)
		}
	}
	f.Start(t, "worker")
	whole := newTarget(t, f.config(1))
	if err := whole.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if n, err := whole.Clear(t.Context()); n != 2 || err != nil { // the sources; copies would be more
		t.Errorf("%d objects, %v", n, err)
	}
	f.Bucket = "not-granted"
	f.store.MakeBucket(t, f.Bucket)
	for _, batch := range []int{1, 5} {
		says("no grant", f.config(batch), storage.Denied, "copyfleet orgs grant ORG-dev not-granted/copyfleet-bench/")
	}
	if out := f.Command(t, nil, "orgs", "grant", "ORG-dev", "not-granted/copyfleet-bench/"); out.Exit != 0 {
		t.Fatalf("%+v", out)
	}
	if err := newTarget(t, f.config(1)).Check(t.Context()); err != nil {
		t.Errorf("what the hint says does not help: %v", err)
	}
	other := up(t)
	elsewhere := other.config(1)
	elsewhere.Store.Endpoints, elsewhere.Store.Bucket = f.raw(), f.Bucket
	says("another store", elsewhere, storage.NotFound, "--s3-endpoint")
	api.Kill9(t)
	says("no API", f.config(1), storage.Unavailable, "Does the fleet run")
}

// An API that dies in mid-run makes operations fail, at a rest between each two, and is loaded again when it is back. What the fleet took before it died
// and nobody has heard of is canceled in the end, or has ended.
func TestTheAPIDies(t *testing.T) {
	t.Parallel()
	for _, batch := range []int{1, 5} {
		t.Run(fmt.Sprint(batch), func(t *testing.T) {
			t.Parallel()
			f, api := roles(t)
			f.Start(t, "worker")
			to := newTarget(t, f.config(batch))
			if err := to.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
			load := workload.NewLoad(workload.Config{Mix: workload.Only(workload.Copy), Sizes: sizes(t, "1KiB"), Objects: 2})
			if err := loadtest.Prepare(t.Context(), load, 2, to); err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			watched := &watched{Fleet: to}
			ended := make(chan *record.Totals, 1)
			go func() {
				r := record.NewRecorder(0, nil)
				loadtest.Run(ctx, &loadtest.Plan{Load: load, Concurrency: 10, Down: limit}, watched, r)
				totals, _ := r.Totals()
				ended <- totals
			}()
			until := func(what string, yes func() bool) {
				t.Helper()
				if !mixtest.Until(limit, yes) {
					t.Fatal(what)
				}
			}
			until("nothing is copied", func() bool { return watched.well.Load() >= 20 })
			api.Kill9(t)
			until("nothing fails", func() bool { return watched.down.Load() >= 20 })
			well := watched.well.Load()
			f.Start(t, "api")
			until("nothing is copied any more", func() bool { return watched.well.Load() >= well+20 })
			stop()
			totals := <-ended
			if err := to.Settle(t.Context()); err != nil {
				t.Error(err)
			}
			for _, c := range totals.Faults {
				if class := c.Fault.Class; class != "unavailable" && class != "interrupted" {
					t.Errorf("%d times %+v", c.Count, c.Fault)
				}
			}
			for _, b := range f.batches(t) {
				if !b.State.Final() && b.State != protocol.BatchCanceling {
					t.Errorf("a batch is %s after the run", b.State)
				}
			}
		})
	}
}

// untilTaken makes a load of ten copies at once until the fleet has taken so many copies in all, and interrupts it then.
func (f *fleet) untilTaken(t *testing.T, to loadtest.Target, load *workload.Load, due int) *record.Totals {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan *record.Totals, 1)
	go func() {
		r := record.NewRecorder(0, nil)
		loadtest.Run(ctx, &loadtest.Plan{Load: load, Concurrency: 10}, to, r)
		totals, _ := r.Totals()
		ended <- totals
	}()
	taken := func() (n int) {
		for _, b := range f.batches(t) {
			n += b.Total
		}
		return n
	}
	if !mixtest.Until(limit, func() bool { return taken() >= due }) {
		t.Errorf("the fleet has taken %d copies, not %d", taken(), due)
	}
	stop()
	return <-ended
}

// watched counts what a target does.
type watched struct {
	*target.Fleet

	well, down atomic.Int64
}

func (w *watched) Do(ctx context.Context, op *workload.Op) loadtest.Result {
	result := w.Fleet.Do(ctx, op)
	switch {
	case result.Fault == nil:
		w.well.Add(1)
	case result.Down:
		w.down.Add(1)
	}
	return result
}

// The reports of a batch, as the program writes them, are replayed: what was copied, in the order in which it was.
func TestReportsAreReplayed(t *testing.T) {
	t.Parallel()
	f := up(t)
	batch := f.Small("replayed", 30)
	batch = append(batch, mixtest.Copy{ID: "missing", Src: mixtest.FromURL(f.URL + "/none"), Dest: mixtest.ToSandbox("/none")})
	answer, err := f.API.Copy(t.Context(), f.Sandbox, nil, batch.Files())
	if err != nil {
		t.Fatal(err)
	}
	receipts, err := f.API.Receipts(t.Context(), answer.Batch())
	if err != nil {
		t.Fatal(err)
	}
	bytes := int64(0)
	for i := range receipts {
		bytes += receipts[i].Bytes
	}
	for _, form := range []string{"csv", "ndjson"} {
		out := f.Command(t, nil, "report", answer.Batch(), "--format", form)
		schedule, err := workload.ReadSchedule(strings.NewReader(out.Stdout))
		if err != nil {
			t.Fatalf("%s: %v: %s", form, err, out.Stderr)
		}
		if schedule.Len() != 30 || schedule.Bytes() != bytes || schedule.Left != (workload.Left{Failed: 1}) || schedule.Truncated {
			t.Errorf("%s: %d items, %d bytes, %+v", form, schedule.Len(), schedule.Bytes(), schedule.Left)
		}
		cfg := f.config(10)
		cfg.Store.Prefix = "copyfleet-bench/" + form + "/0/"
		to := newTarget(t, cfg)
		if err := to.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		load := workload.NewLoad(workload.Config{Mix: workload.Only(workload.Copy), Schedule: schedule, Speed: 1, Objects: 100})
		if err := loadtest.Prepare(t.Context(), load, 2, to); err != nil {
			t.Fatal(err)
		}
		totals, partial := run(t, to, loadtest.Plan{Load: load, Concurrency: 30})
		copied := int64(0)
		for _, g := range totals.Groups {
			copied += g.Bytes
		}
		if ops, failed := sum(totals); ops != 30 || failed != 0 || partial != "" || copied != bytes {
			t.Errorf("%s: %d went well, %d failed, %d bytes, %q: %+v", form, ops, failed, copied, partial, totals.Faults)
		}
	}
}
