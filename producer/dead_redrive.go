package producer

import (
	"cmp"
	"context"
	"iter"
	"net/http"
	"slices"
	"strconv"

	"github.com/copyfleet/copyfleet/protocol"
)

// redriveRequest is the body of a redrive. The filter must be there; an empty one means all dead letters of the org.
type redriveRequest struct {
	Filter  *redriveFilter `json:"filter"`
	Preview bool           `json:"preview"`
	Patch   *patch         `json:"patch"`
	rerunOptions
}

type redriveFilter struct {
	Batch protocol.BatchID `json:"batch"`
	Class protocol.Class   `json:"class"`
	Code  string           `json:"code"`
	Host  string           `json:"host"`
	IDs   []string         `json:"ids"`
}

// redriveView is the answer to a redrive. More says that dead letters are left that match: one call takes those of
// [maxRedriveBatches] batches at most.
type redriveView struct {
	rerunView

	More bool `json:"more"`
}

const (
	// maxRedriveBatches bounds the batches whose dead letters one redrive takes: all are entered at once, or none.
	maxRedriveBatches = 1000
)

// redrive runs dead letters again, in a new batch, or tells what it would run.
func (s *Server) redrive(w http.ResponseWriter, r *http.Request) {
	var request redriveRequest
	sum, problem := s.readRequest(w, r, &request)
	var drive *redriver
	if problem == nil {
		drive, problem = s.newRedriver(r, &request)
	}
	if problem != nil {
		writeProblem(w, r, *problem)
		return
	}
	if request.Preview {
		view, err := drive.preview(r.Context())
		if err != nil {
			s.refuseList(w, r, err)
			return
		}
		writeJSON(w, http.StatusOK, view)
		return
	}
	run, problem := s.newRerun(r, "redrive", sum)
	if problem != nil {
		writeProblem(w, r, *problem)
		return
	}
	run.pick = func(ctx context.Context) ([]*picked, error) { return drive.pick(ctx, run.id, run.keyed) }
	run.terms = func(list []*picked) (terms, error) { return drive.terms(list, run.id) }
	run.prepare = drive.prepare
	run.items = func(list []*picked) *rerunItems {
		return &rerunItems{pipeline: s.pipeline, list: list, check: s.mayRerun(run.org, drive.change)}
	}
	s.carryOut(w, r, run, func(view batchView, done *rerunDone) any {
		return redriveView{rerunView{Batch: view, Items: done.items, Ended: drive.ended}, drive.more}
	})
}

// redriver finds the dead letters that a call asks for.
type redriver struct {
	server  *Server
	org     protocol.OrgID
	request *redriveRequest
	byID    map[protocol.BatchID]map[int]bool // the named ones; nil: all
	pool    string                            // of the sandbox of the patch; "": it has none

	more  bool // there are more than one call takes
	ended int  // items of the batches concerned that have ended
}

func (s *Server) newRedriver(r *http.Request, request *redriveRequest) (*redriver, *Problem) {
	d := &redriver{server: s, org: principalOf(r).Org, request: request}
	var bad problems
	request.check(&bad)
	if request.Filter == nil {
		bad.add("/filter", faultMissing, "This object is required; an empty one means all dead letters.")
		return nil, bad.problem(CodeInvalidRequest)
	}
	if b := request.Filter.Batch; b != "" && !b.Valid() {
		bad.add("/filter/batch", faultChoice, "This must be the id of a batch.")
	}
	d.named(request.Filter.IDs, &bad)
	if request.Patch != nil {
		request.Patch.check(&bad)
	}
	if bad.total > 0 {
		return nil, bad.problem(CodeInvalidRequest)
	}
	if request.Patch != nil && request.Patch.Dest != nil && request.Patch.Dest.Sandbox != nil {
		id := protocol.SandboxID(*request.Patch.Dest.Sandbox)
		if p := s.sandboxMayBe(d.org, id); p != nil {
			return nil, p
		}
		d.pool = protocol.DefaultPool
		if known, ok := s.registry.Sandbox(d.org, id); ok {
			d.pool = cmp.Or(known.Pool, protocol.DefaultPool)
		}
	}
	return d, nil
}

func (d *redriver) named(ids []string, bad *problems) {
	if ids == nil {
		return
	}
	if len(ids) > maxNamed {
		bad.add("/filter/ids", faultTooMany, "A call names 100000 dead letters at most.")
		return
	}
	d.byID = map[protocol.BatchID]map[int]bool{}
	for i, name := range ids {
		id, index, ok := parseLetterID(name)
		if !ok {
			bad.add("/filter/ids/"+strconv.Itoa(i), faultChoice, "This must be the id of a dead letter: a batch, a dot and an index.")
			continue
		}
		if d.byID[id] == nil {
			d.byID[id] = map[int]bool{}
		}
		d.byID[id][index] = true
	}
}

