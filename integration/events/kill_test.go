package events

import (
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/producer/triggers"
)

// burst is how many notifications come while something dies, in steps of a multiple of ten.
const burst = 180

// interrupted sends a burst of which one in ten comes twice, has something happen meanwhile, and counts what was copied. The burst comes in steps: the next one
// when the copies of those before are asked for, so that each takes a round of its own however fast the fleet is.
func interrupted(t *testing.T, f *fleet, rule string, steps int, happens func()) {
	t.Helper()
	bucket, bodies := f.objects(t, burst)
	f.apply(t, f.toSandbox(rule, bucket))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for sent, step := range slices.Collect(slices.Chunk(bodies, burst/steps)) {
			publisher{fleet: f, again: true}.send(t.Context(), t, step)
			f.copiesOf(t, rule, (sent+1)*len(step))
		}
	}()
	happens()
	<-ended
	f.holdsAll(t, rule, burst)
	c := f.counts(t, rule, func(c triggers.Counts) bool { return c.Copies == burst && c.Duplicates >= burst/10 }).Counts
	if c.Superseded+c.Loops+c.Refused+c.Recovered != 0 || c.Matched != c.Copies+c.Duplicates {
		t.Errorf("the counts are %+v", c)
	}
	if swept := f.sweep(t, rule, "?all=true"); swept.Listed != burst || swept.Known != burst || swept.Recovered != 0 {
		t.Errorf("a sweep finds %+v", swept)
	}
	f.copied(t, rule, burst)
	t.Logf("%d notifications, %d repeated, %d copies, 0 lost", burst, c.Duplicates, c.Copies)
}

// TestFrontKilledWhileDeciding kills the front at each step from the notification to the batch, early in the burst and late.
func TestFrontKilledWhileDeciding(t *testing.T) {
	t.Parallel()
	for _, point := range failpoint.Points {
		if !strings.HasPrefix(string(point), "trigger_") || point == failpoint.TriggerSummed { // that one: TestFrontKilledWhileForgetting
			continue
		}
		for _, when := range []string{"", ":3"} {
			plan := string(point) + when
			t.Run(plan, func(t *testing.T) {
				t.Parallel()
				f := newFleet(t)
				doomed := f.dooms(t, "api", plan)
				interrupted(t, f, "doomed", 6, func() {
					comeTo(t, doomed, plan)
					f.again(t, "api")
				})
			})
		}
	}
}

// TestFrontKilledWhileForgetting kills a front that cuts off what of the journal is older than it need remember: what was copied is counted still, and new
// notifications go on.
func TestFrontKilledWhileForgetting(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	const rule, n = "forgetting", 40
	bucket, bodies := f.objects(t, n)
	f.apply(t, f.toSandbox(rule, bucket))
	publisher{fleet: f}.send(t.Context(), t, bodies[:n/2])
	f.copied(t, rule, n/2)
	f.Setenv("COPYFLEET_EVENT_MEMORY=1s")
	plan := string(failpoint.TriggerSummed)
	comeTo(t, f.dooms(t, "api", plan), plan)
	f.again(t, "api")
	for _, body := range bodies[n/2:] {
		if a := f.send(t, f.API, "/v1/events/s3", nil, body); a.Status != http.StatusAccepted {
			t.Fatalf("status %d: %s", a.Status, a.Body)
		}
	}
	f.holdsAll(t, rule, n)
	if c := f.counts(t, rule, func(c triggers.Counts) bool { return c.Copies >= n }).Counts; c.Copies != n || c.Matched != n {
		t.Errorf("the counts are %+v", c)
	}
}

// copiesOf waits until a rule has asked for some copies.
func (f *fleet) copiesOf(t *testing.T, rule string, some int) {
	t.Helper()
	if !mixtest.Until(comes, func() bool { a, err := f.asked(t.Context(), rule); return err == nil && a.total >= some }) {
		t.Errorf("%s did not come to %d copies", rule, some)
	}
}

func TestFrontKilledInABurst(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	interrupted(t, f, "front", 1, func() {
		for _, some := range []int{20, 120} {
			f.copiesOf(t, "front", some)
			f.again(t, "api")
		}
	})
}

func TestNATSKilledInABurst(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	interrupted(t, f, "broker", 1, func() {
		f.copiesOf(t, "broker", 20)
		f.nats.Kill9(t)
		f.nats = f.StartNATS(t)
	})
}

// TestLeaderKilledInABurst has two fronts, the first of which leads. The second one takes the notifications, and takes over.
func TestLeaderKilledInABurst(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.second(t)
	interrupted(t, f, "leader", 1, func() {
		f.copiesOf(t, "leader", 20)
		f.roles["api"].Kill9(t)
	})
}

// TestLeaderHandsOverInABurst is the same with a front that is asked to stop: it hands over.
func TestLeaderHandsOverInABurst(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.second(t)
	interrupted(t, f, "over", 1, func() {
		f.copiesOf(t, "over", 20)
		f.roles["api"].Signal(t, syscall.SIGTERM)
		if code := f.roles["api"].Wait(t); code != 0 {
			t.Errorf("the front ended with exit code %d", code)
		}
	})
}

// second starts another front, and has all calls go there from now on.
func (f *fleet) second(t *testing.T) {
	t.Helper()
	address := mixtest.FreeAddress(t)
	f.roles["second"] = f.Start(t, "api", "LISTEN="+address)
	f.API.URL = "http://" + address
	if !mixtest.Until(comes, func() bool {
		answer, err := f.API.Call(t.Context(), http.MethodGet, "/readyz", nil, nil)
		return err == nil && answer.Status == http.StatusOK
	}) {
		t.Fatal("the second front is not ready")
	}
}
