package producer

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"strconv"

	"github.com/copyfleet/copyfleet/internal/failpoint"
	"github.com/copyfleet/copyfleet/protocol"
)

// rerunView is the answer to a call that runs items again: the new batch, and how many items it has. The three numbers are those of
// the batch that they are from: nothing of it is stopped.
type rerunView struct {
	Batch      batchView `json:"batch"`
	Items      int       `json:"items"`
	NotStarted int       `json:"not_started"`
	Midway     int       `json:"stopped_midway"`
	Ended      int       `json:"already_ended"`
}

// retryBatch runs the failed items of a batch again, in a new one: receipts never change.
func (s *Server) retryBatch(w http.ResponseWriter, r *http.Request) {
	var request retryRequest
	sum, problem := s.readRequest(w, r, &request)
	var bad problems
	filter := rerunFilter{}
	if problem == nil {
		filter = request.Filter.filter(&bad)
		if request.check(&bad); bad.total > 0 {
			problem = bad.problem(CodeInvalidRequest)
		}
	}
	if problem != nil {
		writeProblem(w, r, *problem)
		return
	}
	now, ok := s.snapshotOf(w, r)
	if !ok {
		return
	}
	if now.record.Upload != "" {
		writeProblem(w, r, newProblem(CodeBatchOfUpload, "The batch publishes the upload session "+string(now.record.Upload)+"; complete the session again."))
		return
	}
	run, problem := s.newRerun(r, "retry\x00"+string(now.record.Batch), sum)
	if problem != nil {
		writeProblem(w, r, *problem)
		return
	}
	run.pick = func(ctx context.Context) ([]*picked, error) {
		k, err := s.pipeline.pick(ctx, now, &filter, run.id, limitMaxItems, nil)
		switch {
		case err != nil:
			return nil, err
		case len(k.ranges) == 0 && k.busy:
			return nil, errRerunPending
		case len(k.ranges) == 0:
			return nil, errNothingToRerun
		}
		return []*picked{k}, nil
	}
	run.terms = func([]*picked) (terms, error) {
		t, err := s.pipeline.termsOf(&now.record, run.id)
		if err == nil {
			err = request.apply(&t, s.pipeline.sealer, run.org, run.id)
		}
		return t, err
	}
	run.items = func(list []*picked) *rerunItems {
		return &rerunItems{pipeline: s.pipeline, list: list, check: s.mayRerun(run.org, nil)}
	}
	s.carryOut(w, r, run, func(view batchView, done *rerunDone) any {
		return rerunView{Batch: view, Items: done.items, Ended: now.summary.Tally.Ended()}
	})
}

// newRerun begins a request to run items again: which new batch it stands for.
func (s *Server) newRerun(r *http.Request, what string, body [sha256.Size]byte) (*rerun, *Problem) {
	key, p := idempotencyKey(r.Header)
	if p != nil {
		return nil, p
	}
	out := &rerun{org: principalOf(r).Org, id: protocol.NewBatchID(), trace: traceparent(r.Header.Get("Traceparent"))}
	if key != "" {
		out.id, out.keyed = protocol.KeyedBatchID(out.org, key), true
	}
	h := sha256.New()
	h.Write([]byte("rerun\x00" + string(out.org) + "\x00" + what + "\x00"))
	h.Write(body[:])
	out.request = [sha256.Size]byte(h.Sum(nil))
	return out, nil
}

// termsOf returns how a batch was to be run, for another one that is to be run in the same way.
func (p *Pipeline) termsOf(record *protocol.Acceptance, id protocol.BatchID) (terms, error) {
	t := terms{lane: record.Lane, pool: record.Pool, label: record.Label, options: record.Options, rerunOf: record.Batch}
	hook := record.Options.Webhook
	if hook == nil {
		return t, nil
	}
	// A secret belongs to one batch.
	target, err := p.sealer.OpenText(record.Org, record.Batch, hook.Sealed)
	if err != nil {
		return t, err //nolint:wrapcheck // says whose secret
	}
	t.options.Webhook = &protocol.Webhook{Sealed: p.sealer.SealText(record.Org, id, target), Shown: hook.Shown}
	return t, nil
}

// mayRerun returns the check of each item that is to run again: what was granted and registered when it was accepted may have been taken back
// since. change, if any, is made before.
func (s *Server) mayRerun(org protocol.OrgID, change func(of *picked, item *protocol.ManifestItem, name string, bad *problems)) func(
	of *picked, index int, item *protocol.ManifestItem, bad *problems) {
	granted := s.grantsOf(org)
	known := map[protocol.SandboxID]bool{}
	return func(of *picked, index int, item *protocol.ManifestItem, bad *problems) {
		name := letterID(of.record.Batch, index)
		if change != nil {
			change(of, item, name, bad)
		}
		for _, loc := range [2]*protocol.Location{&item.Src, &item.Dest} {
			switch loc.Type {
			case protocol.Object:
				if !granted.all && !granted.cover(loc.Bucket, loc.Key) {
					bad.add("", faultNotGranted, name+": the org has no grant for its bucket and key any more.")
				}
			case protocol.SandboxFile:
				if !known[loc.Sandbox] && s.sandboxMayBe(org, loc.Sandbox) != nil {
					bad.add("", string(CodeSandboxNotFound), name+": there is no such sandbox any more.")
					continue
				}
				known[loc.Sandbox] = true
			default:
			}
		}
	}
}

// letterID names an item as a dead letter.
func letterID(batch protocol.BatchID, index int) string {
	return string(batch) + "." + strconv.Itoa(index)
}

// carryOut accepts a rerun, whether its caller still listens or not, and answers.
func (s *Server) carryOut(w http.ResponseWriter, r *http.Request, run *rerun, show func(batchView, *rerunDone) any) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), rerunTimeout)
	defer cancel()
	done, err := s.pipeline.run(ctx, run)
	if err != nil {
		s.refuseRerun(w, r, err)
		return
	}
	view, err := s.view(ctx, &done.record)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	w.Header().Set(headerBatch, string(done.record.Batch))
	w.Header().Set("Location", batchPath(done.record.Batch))
	writeJSON(w, http.StatusAccepted, show(view, &done))
	failpoint.Hit(failpoint.AnswerWritten)
}

// refuseRerun answers for an error of a rerun.
func (s *Server) refuseRerun(w http.ResponseWriter, r *http.Request, err error) {
	if no, ok := asProblem(err); ok {
		writeProblem(w, r, *no)
		return
	}
	answer := func(code Code, message string) { writeProblem(w, r, newProblem(code, message)) }
	switch {
	case errors.Is(err, errLoading):
		s.refuseList(w, r, err)
	case errors.Is(err, errNothingToRerun):
		answer(CodeNothingToRetry, "No failed item matches that was not run again already.")
	case errors.Is(err, errRerunPending):
		answer(CodeRerunPending, "All items that match are being taken by another rerun at this moment; look at its batch, or try again in a minute.")
	case errors.Is(err, errTaken):
		answer(CodeRerunTaken, "Another rerun has taken the items; nothing of this one runs. Send it again with another Idempotency-Key for what is left.")
	case errors.Is(err, errFragmented):
		answer(CodeRerunScattered, "What was run again of this batch is too scattered to be kept; run all failed items again, or submit their report.")
	case errors.Is(err, errMixedPools):
		answer(CodeMixedPools, "The items belong to several pools of workers, and a batch runs in one; narrow the filter to one batch, or to one host.")
	case errors.Is(err, errNoManifest):
		answer(CodeNothingToRetry, "What was asked for is not kept any more; the batch cannot be run again.")
	default:
		s.refuse(w, r, err)
	}
}