// batches goes through the batches that are concerned.
func (d *redriver) batches(ctx context.Context) iter.Seq2[place, error] {
	only := d.request.Filter.Batch
	return func(yield func(place, error) bool) {
		switch {
		case only != "":
			yield(place{id: only}, nil)
		case d.byID != nil:
			ids := make([]protocol.BatchID, 0, len(d.byID))
			for id := range d.byID {
				ids = append(ids, id)
			}
			slices.Sort(ids)
			for _, id := range ids {
				if !yield(place{id: id}, nil) {
					return
				}
			}
		default:
			d.server.pipeline.candidates(ctx, d.org, place{})(yield)
		}
	}
}

// filter is what is asked of the items of one batch.
func (d *redriver) filter(batch protocol.BatchID) *rerunFilter {
	q := d.request.Filter
	f := &rerunFilter{class: q.Class, code: q.Code, host: q.Host}
	if d.byID != nil {
		f.named, f.indexes = true, d.byID[batch]
	}
	return f
}

// each calls take for what is picked of each batch, until it returns false or a limit is reached.
func (d *redriver) each(ctx context.Context, id protocol.BatchID, most int, seen func(*snapshot, *protocol.Receipt), take func(*snapshot, *picked) bool) error {
	p, items, passed := d.server.pipeline, 0, 0
	d.more, d.ended = false, 0
	for at, err := range d.batches(ctx) {
		if err != nil {
			return err
		}
		f := d.filter(at.id)
		now, err := p.failedOf(ctx, d.org, at.id, f)
		if err != nil {
			return err
		}
		if passed++; passed > maxBatchesPassed {
			d.more = true
			return nil
		}
		if now == nil || now.record.Upload != "" { // what a session staged is published by its session alone
			continue
		}
		if items == most {
			d.more = true
			return nil
		}
		var see func(*protocol.Receipt)
		if seen != nil {
			see = func(r *protocol.Receipt) { seen(now, r) }
		}
		k, err := p.pick(ctx, now, f, id, most-items, see)
		if err != nil {
			return err
		}
		items += k.ranges.count()
		d.more = d.more || k.more
		if !take(now, k) {
			return nil
		}
	}
	return nil
}

// pick chooses what one redrive takes. What an earlier try of it chose stays chosen, and nothing else is then: one that may have had an
// earlier try looks for it in all batches.
func (d *redriver) pick(ctx context.Context, id protocol.BatchID, keyed bool) ([]*picked, error) {
	var list, earlier []*picked
	busy := false
	err := d.each(ctx, id, limitMaxItems, nil, func(now *snapshot, k *picked) bool {
		busy = busy || k.busy
		switch {
		case len(k.ranges) == 0:
		case k.sources > 0:
			earlier = append(earlier, k)
		case len(list) == maxRedriveBatches:
			d.more = true
			return keyed
		default:
			list = append(list, k)
			d.ended += now.summary.Tally.Ended()
		}
		return len(earlier) == 0 || len(earlier) < earlier[0].sources
	})
	switch {
	case err != nil:
		return nil, err
	case len(earlier) > 0 && len(earlier) < earlier[0].sources:
		return nil, errTaken // of one of its batches, and what is left is another request
	case len(earlier) > 0:
		return earlier, nil
	case len(list) == 0 && busy:
		return nil, errRerunPending
	case len(list) == 0:
		return nil, errNothingToRerun
	}
	return list, nil
}

// terms says how the new batch is to be run.
func (d *redriver) terms(list []*picked, id protocol.BatchID) (terms, error) {
	t := terms{lane: protocol.Bulk, pool: list[0].record.Pool}
	if d.pool != "" {
		t.pool = d.pool
	}
	for _, k := range list {
		if d.pool == "" && k.record.Pool != t.pool {
			return t, errMixedPools
		}
	}
	if len(list) == 1 {
		t.rerunOf = list[0].record.Batch
	}
	err := d.request.apply(&t, d.server.pipeline.sealer, d.org, id)
	return t, err
}

// change applies the patch to an item.
func (d *redriver) change(_ *picked, item *protocol.ManifestItem, name string, bad *problems) {
	if d.request.Patch == nil {
		return
	}
	d.request.Patch.apply(item, name, bad)
	if d.pool == "" || item.Src.Type != protocol.SandboxFile {
		return
	}
	if known, ok := d.server.registry.Sandbox(d.org, item.Src.Sandbox); ok && cmp.Or(known.Pool, protocol.DefaultPool) != d.pool {
		bad.add("/patch/dest/sandbox", string(CodeMixedPools), name+": its source is in a sandbox of another pool of workers.")
	}
}

// prepare lets the sandbox of the patch come into being, where the configuration says so.
func (d *redriver) prepare(ctx context.Context) error {
	if d.pool == "" {
		return nil
	}
	_, err := d.server.registry.EnsureSandbox(ctx, d.org, protocol.SandboxID(*d.request.Patch.Dest.Sandbox))
	return err
}
