package worker

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/internal/hosts"
	"github.com/copyfleet/copyfleet/internal/observe"
	"github.com/copyfleet/copyfleet/protocol"
)

// codeHostRest is the code of what was decided about an item without an attempt, because its host is left alone.
const codeHostRest = "host_rest"

func (w *Worker) newHosts() *hosts.Table {
	return hosts.New(hosts.Config{
		Slots: w.cfg.Slots, Most: w.cfg.HostConcurrency, RestPatience: w.cfg.HostPatience,
		HostRequests: w.cfg.HostRequests, HostBytes: w.cfg.HostBytes,
		TenantRequests: w.cfg.TenantRequests, TenantBytes: w.cfg.TenantBytes,
		Resting: func(key hosts.Key, ends bool, pause time.Duration, cause string) {
			if ends {
				w.cfg.Logger.Info("a host is not left alone any more", "host", key.Host, "side", key.Side.String(), "after", pause)
				return
			}
			w.cfg.Logger.Warn("a host is left alone for a while", "host", key.Host, "side", key.Side.String(), "pause", pause, "reason", cause)
		},
	})
}

// hostState is what is measured of the hosts.
func (w *Worker) hostState() observe.Hosts {
	s := w.hosts.State()
	slices.Sort(s.Limits)
	return observe.Hosts{Working: s.Gates - s.Resting, Resting: s.Resting, Waiting: s.Waiting, Places: s.Limits}
}

// locatedAt is the host of a location, as items are counted by it; "": it is on none that could be overloaded by others.
func (c *copier) locatedAt(place protocol.Location) string {
	switch place.Type {
	case protocol.SandboxFile, protocol.SandboxTree:
		if c.inDirectory(place) {
			return ""
		}
		return objectHost
	case protocol.Object, protocol.StagedUpload:
		return objectHost
	case protocol.HTTPGet, protocol.HTTPPut, protocol.HTTPPostForm:
	}
	u, err := url.Parse(place.URL)
	if err != nil || u.Host == "" {
		return ""
	}
	host := strings.ToLower(u.Host)
	if u.Port() == "" {
		host += ports[u.Scheme]
	}
	return u.Scheme + "://" + host
}

// inDirectory reports whether a location is on this machine: in a sandbox that is a directory, not objects of the store.
func (c *copier) inDirectory(place protocol.Location) bool {
	_, inStore := c.drivers.Sandboxes.(interface{ InStore() })
	return (place.Type == protocol.SandboxFile || place.Type == protocol.SandboxTree) && !inStore
}

// objectHost stands for the one object store that a worker knows.
const objectHost = "s3://endpoint"

var ports = map[string]string{"http": ":80", "https": ":443"}

// visits reports whether the item reads or writes anywhere, as far as is known.
func (j *job) visits() bool { return j.work.Kind != protocol.KindWebhook && j.unreadable == nil }

// enterHosts waits until the item may be at its hosts. While it does so its slot is left to others.
func (w *Worker) enterHosts(j *job) error {
	if !j.visits() {
		return nil
	}
	ask := hosts.Ask{
		Tenant: string(j.work.Org), First: !j.bulk(), Since: j.work.Since,
		Last: len(j.work.Attempts) > 0 && len(j.work.Attempts)+1 >= j.maxAttempts(),
	}
	if host := w.copier.locatedAt(j.asked.Src); host != "" {
		j.gates = append(j.gates, hosts.Key{Side: hosts.Source, Host: host})
	}
	if host := w.copier.locatedAt(j.asked.Dest); host != "" {
		j.gates = append(j.gates, hosts.Key{Side: hosts.Dest, Host: host})
	}
	ask.Keys = j.gates
	part, aside := j.work.Kind == protocol.KindPart, false
	defer func() {
		if aside {
			w.slots.stepBack(j.bulk())
			j.aside = true
		}
	}()
	for {
		visit, err := w.hosts.Enter(j.ctx, ask, func() bool {
			aside = aside || w.slots.stepAside(j.bulk(), part)
			return aside
		})
		// A part is not put away like an item: its item waits for it. Nor does it wait in its slot, which may be wanted for another host.
		if later, ok := errors.AsType[*hosts.LaterError](err); ok && !later.Resting && part {
			if aside = aside || w.slots.stepAside(j.bulk(), part); aside {
				w.pause(j.ctx, partPause)
				continue
			}
		}
		j.visit = visit
		return err //nolint:wrapcheck // says whose wish it was, or when to come back
	}
}

// partPause is how long a part waits between two times that it asks for a place.
const partPause = 100 * time.Millisecond

