package producer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/protocol"
)

const (
	// rerunTries is how often items are picked again because others picked some of them meanwhile.
	rerunTries = 8
	// rerunTimeout bounds how long a rerun may take to be accepted, whether its caller still listens or not.
	rerunTimeout = 5 * time.Minute
)

var (
	errNothingToRerun = errors.New("no item is to be run again")
	errRerunPending   = errors.New("the items are being taken by another rerun")
	errMixedPools     = errors.New("the items belong to several pools")
)

// rerun is a request to run items of batches again, in a new batch.
type rerun struct {
	org     protocol.OrgID
	id      protocol.BatchID // of the new batch
	keyed   bool
	request [sha256.Size]byte
	trace   string
	pick    func(ctx context.Context) ([]*picked, error)
	terms   func(list []*picked) (terms, error)
	items   func(list []*picked) *rerunItems
	prepare func(ctx context.Context) error
}

// rerunDone is what became of it.
type rerunDone struct {
	record protocol.Acceptance
	items  int
}

// run accepts the new batch. The steps: items are picked; the record of each of their batches says so, all of them in one commit, so that no
// other rerun picks them; the new batch is accepted as any other, from their manifests; the records say that it was. A process that
// dies in between leaves records that name a batch that was not accepted: they do not count, once the next rerun has made
// sure that it never will be.
func (p *Pipeline) run(ctx context.Context, r *rerun) (rerunDone, error) {
	if done, is, err := p.before(ctx, r); err != nil || is {
		return done, err
	}
	list, t, err := p.take(ctx, r)
	if err != nil {
		return rerunDone{}, err
	}
	failpoint.Hit(failpoint.RerunRecorded)
	items := r.items(list)
	o := order{org: r.org, batch: r.id, keyed: r.keyed, trace: r.trace, terms: t, prepare: r.prepare}
	record, err := p.acceptItems(ctx, o, func() (protocol.ManifestItem, error) { return items.next(ctx) })
	if err != nil {
		var accepted bool
		record, accepted = p.withdraw(context.WithoutCancel(ctx), r, list)
		switch {
		case accepted:
		case record.Request == requestSuperseded && errors.Is(err, errKeyReused):
			return rerunDone{}, errTaken
		default:
			return rerunDone{}, err
		}
	}
	for _, k := range list {
		if err := p.settleRerun(ctx, r.org, k.record.Batch, r.id, true); err != nil {
			p.log.Warn("that items were run again was not noted for good; the next rerun does it", "batch", k.record.Batch, "error", err)
		}
	}
	return rerunDone{record: record, items: record.Total}, nil
}

// before finds what an earlier try with the same idempotency key accepted, or why this one cannot be.
func (p *Pipeline) before(ctx context.Context, r *rerun) (done rerunDone, is bool, err error) {
	if !r.keyed {
		return rerunDone{}, false, nil
	}
	record, found, err := p.acceptance(ctx, r.org, r.id)
	switch {
	case err != nil || !found:
		return rerunDone{}, false, err
	case record.Request == requestSuperseded:
		return rerunDone{}, false, errTaken
	case record.Request != "" && record.Request != r.digest():
		return rerunDone{}, false, errKeyReused
	}
	return rerunDone{record: record, items: record.Total}, record.State == protocol.AcceptComplete, nil
}

// digest is the digest of the request as records have it.
func (r *rerun) digest() string { return hex.EncodeToString(r.request[:]) }

// take picks items and enters them in the records of their batches.
func (p *Pipeline) take(ctx context.Context, r *rerun) ([]*picked, terms, error) {
	for range rerunTries {
		list, err := r.pick(ctx)
		if errors.Is(err, errTaken) {
			continue
		}
		if err != nil {
			return nil, terms{}, err
		}
		t, err := r.terms(list)
		if err != nil {
			return nil, t, err
		}
		items := 0
		for _, k := range list {
			items += k.ranges.count()
		}
		if p := crowds(t.lane, items); p != nil {
			return nil, t, &refusal{p}
		}
		t.fed = true // its accept record alone is to tell whether it runs
		t.request = r.request
		changes := make([]broker.Change, len(list))
		now := time.Now().UTC()
		for i, k := range list {
			if changes[i], err = k.entered(r, len(list), now).change(r.org, k.record.Batch, k.revision); err != nil {
				return nil, t, err
			}
		}
		_, err = p.batches.Commit(ctx, changes)
		if err == nil {
			return list, t, nil
		}
		if !errors.Is(err, broker.ErrConflict) {
			return nil, t, fmt.Errorf("enter a rerun: %w", err)
		}
	}
	return nil, terms{}, fmt.Errorf("enter a rerun: %w: others changed the records again and again", broker.ErrUnavailable)
}