// notNow is what becomes of an item that its hosts have no place for, or that is not to go on here for another reason.
func (w *Worker) notNow(work context.Context, j *job, err error) (res result, told bool) {
	later, ok := errors.AsType[*hosts.LaterError](err)
	if ok { // it may be told of
		if unclaimed := j.clearance.wait(work); unclaimed != nil {
			err, ok = unclaimed, false
		}
	}
	switch {
	case !ok:
		w.putDown(work, j, err)
	case j.work.Kind == protocol.KindPart && !later.Resting:
		w.release(work, err, later.Wait, j)
	case later.Spent, j.work.Kind == protocol.KindPart: // the item that it is a part of waits in its place
		w.reporter.enter()
		return w.unserved(j, later), true
	case !w.parker.add(parked{job: j, later: later}):
		w.putDown(work, j, context.Cause(j.ctx))
	}
	return res, false
}

// unserved is the attempt that an item is charged that has waited for too long for a host which rests yet: what the last probe of the host
// came to counts for it. So an item whose host never comes back ends in time, and takes none of the time of a worker.
func (w *Worker) unserved(j *job, later *hosts.LaterError) result {
	now := time.Now().UTC()
	failure := restFailure(later)
	failure.Message = fmt.Sprintf("%s has not worked for %s; it was not asked again for this item", failure.Host, later.Down.Round(time.Second))
	failure.Hint = "Look whether " + failure.Host + " works and can be reached from the workers. Once it does, retry the item if it has failed."
	clipped := failure.Clipped()
	attempt := protocol.Attempt{Number: len(j.work.Attempts) + 1, Worker: w.cfg.ID, Start: now, End: now, Failure: brief(&clipped)}
	return result{attempt: attempt, failure: &clipped, retryAfter: later.Wait, waited: true}
}

// restFailure says why an item waits.
func restFailure(later *hosts.LaterError) protocol.Failure {
	_, host, _ := strings.Cut(later.Key.Host, "://")
	f := protocol.Failure{
		Class: protocol.Class(later.Class), Code: codeHostRest, Host: host, Cause: later.Cause,
		Message: host + " does not work, or asked for a pause; it is left alone for a while, and this item waits without an attempt",
		Hint:    "Look whether " + host + " works and can be reached from the workers; the item goes on by itself once it does.",
	}
	f.Class = orDefault(f.Class, protocol.Unavailable)
	return f
}

// leaveHosts ends the visit, and has the item's next attempt wait for the rest that its host may have now; those that wait already
// find out before it whether the host is back.
func (w *Worker) leaveHosts(j *job, res *result) {
	j.visit.Leave(res.visited...)
	if res.failure == nil {
		return
	}
	for _, key := range j.gates {
		if rest := w.hosts.Rests(key); rest > 0 {
			const behind = 4
			res.retryAfter = max(res.retryAfter, rest+rest/behind+parkLinger)
		}
	}
}

// visited tells what became of an item at each of its hosts. An answer, also one that says no, shows that the host works. A source that was
// not asked, because something is at the destination, has shown nothing.
func (j *job) visited(err error, res *result) []hosts.Result {
	list := make([]hosts.Result, len(j.gates))
	_, fromSource := errors.AsType[*sourceError](err)
	if _, elsewhere := errors.AsType[*failureError](err); elsewhere {
		return list // of a part: who had it has told what its hosts did
	}
	for i, key := range j.gates {
		switch {
		case res.failure == nil && key.Side == hosts.Source && res.copied.skip == protocol.SkipExists && res.copied.read == 0 && res.copied.status == 0:
		case res.failure == nil:
			list[i].Kind = hosts.Worked
		case err != nil && fromSource == (key.Side == hosts.Source):
			list[i] = hosts.Result{
				Kind: visitKind(res.failure, res.copied.read > 0), RetryAfter: res.retryAfter, Cause: res.failure.Message, Class: string(res.failure.Class),
			}
		}
	}
	return list
}

// visitKind is what a failure says of the host. One in the middle of a file, moved tells, says more of the file than of the host.
func visitKind(f *protocol.Failure, moved bool) hosts.Kind {
	switch f.Class {
	case protocol.Throttled:
		return hosts.Refused
	case protocol.Unavailable:
		return hosts.Failed
	case protocol.Interrupted:
		if !moved {
			return hosts.Failed
		}
	case protocol.Timeout:
		if !moved {
			return hosts.TimedOut
		}
	case protocol.NotFound, protocol.Denied, protocol.Invalid, protocol.Conflict, protocol.TooLarge, protocol.Corrupt:
		if f.Status != 0 {
			return hosts.Worked
		}
	case protocol.NoSpace, protocol.ForbiddenAddress, protocol.Internal, protocol.Lost, protocol.Canceled:
	}
	return hosts.Neutral
}