// withdraw gives the items of a rerun that failed free for others, unless it was accepted after all. One with an idempotency key keeps
// them for its repetition, until another rerun wants them.
func (p *Pipeline) withdraw(ctx context.Context, r *rerun, list []*picked) (protocol.Acceptance, bool) {
	ctx, cancel := context.WithTimeout(ctx, cleanTimeout)
	defer cancel()
	record, found, err := p.acceptance(ctx, r.org, r.id)
	if err == nil && found && record.State == protocol.AcceptComplete {
		return record, record.Request == r.digest()
	}
	if err != nil || r.keyed {
		return record, false
	}
	gone := true
	if found { // one that was not even begun is nobody else's: its id is in this call only
		gone, err = p.supersede(ctx, r.org, &rerunEntry{Batch: r.id, Request: r.digest()})
	}
	for _, k := range list {
		if gone && err == nil {
			err = p.settleRerun(ctx, r.org, k.record.Batch, r.id, false)
		}
	}
	if err != nil {
		p.log.Warn("a rerun that failed still has its items; the next one takes them", "batch", r.id, "error", err)
	}
	return record, false
}

// rerunItems reads what was picked from the manifests, a page at a time.
type rerunItems struct {
	pipeline *Pipeline
	list     []*picked
	// check changes an item as it was asked for, and says what speaks against running it.
	check func(of *picked, index int, item *protocol.ManifestItem, bad *problems)

	bad    problems
	page   []protocol.ManifestItem // what is left of the page
	at     int                     // index of its first item
	unread int                     // index from which on the batch has not been read
}

// next returns the next item, or [io.EOF]. After one that may not run it returns no more, but looks at the others, up to
// [MaxProblems], and returns a [*refusal] that names all of them.
func (x *rerunItems) next(ctx context.Context) (protocol.ManifestItem, error) {
	for {
		item, of, index, err := x.read(ctx)
		if err != nil && !errors.Is(err, io.EOF) {
			return item, err
		}
		if x.bad.total > 0 && (err != nil || x.bad.full()) {
			return item, &refusal{x.bad.problem(CodeInvalidRequest)}
		}
		if err != nil {
			return item, err
		}
		x.check(of, index, &item, &x.bad)
		if x.bad.total == 0 {
			return item, nil
		}
	}
}

// read returns the next item as it was asked for.
func (x *rerunItems) read(ctx context.Context) (item protocol.ManifestItem, of *picked, index int, err error) {
	for len(x.list) > 0 {
		of = x.list[0]
		for len(x.page) > 0 {
			item, index = x.page[0], x.at
			x.page, x.at = x.page[1:], x.at+1
			if of.ranges.has(index) {
				return item, of, index, nil
			}
		}
		at := of.ranges.from(x.unread)
		if at == len(of.ranges) {
			x.list, x.unread = x.list[1:], 0
			continue
		}
		number := protocol.PageOf(max(of.ranges[at][0], x.unread))
		if x.page, err = x.pipeline.manifestPage(ctx, &of.record, number); err != nil {
			return item, nil, 0, err
		}
		x.at = number * protocol.PageSize
		x.unread = x.at + protocol.PageSize
		if want := min(protocol.PageSize, of.record.Total-x.at); len(x.page) != want {
			return item, nil, 0, fmt.Errorf("page %d of %s: it has %d items, not %d: %w", number, of.record.Batch, len(x.page), want, protocol.ErrSeal)
		}
	}
	return item, nil, 0, io.EOF
}
